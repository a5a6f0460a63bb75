"""Faults that were found in HTTP, each with what is right instead."""

from __future__ import annotations

import socket
import struct
import threading
from io import BytesIO

import pytest
from structlog.testing import capture_logs
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.threads import deferToThread
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

import h2_tools
from h2_tools import PREFACE
from halfsync.http.wsgi import response
from http_tools import GET, Connection, ServerCase, hello, parse, until

RESET = struct.pack("ii", 1, 0)
"""For SO_LINGER: close with a reset."""


def leave(client: socket.socket, how: str) -> None:
    """Close a connection: in order, or with a reset."""
    if how == "reset":
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()


class LeavingClients(ServerCase):
    """What the reactor knows of a client reaches thread, application and log."""

    def client(self, data: bytes = GET) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port.getHost().port))
        client.sendall(data)
        return client

    async def gone(self, app, how, *, first=b"") -> list:
        """Have the client leave while an application is at it; return the events of the log."""
        self.serve(app, threads=1, access_log=True)
        with capture_logs() as events:
            client = self.client()
            await deferToThread(app.begun.wait, 10)
            if first:
                await deferToThread(client.recv, 1000)
            leave(client, how)
            assert await deferToThread(app.closed.wait, 10), "the application hears of it"
            await until(lambda: not (self.pool.busy or self.site.connections))
        return [each for each in events if each["event"] == "http.request"]

    async def empty_pieces(self, how, first):
        """An application that has nothing to send hears at its next piece that its client left."""
        (event,) = await self.gone(Idler(first), how, first=first)
        assert event["aborted"] is True

    def test_a_reset_before_the_response(self):
        """The kernel tells at once."""
        return Deferred.fromCoroutine(self.empty_pieces("reset", b""))

    def test_a_reset_within_the_response(self):
        """The same."""
        return Deferred.fromCoroutine(self.empty_pieces("reset", b"first"))

    def test_a_close_before_the_response(self):
        """The client answers 100 Continue with a reset."""
        return Deferred.fromCoroutine(self.empty_pieces("close", b""))

    def test_a_close_within_the_response(self):
        """Silence is taken for the end."""
        return Deferred.fromCoroutine(self.empty_pieces("close", b"first"))

    def test_a_reset_while_the_request_waits(self):
        """It is not run."""
        return Deferred.fromCoroutine(self.waiting("reset"))

    def test_a_close_while_the_request_waits(self):
        """It is not run."""
        return Deferred.fromCoroutine(self.waiting("close"))

    async def waiting(self, how):
        """A client that left while its request waited for a thread costs none, and is logged as gone."""
        app = Idler(b"")
        served = []

        def either(environ, start_response):
            if environ["PATH_INFO"] == "/second":
                served.append(environ)
                return hello(environ, start_response)
            return app(environ, start_response)

        self.serve(either, threads=1, queue=4, access_log=True)
        with capture_logs() as events:
            first = self.client()
            await deferToThread(app.begun.wait, 10)
            second = self.client(GET.replace(b"/ ", b"/second "))
            await until(lambda: self.pool.waiting)
            leave(second, how)
            leave(first, how)
            await until(lambda: not (self.pool.busy or self.pool.waiting or self.site.connections))
        logged = [each for each in events if each["event"] == "http.request"]
        assert sorted((each["path"], each["aborted"]) for each in logged) == [("/", True), ("/second", True)]
        assert served == []


class Idler:
    """An application that yields empty pieces for ever."""

    def __init__(self, first: bytes) -> None:
        self.first = first
        self.begun, self.closed = threading.Event(), threading.Event()
        self.pause = threading.Event()

    def __call__(self, _environ, start_response):
        start_response("200 OK", [])
        return self.pieces()

    def pieces(self):
        try:
            yield self.first
            while True:
                self.begun.set()
                self.pause.wait(0.01)
                yield b""
        finally:
            self.closed.set()


class Drained(ServerCase):
    """What a drain's deadline does to requests that are under way."""

    async def test_the_end_of_the_drain(self):
        """Iterables are closed, their `finally` runs, and what was cut is in the log."""
        app = Idler(b"first")
        self.serve(app, threads=1, access_log=True)
        client = await self.connect(GET)
        await client.bytes(b"first")
        with capture_logs() as events:
            self.site.abort()
            assert [(each["event"], each["aborted"]) for each in events] == [("http.request", True)]
            await self.pool.stop()
            assert app.closed.is_set()
        await client.closed()


class Ends:
    """A file whose end is not b""."""

    def __init__(self, end) -> None:
        self.answers = [b"data", end]

    def read(self, _size):
        return self.answers.pop(0)


@pytest.mark.parametrize("end", ["", None, b""])
def test_the_end_of_a_wrapped_file(end):
    """Whatever is no data is the end, also where the gateway reads the file itself."""

    def app(environ, start_response):
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](Ends(end))

    assert parse(Connection(app).send(GET)).data == b"data"


def test_a_range_of_a_wrapped_file_is_sought():
    """Werkzeug asks whether the wrapper can seek; then nothing before the range is read."""

    class File(BytesIO):
        asked = 0

        def read(self, size=-1):
            data = super().read(size)
            File.asked += len(data)
            return data

    def app(environ, start_response):
        wrapper = environ["wsgi.file_wrapper"](File(bytes(1_000_000) + b"tail"))
        assert wrapper.seekable()
        wrapper.seek(1_000_000)
        assert wrapper.tell() == 1_000_000
        start_response("206 Partial Content", [])
        return wrapper

    assert parse(Connection(app).send(GET)).data == b"tail"
    assert File.asked == 4


@pytest.mark.parametrize("cut", range(1, len(PREFACE)))
def test_the_preface_of_http2_in_two_segments(cut):
    """Wherever TCP cuts it, the connection is one of HTTP/2."""
    connection = Connection()
    assert connection.send(PREFACE[:cut]) == b""
    connection.send(PREFACE[cut:])
    assert type(connection.transport.protocol).__name__ == "H2Connection"


class Taken(Resource):
    """Gives the transport to another protocol, as autobahn does for a websocket."""

    isLeaf = True

    def render_GET(self, request):
        transport, request.channel.transport = request.channel.transport, None
        protocol = Shout()
        transport.protocol = protocol
        protocol.makeConnection(transport)
        transport.resumeProducing()
        protocol.dataReceived(b"hello")
        return NOT_DONE_YET


class Shout(Protocol):
    """Sends back what comes, in capital letters."""

    def dataReceived(self, data):
        self.transport.write(data.upper())


class TakenOver(ServerCase):
    """Transports that a handler has given to another protocol."""

    async def test_they_count_until_they_end(self):
        """30 one after the other against a limit of 20 shut nobody out, and a drain ends those there are."""
        self.serve(resource=Taken(), max_connections=20)
        for _ in range(30):
            client = await self.connect(GET)
            await client.bytes(b"HELLO")
            client.transport.write(b"you")
            await client.bytes(b"YOU")
            assert self.site.connections == 1
            client.transport.loseConnection()
            await client.closed()
            await until(lambda: not self.site.connections)
        client = await self.connect(GET)
        await client.bytes(b"HELLO")
        assert self.site.in_flight() == []
        await self.site.drain()
        await client.closed()


def test_options_of_the_server_has_a_date():
    """OPTIONS * is answered with all that a response has."""
    reply = parse(Connection().send(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"))
    assert (reply.status, reply.headers["Content-Length"]) == (200, "0")
    assert reply.headers["Date"]
    assert reply.headers["X-Request-Id"]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"HEAD / HTTP/1.1\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 20_000,
        b"HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
    ],
)
def test_a_refusal_of_head_has_no_body(request_bytes):
    """The client of HEAD takes what follows the head for the next response."""
    reply = Connection().send(request_bytes)
    assert reply.startswith(b"HTTP/1.1 4")
    assert reply.endswith(b"\r\n\r\n")
    assert b"Content-Length: " in reply


def test_a_205_has_no_content():
    """The status says that there is none, and the client has to hear where it ends (RFC 9110 15.3.6)."""

    def app(_environ, start_response):
        start_response("205 Reset Content", [("Content-Length", "5")])
        return [b"never"]

    reply = parse(Connection(app).send(GET))
    assert (reply.status, reply.headers["Content-Length"], reply.data) == (205, "0", b"")


@pytest.mark.parametrize("code", [100, 101, 102, 103, 199])
@pytest.mark.parametrize("version", ["1.1", "2"])
@pytest.mark.parametrize("kind", ["list", "generator", "resource"])
def test_a_1xx_as_final_status_is_a_500(code, version, kind):
    """It would be no answer: the client would go on waiting for one, and the connection with it."""

    def app(environ, start_response):
        start_response(f"{code} Interim", [])
        return [b"body"] if kind == "list" else (each for each in [b"bo", b"dy"])

    class Interim(Resource):
        isLeaf = True

        def render(self, request):
            request.setResponseCode(code)
            return b"body"

    resource = Interim() if kind == "resource" else None
    with capture_logs():
        if version == "2":
            response = h2_tools.Client(app, resource=resource).request()
            assert (response.interim, response.status, response.ended) == ([], 500, True)
        else:
            connection = Connection(app, resource=resource)
            reply = connection.send(GET)
            assert reply.startswith(b"HTTP/1.1 500 ")
            assert parse(reply).data == b"Internal Server Error\n"
            # And the connection goes on.
            assert connection.send(GET).startswith(b"HTTP/1.1 500 ")


def test_print_to_the_errors_is_one_event():
    """However many pieces `print` makes of a line; what has no end is logged when the request ends."""

    def app(environ, start_response):
        print("one", 2, "three", file=environ["wsgi.errors"])
        print("rest", end="", file=environ["wsgi.errors"])
        start_response("200 OK", [])
        return []

    with capture_logs() as events:
        Connection(app).send(GET)
    assert [each["text"] for each in events] == ["one 2 three", "rest"]


def test_a_connection_header_of_the_application(monkeypatch):
    """It is dropped, with one warning; `close` is heeded."""
    monkeypatch.setattr(response, "_warned", set())

    def app(environ, start_response):
        start_response("200 OK", [("Connection", environ["PATH_INFO"][1:]), ("Keep-Alive", "timeout=5")])
        return []

    connection = Connection(app)
    with capture_logs() as events:
        for _ in range(2):
            reply = parse(connection.send(GET.replace(b"/ ", b"/keep-alive ")))
            assert (reply.status, reply.headers["Connection"], reply.headers["Keep-Alive"]) == (
                200,
                None,
                None,
            )
    assert [(each["event"], each["header"]) for each in events] == [
        ("wsgi.header_dropped", "Connection"),
        ("wsgi.header_dropped", "Keep-Alive"),
    ]
    assert connection.open
    assert parse(connection.send(GET.replace(b"/ ", b"/close "))).headers["Connection"] == "close"
    assert not connection.open


class Hung(ServerCase):
    """A temporary folder that hangs."""

    async def test_others_are_served(self):
        """Whether a response or a request goes there, nobody else waits for it."""
        from halfsync.http import upload
        from halfsync.http.wsgi import flow, spool

        self.patch(flow, "SLOW", 0.01)
        hanging, go = threading.Event(), threading.Event()
        self.addCleanup(go.set)
        make = spool.TemporaryFile

        def hang(**how):
            hanging.set()
            go.wait(10)
            return make(**how)

        def app(environ, start_response):
            if environ["PATH_INFO"] != "/long":
                return hello(environ, start_response)
            start_response("200 OK", [])
            return (bytes(100_000) for _ in range(200))

        for module in (spool, upload):
            self.patch(module, "TemporaryFile", hang)
        self.serve(app, threads=2, memory=600_000)
        slow = await self.connect()
        slow.transport.pauseProducing()
        slow.transport.write(GET.replace(b"/ ", b"/long "))
        await deferToThread(hanging.wait, 10)
        hanging.clear()
        await (await self.connect(GET)).bytes(b"hello")
        upload_client = await self.connect(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n" + bytes(2_000_000)
        )
        await deferToThread(hanging.wait, 10)
        await (await self.connect(GET)).bytes(b"hello")
        go.set()
        await upload_client.bytes(b"hello")
        slow.transport.resumeProducing()
        await slow.bytes(b"\r\n0\r\n\r\n")
