"""Several handlers on one listener: which gets what, where each finds its place, and what proxies add."""

from __future__ import annotations

import signal
import socket
import sys
import urllib.request

import pytest
from klein import Klein
from twisted.web.resource import Resource

import h2_tools
from children import running
from halfsync import Gateway, Mount
from halfsync.http.proxies import Proxies
from halfsync.testing import Client, InlineWorkers
from http_tools import Connection


def app(environ, start_response):
    """Tell where the application stands, and what was asked for below."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{environ['SCRIPT_NAME']}|{environ['PATH_INFO']}".encode("latin-1")]


class Tell(Resource):
    """Tells where the resource stands."""

    isLeaf = True

    def render_GET(self, request):
        return repr((request.prepath, request.postpath)).encode()


@pytest.fixture
def mount() -> Mount:
    gateway = Gateway(app, InlineWorkers())
    return Mount({"/": gateway, "/events": Tell(), "/a/b": Tell(), "/shop": gateway})


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/", "|/"),
        ("/eventsource", "|/eventsource"),
        ("/a", "|/a"),
        ("/a/bc?b=/a/b", "|/a/bc"),
        ("/events", "([b'events'], [])"),
        ("/events?last=7", "([b'events'], [])"),
        ("/%65vents/7/", "([b'events'], [b'7', b''])"),
        ("/a/b/c", "([b'a', b'b'], [b'c'])"),
        ("/shop", "/shop|"),
        ("/shop/caf%C3%A9", "/shop|/caf\u00c3\u00a9"),
    ],
)
def test_the_longest_path_of_whole_segments_decides(mount, path, told):
    """And what answers finds its own place, and the rest, as it would below nothing else."""
    answer = Client(mount).get(path)
    assert (answer.status, answer.body.decode("latin-1")) == (200, told)


def test_the_same_over_http2(mount):
    """The choice is made between connection and handler, whatever the protocol."""
    client = h2_tools.Client(resource=mount)
    for path, told in [("/x", b"|/x"), ("/events/7", b"([b'events'], [b'7'])"), ("/shop/x", b"/shop|/x")]:
        headers = [(name, path if name == ":path" else value) for name, value in h2_tools.GET]
        assert client.request(headers).body == told


def test_what_is_nowhere_is_404():
    """Without anything at the root."""
    assert Client(Mount({"/events": Tell()})).get("/other").status == 404


def test_mounts_nest_and_hosts_choose():
    """A host's mount has paths of its own; letter case, port and a last dot make no difference."""
    inner = Mount({"/deep": Gateway(app, InlineWorkers())})
    mount = Mount({"/": Tell(), "/up": inner}, hosts={"api.example.com": inner, "*.shops.example.com": inner})
    client = Client(mount)
    assert client.get("/up/deep/x").text == "/up/deep|/x"
    assert client.get("/deep/x").text == "([], [b'deep', b'x'])"
    for host in ("api.example.com", "API.Example.com:8080", "api.example.com.", "one.shops.example.com"):
        assert client.get("/deep/x", headers={"Host": host}).text == "/deep|/x", host
    for host in ("shops.example.com", "xapi.example.com", "[::1]:80", "[::1]", "com"):
        assert client.get("/deep/x", headers={"Host": host}).text == "([], [b'deep', b'x'])", host


def test_klein_below_a_path():
    """Its routes are matched below that."""
    klein = Klein()

    @klein.route("/item/<int:number>")
    def item(request, number):
        return str(number)

    client = Client(Mount({"/api": klein}))
    assert client.get("/api/item/7").text == "7"
    assert client.get("/item/7").status == 404
    assert item is not None


@pytest.mark.parametrize("path", ["events", "/events/", "//events", ""])
def test_a_path_that_is_none_is_refused(path):
    with pytest.raises(ValueError, match="is no path to mount at"):
        Mount({path: Tell()})


def test_a_bare_application_is_refused():
    """It needs threads, and the message says what gives it some."""
    with pytest.raises(TypeError, match="a Gateway"):
        Mount({"/": app})


def prefixed(trusted: str, prefix: str, resource=None) -> bytes:
    connection = Connection(app, resource=resource)
    connection.site.proxies = Proxies([trusted])
    reply = connection.send(b"GET /x HTTP/1.1\r\nHost: a\r\nX-Forwarded-Prefix: %b\r\n\r\n" % prefix.encode())
    return reply.partition(b"\r\n\r\n")[2]


PEER = "192.168.1.1"


@pytest.mark.parametrize(
    ("trusted", "prefix", "told"),
    [
        (f"{PEER}=for,prefix", "/shop", b"/shop|/x"),
        (f"{PEER}=prefix", "/a/b%20c/", b"/a/b c|/x"),
        (f"{PEER}=prefix", "/theirs, /ours", b"/ours|/x"),
        (PEER, "/shop", b"|/x"),
        ("10.0.0.7=prefix", "/shop", b"|/x"),
        (f"{PEER}=prefix", "//evil.example", b"|/x"),
        (f"{PEER}=prefix", "https://evil.example", b"|/x"),
        (f"{PEER}=prefix", "/", b"|/x"),
    ],
)
def test_the_prefix_that_a_proxy_took_off(trusted, prefix, told):
    """Believed of a proxy that is named for it and of no other; and never as another host."""
    assert prefixed(trusted, prefix).endswith(told)


def test_a_resource_and_a_gateway_below_one_see_the_prefix():
    """It stands before their own place."""
    root = Resource()
    root.putChild(b"x", Gateway(app, InlineWorkers()))
    assert prefixed(f"{PEER}=prefix", "/shop", root).endswith(b"/shop/x|")
    assert prefixed(f"{PEER}=prefix", "/shop", Tell()).endswith(b"([b'shop'], [b'x'])")


PROGRAM = """
import sys
from twisted.web.resource import Resource
from halfsync import About, EventStream, serve_wsgi

def app(environ, start_response):
    start_response("200 OK", [])
    return [b"thread"]

def beside(process):
    return {"/events": process.add(EventStream("events", reactor=process.reactor)).resource}

sys.exit(serve_wsgi(app, About("both"), beside=beside, argv=sys.argv[1:]))
"""


def test_beside_an_application_in_one_line(tmp_path):
    """A process with both: the stream of events ends at once when the process is told to stop."""
    path = tmp_path / "both.py"
    path.write_text(PROGRAM)
    flags = ["--log.format=json", "--admin.listen=", "--web.listen=tcp:0:interface=127.0.0.1"]
    with running([sys.executable, str(path), *flags]) as service:
        port = int(service.wait_for("web.listening")["address"].rpartition(":")[2].rpartition(" ")[2])
        service.wait_for("service.started")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/other", timeout=60) as response:
            assert response.read() == b"thread"
        with (
            socket.create_connection(("127.0.0.1", port), 60) as client,
            client.makefile("rb") as reader,
        ):
            client.sendall(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
            while b": welcome" not in reader.readline():
                pass
            service.signal(signal.SIGTERM)
            reader.read()
        code, _, errors = service.end()
        assert (code, errors) == (0, "")
