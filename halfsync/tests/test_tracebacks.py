"""`--web.tracebacks`: why a request failed, on this machine only, and nowhere without the flag."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from types import SimpleNamespace

import httpx
import pytest

from children import PATIENCE, SOURCES
from halfsync.http.tracebacks import may_see
from halfsync.testing import ServiceProcess

PROGRAM = """
import sys

from halfsync import About, Gateway, Mount, WebListener, arrange_reactor, run, workers_from_flags

arrange_reactor("failing")

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.urls import path
from flask import Flask
from klein import Klein
from twisted.internet import reactor
from twisted.internet.task import deferLater

app = Flask(__name__)
klein = Klein()


@app.get("/")
def flask_fails():
    raise LookupError("no tea in Flask")


@app.get("/said")
def says():
    return "our own words\\n", 500


@app.get("/shown")
def shows():
    app.logger.error("failed", exc_info=LookupError("no tea"))
    return "<h2>Traceback</h2> of a framework's own page", 500


def django_fails(_request):
    try:
        raise KeyError("first")
    except KeyError as error:
        raise LookupError("no tea in Django") from error


urlpatterns = [path("django/", django_fails)]


@klein.route("/")
def klein_fails(_request):
    raise LookupError("no tea in klein")


@klein.route("/later")
async def fails_later(_request):
    await deferLater(reactor, 0.01)
    raise LookupError("no tea later")


def plain(environ, start_response):
    if environ["PATH_INFO"] == "/begun":
        start_response("200 OK", [])
        yield b"begun "
    raise LookupError("no tea \\u2615")


def parts(process):
    settings.configure(ALLOWED_HOSTS=["*"], LOGGING_CONFIG=None, ROOT_URLCONF=__name__)
    django.setup()
    workers = process.add(workers_from_flags(process.reactor))
    paths = {
        "/flask": Gateway(app, workers),
        "/django": Gateway(get_wsgi_application(), workers),
        "/klein": klein,
        "/plain": Gateway(plain, workers),
    }
    process.add(WebListener.from_flags(Mount(paths), process.reactor))


sys.exit(run(About("failing"), parts))
"""

LOCAL = "--web.listen=tcp:0:interface=127.0.0.1"
ENVIRON = {"PYTHONPATH": str(SOURCES), "PATH": "/usr/bin:/bin"}


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("failing") / "failing.py"
    path.write_text(PROGRAM)
    return path


@pytest.fixture(scope="module", params=[True, False], ids=["shown", "not shown"])
def service(program, request):
    """The program with the flag, and without."""
    flag = ["--web.tracebacks=true"] if request.param else []
    command = [sys.executable, str(program), LOCAL, *flag]
    with ServiceProcess(command, environ=ENVIRON, patience=PATIENCE) as running:
        running.wait_for("service.started")
        running.shows = request.param
        yield running


def ask(service, path: str, **headers: str) -> tuple[int, str, str]:
    """Return status, type and body of an answer."""
    host, port = service.address("web")
    request = urllib.request.Request(f"http://{host}:{port}{path}")
    for name, value in headers.items():
        request.add_header(name.replace("_", "-"), value)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return response.status, response.headers["Content-Type"], response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/flask/", "LookupError: no tea in Flask"),
        ("/django/django/", "LookupError: no tea in Django"),
        ("/klein/", "LookupError: no tea in klein"),
        ("/klein/later", "LookupError: no tea later"),
        ("/plain", "LookupError: no tea \u2615"),
    ],
)
def test_whoever_has_caught_the_error(service, path, error):
    """The page has the traceback down to the error, with its causes; without the flag nothing of it."""
    status, kind, body = ask(service, path)
    assert status == 500
    assert (error in body, "Traceback" in body, "failing.py" in body) == (service.shows,) * 3
    assert (kind == "text/plain; charset=utf-8") >= service.shows
    if service.shows and "django" in path:
        assert "KeyError: 'first'" in body
    assert ask(service, path)[2].count(error) == service.shows


def test_what_did_not_fail_stays(service):
    """A 500 that the application chose to say, and the page of a framework that shows errors itself."""
    assert ask(service, "/flask/said")[2] == "our own words\n"
    assert ask(service, "/flask/shown")[2].startswith("<h2>Traceback")
    assert ask(service, "/flask/nowhere")[0] == 404


def test_a_response_that_has_begun_is_broken_off(service):
    """As ever: the status is out, and a traceback has no place in a body."""
    with socket.create_connection(service.address("web"), PATIENCE) as client:
        client.sendall(b"GET /plain/begun HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = b""
        with suppress(ConnectionResetError):
            while data := client.recv(4096):
                received += data
    assert b"begun " in received
    assert b"Traceback" not in received


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "localhost.evil.example"},
        {"X_Forwarded_For": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
        {"Via": "1.1 tunnel"},
    ],
    ids=lambda each: ",".join(each.values()),
)
def test_by_another_name_or_a_proxy_nothing_is_shown(service, headers):
    """A page of elsewhere whose name points here, and the clients of a tunnel, get the plain answer."""
    status, _, body = ask(service, "/plain", **headers)
    assert (status, body) == (500, "Internal Server Error\n")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "shop.localhost", "127.1.2.3:80", "[::1]:80"])
def test_names_of_this_machine(service, host):
    assert ("Traceback" in ask(service, "/plain", Host=host)[2]) is service.shows


@pytest.mark.parametrize(
    ("client", "sees"),
    [("127.0.0.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("192.0.2.1", False), (None, False)],
)
def test_a_client_of_another_machine_sees_nothing(client, sees):
    """Whatever it calls this one; nor does one at a UNIX socket, where proxies ask."""
    address = SimpleNamespace(host=client) if client else SimpleNamespace(name=b"/run/web.sock")
    head = SimpleNamespace(variables={"HTTP_HOST": "localhost"})
    assert may_see(SimpleNamespace(client=address), head) is sees


def test_head_and_http2(service):
    """HEAD has no body, and over HTTP/2 the page is the same."""
    host, port = service.address("web")
    with socket.create_connection((host, port), PATIENCE) as client:
        client.sendall(b"HEAD /plain HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        head, _, body = b"".join(iter(lambda: client.recv(4096), b"")).partition(b"\r\n\r\n")
    assert (head.split(b" ")[1], body) == (b"500", b"")
    with httpx.Client(http1=False, http2=True) as client:
        answer = client.get(f"http://{host}:{port}/plain")
    assert (answer.http_version, answer.status_code) == ("HTTP/2", 500)
    assert ("no tea" in answer.text) is service.shows


@pytest.mark.parametrize("listen", ["tcp:0", "tcp:0:interface=0.0.0.0", f"{LOCAL[13:]} tcp:0"])
def test_it_does_not_start_where_others_can_connect(program, listen):
    """One line that says what to do, and exit code 2; so does one behind the PROXY protocol."""
    command = [sys.executable, str(program), f"--web.listen={listen}", "--web.tracebacks=true"]
    done = subprocess.run(command, env=ENVIRON, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert re.search(r"--web\.tracebacks: 'tcp:0.*is open to other machines; leave it out, or add", line)
