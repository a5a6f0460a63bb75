"""`Expect: 100-continue` (RFC 9110 section 10.1.1): who tells a client to send its body, and who does not."""

from __future__ import annotations

import socket

import pytest
from h2.errors import ErrorCodes
from twisted.internet.threads import deferToThread
from twisted.web.resource import Resource

import h2_tools
from halfsync.http.mount import Mount
from halfsync.http.proxies import Proxies
from halfsync.http.rate import LINGER
from halfsync.http.wsgi.gateway import Gateway
from http_tools import PATIENCE, Connection, Inline, ServerCase

ASKS = b"POST /up?a=b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
H2_ASKS = [*h2_tools.POST, ("content-length", "5"), ("expect", "100-continue")]


class App:
    """An application that answers without a look at the body, and counts."""

    def __init__(self):
        self.calls = 0

    def __call__(self, environ, start_response):
        self.calls += 1
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]


def authorized(headers, target):
    """Let those send a body who say who they are."""
    return None if "HTTP_AUTHORIZATION" in headers else 401


def gateway(app, rule=authorized) -> Gateway:
    return Gateway(app, Inline(), refuse_body=rule)


def test_who_is_refused_gets_that_instead_of_100():
    """The status of the rule, no 100, no run of the application, and the end of the connection."""
    app = App()
    connection = Connection(resource=gateway(app))
    reply = connection.send(ASKS + b"\r\n")
    assert reply.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    assert b"\r\nConnection: close\r\n" in reply
    assert not connection.open
    # A client that sends it all the same, before it has read that.
    assert connection.send(b"hello" + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") == b""
    assert app.calls == 0
    assert connection.site.context.counts.refused == {401: 1}


def test_who_is_not_refused_is_told_to_send_it():
    """Once; the application runs when the body has come."""
    app = App()
    connection = Connection(resource=gateway(app))
    assert connection.send(ASKS + b"Authorization: me\r\n\r\n") == CONTINUE
    assert app.calls == 0
    assert connection.send(b"hello").endswith(b"\r\n\r\nok")
    assert connection.open


def test_the_same_over_http2():
    """The stream ends, with a reset that blames nobody for a body that never comes; the others go on."""
    app = App()
    client = h2_tools.Client(resource=gateway(app))
    refused = client.request(H2_ASKS, end=False)
    assert (refused.interim, refused.status, refused.ended, app.calls) == ([], 401, True, 0)
    client.advance(LINGER + 2)
    assert refused.reset == ErrorCodes.NO_ERROR
    told = client.request([*H2_ASKS, ("authorization", "me")], end=False)
    assert (told.interim, told.status, app.calls) == ([100], 0, 0)
    client.send(h2_tools.data(3, b"hello"))
    assert (told.status, told.body, app.calls) == (200, b"ok", 1)


def test_over_http2_a_body_that_comes_all_the_same_is_dropped():
    """A client need not wait for the answer; what it has sent is no fault."""
    client = h2_tools.Client(resource=gateway(app := App()))
    head = client.head(H2_ASKS, end=False)
    client.send(head, h2_tools.data(head.stream_id, b"hello"))
    refused = client.streams[head.stream_id]
    assert (refused.interim, refused.status, refused.reset, app.calls) == ([], 401, None, 0)
    assert client.request([*h2_tools.POST, ("authorization", "me")], b"hello").body == b"ok"


def test_who_does_not_ask_is_not_asked_about():
    """The rule is for the question: a request whose body comes anyway is the application's."""
    asked = []
    rule = lambda headers, target: asked.append(target) or 401  # noqa: E731
    connection = Connection(resource=gateway(App(), rule))
    for request in (
        ASKS.replace(b"Expect: 100-continue\r\n", b"") + b"\r\nhello",
        ASKS + b"\r\nhello",
        ASKS.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Connection: keep-alive\r\n\r\nhello",
        ASKS.replace(b"Content-Length: 5\r\n", b"") + b"\r\n",
    ):
        assert connection.send(request).endswith(b"\r\n\r\nok")
    assert asked == []


def test_the_rule_sees_headers_and_target():
    """As the environ names them; the target with its query."""
    seen = []

    def rule(headers, target):
        seen.append((headers["HTTP_HOST"], target))

    assert Connection(resource=gateway(App(), rule)).send(ASKS + b"\r\n") == CONTINUE
    assert h2_tools.Client(resource=gateway(App(), rule)).request(H2_ASKS, end=False).interim == [100]
    assert seen == [("a", "/up?a=b"), ("localhost", "/")]


@pytest.mark.parametrize("wrong", [lambda *_: 1 // 0, lambda *_: 200, lambda *_: 499, lambda *_: "413"])
def test_a_rule_that_fails_costs_one_request(wrong):
    """500, and a log line; not a connection that hangs."""
    assert b" 500 " in Connection(resource=gateway(App(), wrong)).send(ASKS + b"\r\n")
    client = h2_tools.Client(resource=gateway(App(), wrong))
    assert client.request(H2_ASKS, end=False).status == 500
    assert client.request().status == 200


def test_a_mount_asks_whoever_is_there():
    """By path and host; nothing there is 404 before the body, and a resource takes what comes."""
    by_host = Mount({"/": gateway(App(), lambda *_: 403)})
    resource = Resource()
    mount = Mount({"/up": gateway(App()), "/page": resource}, hosts={"b": by_host})
    for path, host, status in (
        (b"/up", b"a", b"401"),
        (b"/up/more", b"a", b"401"),
        (b"/elsewhere", b"a", b"404"),
        (b"/page", b"a", b"100"),
        (b"/up", b"b", b"403"),
    ):
        request = ASKS.replace(b"/up?a=b", path).replace(b"Host: a", b"Host: " + host)
        assert Connection(resource=mount).send(request + b"\r\n").split()[1] == status


def test_the_host_that_a_trusted_proxy_tells_is_asked():
    """As for the request itself."""
    mount = Mount({"/": gateway(App())}, hosts={"b": gateway(App(), lambda *_: 403)})
    for proxies, status in (["10.0.0.7"], b"401"), (["192.168.1.1"], b"403"):
        connection = Connection(resource=mount)
        connection.site.proxies = Proxies(proxies)
        assert connection.send(ASKS + b"X-Forwarded-Host: b\r\n\r\n").split()[1] == status


def test_what_is_too_large_is_refused_before_the_rule_is_asked():
    """By the length that is declared."""
    asked = []
    resource = gateway(App(), lambda *_: asked.append(1))
    assert Connection(resource=resource, max_body=4).send(ASKS + b"\r\n").startswith(b"HTTP/1.1 413 ")
    assert h2_tools.Client(resource=resource, max_body=4).request(H2_ASKS, end=False).status == 413
    assert asked == []


class RealClient(ServerCase):
    """Over a socket."""

    async def test_the_answer_is_not_lost_in_a_reset(self):
        """Who sends its body all the same reads the answer, and a proper end."""
        self.serve(resource=gateway(App()))

        def upload() -> bytes:
            with socket.create_connection(("127.0.0.1", self.port.getHost().port), PATIENCE) as client:
                client.sendall(ASKS + b"\r\n")
                reply = client.recv(65536)
                client.sendall(b"x" * 100_000)
                client.shutdown(socket.SHUT_WR)
                while piece := client.recv(65536):
                    reply += piece
                return reply

        reply = await deferToThread(upload)
        assert reply.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
        assert reply.endswith(b"\r\n\r\nUnauthorized\n")
