"""The client of `halfsync.testing`: what it sends, by what a framework reads of it, and what it keeps."""

from __future__ import annotations

import json

import pytest
from flask import Flask, jsonify, make_response, request

from halfsync.testing import Client


@pytest.fixture
def client() -> Client:
    app = Flask(__name__)

    @app.route("/", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    def tell():
        return jsonify(
            method=request.method,
            query=request.args,
            form=request.form,
            files={
                name: [each.filename, each.content_type, each.read().decode()]
                for name, each in request.files.items()
            },
            data=request.get_data(as_text=True),
            cookies=request.cookies,
        )

    @app.get("/login")
    def login():
        answer = make_response("welcome")
        answer.set_cookie("session", "a b;c", httponly=True, path="/", samesite="Lax")
        answer.set_cookie("theme", "dark")
        return answer

    @app.get("/logout")
    def logout():
        answer = make_response("goodbye")
        answer.delete_cookie("session")
        return answer

    return Client(app)


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete"])
def test_every_method_has_a_name(client, method):
    assert getattr(client, method)("/").json()["method"] == method.upper()


def test_head_and_options_have_no_body_and_what_is_allowed(client):
    assert (client.head("/").status, client.head("/").body) == (200, b"")
    assert "PATCH" in client.options("/").headers["Allow"]


def test_a_query_is_added_to_the_path(client):
    assert client.get("/", query={"a": "b c"}).json()["query"] == {"a": "b c"}
    assert client.get("/?x=1", query={"a": "&"}).json()["query"] == {"x": "1", "a": "&"}


def test_files_go_with_a_form(client):
    """Their names may have quotation marks, their content line breaks."""
    files = {"one": ('a "b".txt', b"1\r\n--2", "text/plain"), "two": ("c", b"")}
    told = client.post("/", data={"title": "both\r\nlines"}, files=files).json()
    assert told["form"] == {"title": "both\r\nlines"}
    assert told["files"]["one"][1:] == ["text/plain", "1\r\n--2"]
    assert told["files"]["one"][0].startswith("a ")
    assert told["files"]["two"] == ["c", "application/octet-stream", ""]


def test_pieces_are_sent_chunked(client):
    pieces = (each for each in (b"one ", b"", b"two"))
    assert client.put("/", data=pieces, headers={"Content-Type": "text/plain"}).json()["data"] == "one two"


def test_cookies_go_along_until_they_are_deleted(client):
    """As a browser's do; what the test sets itself, too."""
    assert client.get("/").json()["cookies"] == {}
    client.get("/login")
    assert client.get("/").json()["cookies"] == {"session": "a b;c", "theme": "dark"}
    client.get("/logout")
    assert client.get("/").json()["cookies"] == {"theme": "dark"}
    client.cookies["own"] = "yes"
    assert client.get("/").json()["cookies"] == {"theme": "dark", "own": "yes"}


def test_early_hints_are_not_the_response():
    """What comes ahead of it is passed over."""

    def app(environ, start_response):
        environ["halfsync.early_hints"]([("Link", "</a.css>; rel=preload")])
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps("whole").encode()]

    assert Client(app).get("/").json() == "whole"
