"""The client for handlers: what a user's own tests rely on."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import pytest
from flask import Flask, abort, jsonify, request
from klein import Klein
from structlog.testing import capture_logs
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from children import SOURCES
from halfsync import flag, flags
from halfsync.flags import FlagError
from halfsync.http.bounds import Bounds
from halfsync.http.listener import FLAGS
from halfsync.http.wsgi.gateway import FLAGS as WSGI_FLAGS
from halfsync.testing import AsyncClient, Client, ServiceProcess, Unanswered, flags_set

app = Flask(__name__)


@app.route("/echo", methods=["GET", "POST", "PUT"])
def echo():
    return jsonify(
        form=request.form,
        query=request.args,
        json=request.get_json(silent=True),
        agent=request.headers.get("User-Agent"),
        url=request.url,
    )


@app.get("/stream")
def stream():
    return iter(["a", "b"])


@app.get("/broken")
def broken():
    def body():
        yield "a"
        raise RuntimeError("broken")

    return body()


@app.get("/missing")
def missing():
    abort(404)


class TestClient:
    """A WSGI application in a plain test."""

    def test_get(self):
        """Status, headers, body, text and JSON."""
        response = Client(app).get("/echo?a=1", headers={"User-Agent": "me"})
        assert response.status == 200
        assert response.headers["content-type"] == "application/json"
        assert response.json() == json.loads(response.text) == json.loads(response.body)
        assert response.json()["query"] == {"a": "1"}
        assert response.json()["agent"] == "me"
        assert response.json()["url"] == "http://localhost/echo?a=1"

    def test_post(self):
        """Forms, JSON and bytes."""
        client = Client(app)
        assert client.post("/echo", data={"a": "1 2"}).json()["form"] == {"a": "1 2"}
        assert client.post("/echo", json={"a": [1]}).json()["json"] == {"a": [1]}
        plain = client.post("/echo", data=b'{"b": 2}', headers={"Content-Type": "application/json"})
        assert plain.json()["json"] == {"b": 2}
        assert client.request("PUT", "/echo").status == 200

    def test_a_stream_and_an_error(self):
        """Chunked bodies are whole; statuses are not exceptions; HEAD has no body."""
        client = Client(app)
        assert client.get("/stream").text == "ab"
        assert client.get("/missing").status == 404
        assert client.request("HEAD", "/stream").body == b""

    def test_a_broken_response(self):
        """A response that breaks off is an error of the client, as it is over the network."""
        with capture_logs(), pytest.raises(ConnectionAbortedError):
            Client(app).get("/broken")

    def test_the_bounds_are_real(self):
        """What the service refuses, the client is refused."""
        client = Client(app, bounds=Bounds(max_body=10))
        assert client.post("/echo", data=b"x" * 11).status == 413

    def test_a_klein_application_that_answers_at_once(self):
        """Klein's application can be given as it is, and its resource, too."""
        klein = Klein()
        klein.route("/")(lambda _request: "hello")
        assert Client(klein).get("/").text == "hello"
        assert Client(klein.resource()).get("/").text == "hello"


class TestAsyncClient(SynchronousTestCase):
    """A handler that waits."""

    def test_waits(self):
        """The Deferred fires when the handler answers; the plain client says that it cannot wait."""
        klein = Klein()
        wait: Deferred[str] = Deferred()

        @klein.route("/")
        async def handler(_request):
            return await wait

        response = AsyncClient(klein).get("/")
        self.assertNoResult(response)
        wait.callback("hello")
        assert self.successResultOf(response).text == "hello"

    def test_unanswered(self):
        """The plain client does not wait for ever."""
        klein = Klein()
        klein.route("/")(lambda _request: Deferred())
        with pytest.raises(Unanswered):
            Client(klein).get("/")


class TestFlagsSet:
    """Flags for the length of a test."""

    def test_restores(self):
        """The values are set as text, and are what they were afterwards, errors or not."""
        with flags_set({"web.threads": "2", "web.access_log": "false"}):
            assert (WSGI_FLAGS.threads, FLAGS.access_log) == (2, False)
        assert (WSGI_FLAGS.threads, FLAGS.access_log) == (16, True)
        with (
            pytest.raises(ValueError, match="whole number"),
            flags_set({"web.queue": "1", "web.threads": "x"}),
        ):
            pass
        assert (WSGI_FLAGS.threads, WSGI_FLAGS.queue) == (16, 64)

    @pytest.fixture
    def shop(self, monkeypatch, own_flags):
        """A program of one file, as its tests import it, beside flags of the library's."""
        monkeypatch.setitem(sys.modules, "shop_program", ModuleType("shop_program"))

        @flags.declare(flag.namespace("web"))
        class WEB:
            max_headers = flag.Int("x", default=100)

        @flags.declare(flag.namespace("shop_program"))
        class OWN:
            keep = flag.Int("x", default=1)

        return OWN

    def test_a_program_that_is_one_file(self, shop):
        """Its flags are called as on its command line, though its tests import it as a module."""
        with flags_set({"keep": "3"}):
            assert shop.keep == 3
        assert shop.keep == 1
        # No module called `web` declares it: the whole name is wanted, as on the command line.
        with (
            pytest.raises(FlagError, match=r"did you mean --web\.max_headers\?"),
            flags_set({"max_headers": "1"}),
        ):
            pass

    def test_unknown(self):
        """A flag that does not exist is an error."""
        with pytest.raises(FlagError, match=r"--web\.nothing: no such flag"), flags_set({"web.nothing": "1"}):
            pass


SERVICE = """
import sys
from flask import Flask
from halfsync import About, serve_wsgi
app = Flask(__name__)
app.get("/")(lambda: "Hello")
print("not JSON", flush=True)
sys.exit(serve_wsgi(app, About("child", version="1")))
"""


def test_service_process(tmp_path):
    """A service is started, asked, and stopped; an event that was read before is found again."""
    listen = [f"--{name}.listen=tcp:0:interface=127.0.0.1" for name in ("web", "admin")]
    command = [sys.executable, "-c", SERVICE, *listen]
    with ServiceProcess(command, environ={"PYTHONPATH": str(SOURCES), "HOME": str(tmp_path)}) as service:
        service.wait_for("service.started")
        assert service.wait_for("not JSON") == {"event": "not JSON"}
        assert service.get("web", "/") == "Hello"
        assert service.address("admin") != service.address("web")
        with pytest.raises(AssertionError, match="no TCP listener rpc"):
            service.address("rpc")
        assert service.stop() == 0


def test_service_process_that_ends_or_is_silent():
    """A service that ends without the event, or says nothing for too long, fails the test."""
    with (
        ServiceProcess([sys.executable, "-c", ""]) as service,
        pytest.raises(AssertionError, match="without x"),
    ):
        service.wait_for("x")
    silent = ServiceProcess([sys.executable, "-c", "import time; time.sleep(600)"], patience=0.2)
    with silent, pytest.raises(AssertionError, match="killed, without x"):
        silent.wait_for("x")
    assert silent.process.returncode is not None
