"""The gateway: PEP 3333 to the letter, in memory where logic is tested, on sockets where a promise is."""

from __future__ import annotations

import io
import threading
from functools import partial
from wsgiref.validate import validator

import pytest
from flask import Flask
from structlog.testing import capture_logs
from twisted.internet.address import IPv6Address, UNIXAddress
from twisted.internet.threads import deferToThread
from twisted.web.resource import Resource

from halfsync.http.wsgi import flow
from halfsync.http.wsgi.gateway import Gateway
from http_tools import GET, Connection, Inline, ServerCase, hello, parse, until


def environ_of(request: bytes, **changes) -> dict:
    """Return the environ that an application gets, with its input read."""
    seen = {}

    def app(environ, start_response):
        seen.update(environ, body=environ["wsgi.input"].read())
        return hello(environ, start_response)

    connection = Connection(app)
    for name, value in changes.items():
        setattr(connection.transport, name, value)
    assert b" 200 " in connection.send(request)
    return seen


def answer(status="200 OK", headers=(), body=(b"hello",)):
    """Make an application that answers always the same."""

    def app(_environ, start_response):
        start_response(status, list(headers))
        return body

    return app


class TestEnviron:
    """What the application is told."""

    def test_the_request_line(self):
        """Path and script are decoded to one character a byte, the query is not; the method is kept."""
        environ = environ_of(
            b"PUT /a%2Fb/%C3%A9?x=%20&y HTTP/1.1\r\nHost: h:8080\r\nContent-Length: 0\r\n\r\n"
        )
        assert environ["REQUEST_METHOD"] == "PUT"
        assert environ["SCRIPT_NAME"] == ""
        assert environ["PATH_INFO"] == "/a/b/\xc3\xa9"
        assert environ["QUERY_STRING"] == "x=%20&y"
        assert environ["SERVER_PROTOCOL"] == "HTTP/1.1"
        assert environ["HTTP_HOST"] == "h:8080"
        assert environ["wsgi.url_scheme"] == "http"
        assert environ["CONTENT_LENGTH"] == "0"

    def test_no_body_no_length(self):
        """A request without a body has no CONTENT_LENGTH, and an input that is at its end."""
        environ = environ_of(GET)
        assert "CONTENT_LENGTH" not in environ
        assert environ["body"] == b""

    def test_a_body_with_a_length(self):
        """The body is there in whole."""
        environ = environ_of(
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Type: a/b\r\nContent-Length: 3\r\n\r\nabc"
        )
        assert (environ["CONTENT_LENGTH"], environ["CONTENT_TYPE"], environ["body"]) == ("3", "a/b", b"abc")
        assert "HTTP_CONTENT_LENGTH" not in environ

    def test_a_chunked_body_has_a_length(self):
        """A chunked upload looks like any other: decoded, with its length, and no sign of the coding."""
        environ = environ_of(
            b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        )
        assert (environ["CONTENT_LENGTH"], environ["body"]) == ("5", b"abcde")
        assert "HTTP_TRANSFER_ENCODING" not in environ

    def test_headers(self):
        """Repeated headers are joined, cookies by a semicolon; a name with an underscore is dropped."""
        environ = environ_of(
            b"GET / HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nX-a: 2\r\nCookie: a=1\r\nCookie: b=2\r\n"
            b"X_User: root\r\nX-Odd: \xff\r\n\r\n"
        )
        assert environ["HTTP_X_A"] == "1, 2"
        assert environ["HTTP_COOKIE"] == "a=1; b=2"
        assert environ["HTTP_X_ODD"] == "\xff"
        assert "HTTP_X_USER" not in environ

    def test_an_absolute_target(self):
        """The host of an absolute target is the one that counts."""
        environ = environ_of(b"GET http://real:81/a?b HTTP/1.1\r\nHost: other\r\n\r\n")
        assert (environ["HTTP_HOST"], environ["PATH_INFO"], environ["QUERY_STRING"]) == ("real:81", "/a", "b")
        assert environ_of(b"GET http://real HTTP/1.1\r\nHost: other\r\n\r\n")["PATH_INFO"] == "/"

    def test_addresses(self):
        """The client's address is the connection's; a unix socket has none."""
        environ = environ_of(GET)
        assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == ("192.168.1.1", "54321")
        environ = environ_of(GET, peerAddr=IPv6Address("TCP", "::1", 5), hostAddr=IPv6Address("TCP", "::", 6))
        assert (environ["REMOTE_ADDR"], environ["SERVER_NAME"], environ["SERVER_PORT"]) == (
            "::1",
            "[::]",
            "6",
        )
        environ = environ_of(GET, peerAddr=UNIXAddress(None), hostAddr=UNIXAddress(b"/run/x"))
        assert (environ["REMOTE_ADDR"], environ["SERVER_NAME"]) == ("", "localhost")
        assert "REMOTE_PORT" not in environ

    def test_below_the_root(self):
        """A gateway below the root has SCRIPT_NAME, and the rest of the path as PATH_INFO."""
        seen = []

        def app(environ, start_response):
            seen.append((environ["SCRIPT_NAME"], environ["PATH_INFO"], environ["wsgi.input"].read()))
            return hello(environ, start_response)

        root = Resource()
        root.putChild(b"the app", Gateway(app, Inline()))
        connection = Connection(resource=root)
        connection.send(b"GET /the%20app/x%2Fy/z HTTP/1.1\r\nHost: h\r\n\r\n")
        connection.send(
            b"POST /the%20app HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            b"Content-Length: 3\r\n\r\na=b"
        )
        assert seen == [("/the app", "/x/y/z", b""), ("/the app", "", b"a=b")]

    def test_errors_are_logged(self):
        """What is written to wsgi.errors is an event; percent signs in it mean nothing."""

        def app(environ, start_response):
            print("100 %s of it", file=environ["wsgi.errors"])
            environ["wsgi.errors"].writelines(["two\n", "lines\n"])
            environ["wsgi.errors"].flush()
            return hello(environ, start_response)

        with capture_logs() as logs:
            Connection(app).send(GET)
        assert [each["text"] for each in logs if each["event"] == "wsgi.errors"] == [
            "100 %s of it",
            "two",
            "lines",
        ]


class TestValidator:
    """The checker of the standard library finds nothing."""

    @pytest.mark.parametrize(
        "request_bytes",
        [
            GET,
            b"HEAD /a%20b?c HTTP/1.1\r\nHost: h\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nabc",
            b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ],
    )
    def test_clean(self, request_bytes):
        """GET, HEAD and POST, with a length and chunked."""

        def app(environ, start_response):
            body = environ["wsgi.input"].read(100)
            write = start_response("200 OK", [("Content-Type", "text/plain")])
            write(b"<")
            return [body, b">"]

        reply = Connection(validator(app)).send(request_bytes)
        assert reply.startswith(b"HTTP/1.1 200 OK\r\n")
        if not request_bytes.startswith(b"HEAD"):
            body = b"abc" if b"abc" in request_bytes else b""
            assert parse(reply).data == b"<" + body + b">"


class TestResponse:
    """What the client gets."""

    def test_one_write_of_head_and_body(self):
        """A small response reaches the transport in one piece, with Date and without a Server."""
        connection = Connection()
        writes = []
        connection.transport.write = writes.append
        connection.connection.dataReceived(GET)
        (reply,) = writes
        head, body = reply.split(b"\r\n\r\n")
        assert body == b"hello"
        assert b"\r\nDate: " in head
        assert b"Server" not in head

    @pytest.mark.parametrize(
        ("status", "headers"),
        [
            ("200 OK", [("Content-Type", "text/html"), ("Content-Length", "5")]),
            ("200 OK", [("Content-Length", "5"), ("Date", "Mon, 01 Jan 2024 00:00:00 GMT")]),
            ("200 OK", [("Content-Length", "5"), ("X-Request-Id", "its-own")]),
            ("200 OK", [("Content-Length", "5"), ("Connection", "close")]),
            ("404 Not Found", [("X-Latin", "caf\xe9")]),
            ("304 Not Modified", [("ETag", '"a"'), ("Content-Length", "5")]),
            ("205 Reset Content", []),
            ("204 No Content", [("Content-Length", "5")]),
        ],
    )
    def test_a_head_said_again_is_the_same(self, status, headers):
        """What responses share of a head, and what is put together anew, tell the client the same."""
        app, anew = answer(status, headers), answer(status, [*headers, ("X-Anew", "a" * 1024)])
        request = GET.replace(b"\r\n\r\n", b"\r\nX-Request-Id: same\r\n\r\n")
        first, second = (Connection(app).send(request) for _ in range(2))
        third = Connection(anew).send(request).replace(b"X-Anew: " + b"a" * 1024 + b"\r\n", b"")
        assert first == second == third

    def test_a_shared_head_keeps_no_length(self):
        """Two responses with the same headers, of which neither says its length, have each its own."""
        bodies = iter([b"short", b"a longer one", b""])
        connection = Connection(lambda _environ, start: start("200 OK", []) and [next(bodies)])
        lengths = [parse(connection.send(GET)).headers["Content-Length"] for _ in range(3)]
        assert lengths == ["5", "12", "0"]

    def test_a_list_gets_its_length(self):
        """A list's length is known, so it is said."""
        reply = parse(Connection(answer(body=[b"a", b"", b"bc"])).send(GET))
        assert (reply.headers["Content-Length"], reply.data) == ("3", b"abc")

    def test_a_generator_is_chunked(self):
        """What is yielded goes out at once, piece by piece; to HTTP/1.0 until the connection closes."""
        pieces = []

        def app(_environ, start_response):
            start_response("200 OK", [])
            for piece in (b"a", b"", b"bc"):
                pieces.append(connection.transport.value().count(b"\r\n"))
                yield piece

        connection = Connection(app)
        reply = connection.send(GET)
        assert parse(reply).data == b"abc"
        assert reply.endswith(b"\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n")
        assert pieces[0] < pieces[1] == pieces[2]
        reply = connection.send(GET.replace(b"1.1", b"1.0"))
        assert reply.endswith(b"\r\n\r\nabc")
        assert not connection.open

    @pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
    def test_no_body_where_there_is_none(self, status):
        """Some statuses have no body, whatever the application returns."""
        reply = Connection(answer(status, body=[b"never"])).send(GET)
        assert reply.startswith(b"HTTP/1.1 " + status.encode())
        assert reply.endswith(b"\r\n\r\n")
        assert b"Transfer-Encoding" not in reply
        assert b"Content-Length" not in reply

    def test_head_of_an_endless_body(self):
        """HEAD gets the headers of GET; a body that is never sent is not made, and it is closed."""
        closed = []

        def app(_environ, start_response):
            start_response("200 OK", [("Content-Length", "1000")])
            try:
                while True:
                    yield b"x"
            finally:
                closed.append(True)

        reply = Connection(app).send(GET.replace(b"GET", b"HEAD"))
        assert b"Content-Length: 1000\r\n" in reply
        assert reply.endswith(b"\r\n\r\n")
        assert closed == [True]

    def test_a_body_too_long_is_trimmed(self):
        """What exceeds the declared length is dropped and logged, and the next response is whole."""
        connection = Connection(answer(headers=[("Content-Length", "3")], body=iter([b"ab", b"cde", b"f"])))
        with capture_logs() as logs:
            reply = connection.send(GET)
        assert reply.endswith(b"\r\n\r\nabc")
        assert [each["event"] for each in logs] == ["wsgi.body_trimmed"]
        assert connection.open

    def test_a_body_too_short_breaks_off(self):
        """The client can tell that something is missing."""
        for body in ([b"ab"], iter([b"ab"])):
            connection = Connection(answer(headers=[("Content-Length", "3")], body=body))
            with capture_logs() as logs:
                connection.send(GET)
            assert [each["event"] for each in logs] == ["wsgi.body_short"]
            assert connection.transport.disconnected

    def test_write(self):
        """The write callable sends before the iterable does."""

        def app(_environ, start_response):
            write = start_response("200 OK", [])
            write(b"a")
            write(b"")
            write(b"b")
            return [b"c"]

        assert parse(Connection(app).send(GET)).data == b"abc"

    @pytest.mark.parametrize("body", [list, tuple, iter])
    def test_an_empty_body(self, body):
        """A response without a body says so."""
        reply = parse(Connection(answer(body=body([]))).send(GET))
        assert (reply.status, reply.headers["Content-Length"], reply.data) == (200, "0", b"")

    def test_file_wrapper(self):
        """A file is sent in whole, and closed."""
        file = io.BytesIO(b"x" * 100_000)

        def app(environ, start_response):
            start_response("200 OK", [("Content-Length", "100000")])
            return environ["wsgi.file_wrapper"](file, 10)

        assert len(parse(Connection(app).send(GET)).data) == 100_000
        assert file.closed

    def test_file_wrapper_inside_middleware(self):
        """It is an iterable of blocks to everyone else."""

        def app(environ, start_response):
            start_response("200 OK", [])
            return (block.upper() for block in environ["wsgi.file_wrapper"](io.BytesIO(b"abc"), 2))

        assert parse(Connection(app).send(GET)).data == b"ABC"

    def test_close_is_always_called(self):
        """After a whole response, after an error, and with HEAD."""
        closed = []

        class Body:
            def __init__(self, pieces):
                self.pieces = iter(pieces)

            def __iter__(self):
                return self

            def __next__(self):
                piece = next(self.pieces)
                if piece is None:
                    raise RuntimeError("broken")
                return piece

            def close(self):
                closed.append(self)

        with capture_logs():
            for pieces in ([b"a"], [None], [b"a", None]):
                Connection(answer(body=Body(pieces))).send(GET)
            Connection(answer(body=Body([b"a"]))).send(GET.replace(b"GET", b"HEAD"))
        assert len(closed) == 4


class Noting(Inline):
    """Workers that note whose each call is."""

    def __init__(self):
        self.clients = []

    def submit(self, call, label, **how):
        self.clients.append(call.share())
        super().submit(call, label, **how)


class TestShares:
    """Whose request is whose, where clients take turns."""

    @staticmethod
    def ask(rule, *keys):
        """Send a request with each key, on a connection of its own; return the answers, and the clients."""
        workers = Noting()
        gateway = Gateway(hello, workers, share_of=rule)
        request = b"GET / HTTP/1.1\r\nHost: a\r\nX-Key: %b\r\n\r\n"
        answers = [Connection(resource=gateway).send(request % key) for key in keys]
        return [int(each.split()[1]) for each in answers], workers.clients

    def test_a_rule_names_whose_it_is(self):
        """By headers and target; those of which it says None are one client."""
        rule = {"one": "first", "two": "second"}
        codes, clients = self.ask(
            lambda headers, _target: rule.get(headers["HTTP_X_KEY"]), b"one", b"two", b"x"
        )
        assert (codes, clients) == ([200] * 3, ["first", "second", None])

    def test_without_a_rule_it_is_the_address(self):
        """Of IPv4 as it is."""
        assert self.ask(None, b"one") == ([200], [bytes((192, 168, 1, 1))])

    @pytest.mark.parametrize("named", [[].pop, list], ids=["raises", "no hash"])
    def test_a_rule_that_fails_fails_its_request_alone(self, named):
        """In the reactor, with 500 and a traceback in the log: later, in a thread, it would end that one."""
        with capture_logs() as logs:
            codes, clients = self.ask(
                lambda headers, _target: named() if headers["HTTP_X_KEY"] == "bad" else "good",
                b"bad",
                b"fine",
            )
        assert (codes, clients) == ([500, 200], ["good"])
        assert [each["event"] for each in logs] == ["http.handler_failed"]


@pytest.mark.parametrize(
    "made",
    [
        lambda: hello,
        lambda environ: hello,
        lambda environ, start_response, more: hello,
        type("Maker", (), {"__call__": lambda self: hello})(),
        None,
    ],
)
def test_what_makes_an_application_is_none(made):
    """A service that would be ready, and answer every request 500, does not start."""
    with pytest.raises(TypeError, match=r"is no WSGI application: .* factory=True"):
        Gateway(made, Inline())


@pytest.mark.parametrize(
    "app",
    [
        hello,
        lambda *arguments: list(hello(*arguments)),
        lambda env, start: list(hello(env, start)),
        lambda environ, start_response, more=None: hello(environ, start_response),
        partial(lambda app, *rest: app(*rest), hello),
        type("Application", (), {"__call__": lambda self, environ, start: hello(environ, start)})(),
        type(
            "Classic", (list,), {"__init__": lambda self, environ, start: self.extend(hello(environ, start))}
        ),
        Flask("app"),
        validator(hello),
        vars,  # in C: nobody can tell
    ],
)
def test_everything_that_can_be_called_so_may_be_an_application(app):
    """However its arguments are called: they are given by position (PEP 3333)."""
    assert Gateway(app, Inline()).app is app


class TestErrors:
    """What an application does wrong."""

    def fails(self, app) -> tuple[bytes, list]:
        connection = Connection(app)
        with capture_logs() as logs:
            reply = connection.send(GET)
        (event,) = logs
        assert event["event"] == "wsgi.application_failed"
        assert event["exc_info"]
        assert event["request"] == "GET /"
        return reply, connection

    @pytest.mark.parametrize(
        ("status", "headers"),
        [
            ("200 OK", [("X-A", "a\r\nX-B: b")]),
            ("200 OK", [("X-A", "a\nb")]),
            ("200 OK", [("X-A", "a\0b")]),
            ("200 OK", [("X A", "a")]),
            ("200 OK", [("X-A:", "a")]),
            ("200 OK", [("", "a")]),
            ("200 OK", [("X-A", "\N{SNOWMAN}")]),
            ("200 OK", [("X-A", b"a")]),
            ("200 OK", [("transfer-encoding", "chunked")]),
            ("200 OK", [("Content-Length", "-1")]),
            ("200 OK", [("Content-Length", "5"), ("Content-Length", "6")]),
            ("200 OK\r\nX-A: b", []),
            ("103 Early Hints", []),
            ("OK", []),
            ("20", []),
            (200, []),
        ],
    )
    def test_bad_heads(self, status, headers):
        """A head that HTTP does not allow, or that is the server's alone, is 500 and none of it is sent."""
        reply, connection = self.fails(answer(status, headers))
        assert parse(reply).status == 500
        assert parse(reply).data == b"Internal Server Error\n"
        assert b"\r\nX-" not in reply.replace(b"\r\nX-Request-Id", b"")
        assert connection.open

    def test_before_the_first_byte(self):
        """An error is 500, with nothing of it for the client, and the connection goes on."""

        def app(environ, start_response):
            start_response("200 OK", [])
            raise RuntimeError("secret")

        reply, connection = self.fails(app)
        assert reply.startswith(b"HTTP/1.1 500 ")
        assert b"secret" not in reply
        assert connection.open

    @pytest.mark.parametrize("body", [None, ["text"], [None], 5])
    def test_no_body_of_bytes(self, body):
        """What is no iterable of bytes is 500."""
        assert self.fails(answer(body=body))[0].startswith(b"HTTP/1.1 500 ")

    @pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
    def test_no_way_out(self, error):
        """An application cannot end its thread."""

        def app(environ, start_response):
            raise error

        assert self.fails(app)[0].startswith(b"HTTP/1.1 500 ")

    def test_start_response_is_never_called(self):
        """A body without a head is 500."""
        assert self.fails(lambda *_: [b"x"])[0].startswith(b"HTTP/1.1 500 ")
        assert self.fails(lambda *_: [])[0].startswith(b"HTTP/1.1 500 ")

    def test_start_response_twice(self):
        """Without exc_info the second call is an error."""

        def app(_environ, start_response):
            start_response("200 OK", [])
            start_response("200 OK", [])

        assert self.fails(app)[0].startswith(b"HTTP/1.1 500 ")

    def test_after_the_first_byte(self):
        """A response that breaks off is never ended cleanly."""

        def app(_environ, start_response):
            start_response("200 OK", [])
            yield b"a"
            raise RuntimeError("broken")

        reply, connection = self.fails(app)
        assert reply.endswith(b"1\r\na\r\n")
        assert connection.transport.disconnected

    def test_exc_info_before_the_first_byte(self):
        """The head is replaced."""

        def app(_environ, start_response):
            start_response("200 OK", [("X-A", "a")])
            try:
                int("x")
            except ValueError as error:
                start_response("503 Later", [], (type(error), error, error.__traceback__))
            return [b"sorry"]

        reply = Connection(app).send(GET)
        assert reply.startswith(b"HTTP/1.1 503 Later\r\n")
        assert b"X-A" not in reply

    def test_exc_info_after_the_first_byte(self):
        """The error is raised again, and the response breaks off."""

        def app(_environ, start_response):
            start_response("200 OK", [])
            yield b"a"
            try:
                int("x")
            except ValueError as error:
                start_response("500 Oops", [], (type(error), error, error.__traceback__))

        assert self.fails(app)[1].transport.disconnected


class GatewayTest(ServerCase):
    """Promises of threads and sockets."""

    async def test_a_slow_upload_holds_no_thread(self):
        """A thread is taken when the last byte of the body is there."""
        self.serve(lambda e, s: (s("200 OK", []), [e["wsgi.input"].read()])[1], threads=1, queue=0)
        slow = await self.connect(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nsl")
        other = await self.connect(GET)
        await other.bytes(b"200 OK")
        await self.pool.drain()
        assert self.pool.busy == 0
        slow.transport.write(b"ow")
        assert parse(await slow.bytes(b"slow")).data == b"slow"

    async def test_queue_full(self):
        """Beyond threads and queue the reactor answers 503 at once, says when to come back, and goes on."""
        go = threading.Event()
        self.addCleanup(go.set)

        def app(environ, start_response):
            go.wait(10)
            return hello(environ, start_response)

        self.serve(app, threads=1, queue=1)
        held = [await self.connect(GET), await self.connect(GET)]
        client = await self.connect()
        await until(lambda: len(self.site.in_flight()) >= 2)
        client.transport.write(GET)
        reply = parse(await client.bytes(b"Unavailable\n"))
        assert reply.status == 503
        assert 1 <= int(reply.headers["Retry-After"]) <= 3
        go.set()
        for each in held:
            await each.bytes(b"hello")
        await self.pool.drain()
        client.transport.write(GET)
        await client.bytes(b"hello")

    async def test_in_flight_names_the_thread(self):
        """While a worker is at a request, the request and the worker point at each other."""
        begun, go = threading.Event(), threading.Event()
        self.addCleanup(go.set)

        def app(environ, start_response):
            begun.set()
            go.wait(10)
            return hello(environ, start_response)

        self.serve(app)
        client = await self.connect(b"GET /a?b HTTP/1.1\r\nHost: h\r\n\r\n")
        await deferToThread(begun.wait, 10)
        (request,) = self.site.in_flight()
        (holder,) = [each for each in self.pool.workers() if each.label]
        assert (request.method, request.path) == ("GET", "/a")
        assert request.thread == holder.thread
        assert holder.label == "GET /a"
        assert request.peer == f"127.0.0.1:{client.transport.getHost().port}"
        go.set()
        await client.bytes(b"hello")
        assert self.site.in_flight() == []

    async def test_backpressure(self):
        """A stream waits for its client: what is on the way is bounded, however long the stream is."""
        made = []

        def app(_environ, start_response):
            start_response("200 OK", [])
            for number in range(200):
                made.append(number)
                yield b"x" * 1024 * 1024

        self.serve(app, spool=0)
        client = await self.connect()
        client.keep = 10
        client.transport.pauseProducing()
        client.transport.write(GET)
        await until(lambda: made and all(each.outgoing.blocked for each in self.site.context.connections))
        # The kernel's own buffers take a few megabytes on the loopback interface.
        assert len(made) < 50
        client.transport.resumeProducing()
        await client.bytes(b"\r\n0\r\n\r\n")
        assert client.size > 200 * 1024 * 1024

    async def test_a_client_that_leaves_frees_the_thread(self):
        """The iteration ends, close is called, and the thread serves the next one."""
        closed = threading.Event()

        def app(environ, start_response):
            if environ["PATH_INFO"] == "/next":
                return hello(environ, start_response)
            start_response("200 OK", [])
            return endless()

        def endless():
            try:
                while True:
                    yield b"x" * 1024 * 1024
            finally:
                closed.set()

        self.serve(app, threads=1)
        client = await self.connect(GET)
        await client.bytes(b"x" * 1024)
        client.transport.abortConnection()
        await deferToThread(closed.wait, 10)
        other = await self.connect(b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n")
        await other.bytes(b"hello")
        assert self.site.counts.aborted == 1

    async def test_write_raises_when_the_client_left(self):
        """The write callable tells the application, which cannot go on writing for ever."""
        raised = threading.Event()

        def app(_environ, start_response):
            write = start_response("200 OK", [])
            try:
                while True:
                    write(b"x" * 1024 * 1024)
            except flow.Disconnected:
                raised.set()
                raise

        self.serve(app)
        client = await self.connect(GET)
        await client.bytes(b"x" * 1024)
        client.transport.abortConnection()
        await deferToThread(raised.wait, 10)
        assert raised.is_set()

    async def test_a_client_that_takes_nothing_is_cut(self):
        """After the write timeout the connection is aborted and the thread is free."""
        closed = threading.Event()

        def app(_environ, start_response):
            start_response("200 OK", [])
            try:
                while True:
                    yield b"x" * 1024 * 1024
            finally:
                closed.set()

        self.serve(app, write_timeout=0.2)
        client = await self.connect()
        client.transport.pauseProducing()
        client.transport.write(GET)
        await deferToThread(closed.wait, 10)
        assert closed.is_set()
        client.transport.resumeProducing()
        await client.closed()

    async def test_requests_that_wait_when_the_workers_stop(self):
        """They are cut off, not left without an answer."""
        go = threading.Event()
        self.addCleanup(go.set)

        def app(environ, start_response):
            go.wait(10)
            return hello(environ, start_response)

        self.serve(app, threads=1, queue=1)
        clients = [await self.connect(GET), await self.connect(GET)]
        await until(lambda: len(self.site.in_flight()) >= 2)
        await self.pool.stop()
        await until(lambda: any(client.lost for client in clients))
        assert [client.lost for client in clients].count("ConnectionLost") == 1

    async def test_pipelined_requests(self):
        """Requests sent at once are answered one by one, in order."""
        self.serve(lambda e, s: (s("200 OK", []), [f"<{e['PATH_INFO']}>".encode()])[1])
        client = await self.connect(b"".join(GET.replace(b" / ", b" /%d " % i) for i in range(5)))
        received = await client.bytes(b"</4>")
        assert [received.find(b"</%d>" % i) for i in range(5)] == sorted(
            received.find(b"</%d>" % i) for i in range(5)
        )
        assert received.count(b"200 OK") == 5

    async def test_an_error_in_a_stream_resets(self):
        """On the wire, too, a broken stream has no end."""

        def app(_environ, start_response):
            start_response("200 OK", [])
            yield b"begun"
            raise RuntimeError("broken")

        self.serve(app)
        client = await self.connect(GET)
        received = await client.closed()
        assert not received.endswith(b"0\r\n\r\n")
        assert client.lost == "ConnectionLost"
