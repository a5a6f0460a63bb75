"""The site: bounds that are answered, deadlines on a Clock, drain on real connections."""

from __future__ import annotations

import threading
from dataclasses import fields

import pytest
from klein import Klein
from structlog.testing import capture_logs
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from h2_tools import Client
from halfsync.http.bounds import Bounds
from halfsync.http.connection import A_REQUEST, PIECES
from halfsync.http.connections import GRACE
from halfsync.http.listener import WebListener
from halfsync.http.reading_on import ReadingOn
from halfsync.testing import flags_set
from http_tools import GET, Connection, ServerCase, Turns, hello, parse, until

POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


class Waiting(Resource):
    """Answers when it is told to."""

    isLeaf = True

    def __init__(self):
        super().__init__()
        self.requests = []

    def render_GET(self, request):
        self.requests.append(request)
        return NOT_DONE_YET


def test_a_connection_knows_its_age_and_how_much_it_was_asked():
    """For whoever looks who is connected; what has not arrived whole is no request yet."""
    connection = Connection()
    assert (connection.connection.since, connection.connection.asked) == (0, 0)
    connection.clock.advance(3)
    connection.send(GET * 2)
    connection.send(GET[:-4])
    assert (connection.connection.since, connection.connection.asked) == (0, 2)
    other = connection.site.buildProtocol(None)
    other.makeConnection(StringTransport())
    assert other.since == 3
    for each in (connection.connection, other):
        each.connectionLost(Failure(ConnectionDone()))


class TestRefusals:
    """Everything that is refused is answered in plain text, and the connection closed."""

    @pytest.mark.parametrize(
        ("status", "request_bytes"),
        [
            (400, b"GET / HTTP/1.1\r\n\r\n"),
            (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
            (400, b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
            (400, b"GET /\r\n\r\n"),
            (400, b"nonsense\r\n\r\n"),
            (400, b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n"),
            (400, b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n"),
            (400, b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
            (400, b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
            (400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"),
            (400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n"),
            (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n"),
            (413, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\nExpect: 100-continue\r\n\r\n"),
            (413, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n" + b"x" * 101),
            (414, b"GET /" + b"x" * 20000),
            (414, b"GET /" + b"x" * 20000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
            (431, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 20000),
            (431, b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: %b\r\n" % (b"x" * 9000) * 2),
            (431, b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 101 + b"\r\n"),
            # Names are remembered.
            (431, b"GET / HTTP/1.1\r\nHost: a\r\n" + b"x" * 257 + b": y\r\n\r\n"),
        ],
    )
    def test_refused(self, status, request_bytes):
        """One answer, no version of anything in it, no request for the application, and no more reading."""
        connection = Connection(lambda *_: pytest.fail("served"), max_body=100)
        with capture_logs():
            reply = connection.send(request_bytes)
        assert parse(reply).status == status
        assert reply.count(b"HTTP/1.1 ") == 1
        assert b"\r\nConnection: close\r\n" in reply
        assert b"Twisted" not in reply
        assert parse(reply).headers["Date"]
        assert not connection.open
        assert connection.send(GET) == b""
        assert connection.site.counts.refused == {status: 1}
        connection.lose()

    def test_just_within(self):
        """What is exactly as large as the bound is served."""
        connection = Connection(max_body=3)
        head = b"POST / HTTP/1.1\r\nHost: a\r\n"
        assert b"200 OK" in connection.send(head + b"Content-Length: 3\r\n\r\nabc")
        assert b"200 OK" in connection.send(
            head + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
        )
        assert b"200 OK" in connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 99 + b"\r\n")

    def test_options_of_the_server(self):
        """A request for no resource is answered by the site, and the connection goes on."""
        connection = Connection(lambda *_: pytest.fail("served"))
        assert parse(connection.send(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")).status == 200
        assert connection.open

    def test_continue(self):
        """A client that asks whether to send its body is told to, before it is read."""
        connection = Connection()
        head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"
        assert connection.send(head) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert connection.send(b"x").startswith(b"HTTP/1.1 200 OK\r\n")


class TestDeadlines:
    """All of them on a Clock."""

    def test_a_trickler_is_cut(self):
        """Bytes buy no time: a head must be whole by the request timeout, a body must keep the least rate."""
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n"
        for start, seconds in ((b"GET / HTTP/1.1\r\n", 30), (head, 60)):
            connection = Connection(request_timeout=30, write_timeout=60)
            connection.send(start)
            for _ in range(seconds - 1):
                connection.clock.advance(1)
                assert connection.send(b"X") == b""
            connection.clock.advance(2)
            assert parse(connection.transport.value()).status == 408
            assert not connection.open

    @pytest.mark.parametrize("framing", [b"Content-Length: 10000000", b"Transfer-Encoding: chunked"])
    def test_a_steady_upload_may_take_its_time(self, framing):
        """It is judged by its rate, however long it takes in all."""
        connection = Connection(request_timeout=30, write_timeout=60, min_rate=1000)
        connection.send(b"POST / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % framing)
        for _ in range(200):
            connection.clock.advance(1)
            piece = b"x" * 2000
            if framing.startswith(b"T"):
                piece = b"7d0\r\n%b\r\n" % piece
            assert connection.send(piece) == b""
        connection.clock.pump([1] * 200)
        assert parse(connection.transport.value()).status == 408
        connection.lose()

    def test_an_idle_connection(self):
        """It may stay for the idle timeout, with no answer to nothing, whatever the request timeout is."""
        connection = Connection(request_timeout=5, idle_timeout=60)
        connection.send(GET)
        connection.transport.clear()
        connection.clock.pump([1] * 59)
        assert connection.open
        connection.clock.pump([1] * 2)
        assert not connection.open
        assert connection.transport.value() == b""

    def test_each_request_has_its_own_time(self):
        """The clock of a request begins with its first byte, be it in the buffer already."""
        connection = Connection(request_timeout=30, idle_timeout=60)
        connection.clock.pump([1] * 50)
        connection.send(GET + b"GET / ")
        connection.clock.pump([1] * 29)
        assert connection.send(b"HTTP/1.1\r\nHost: a\r\n\r\n").startswith(b"HTTP/1.1 200 OK\r\n")
        connection.clock.pump([1] * 50)
        connection.send(b"GET /")
        connection.clock.pump([1] * 32)
        assert parse(connection.transport.value()).status == 408

    def test_a_long_request_is_left_alone(self):
        """No deadline of arrival cuts a request that is being answered."""
        resource = Waiting()
        connection = Connection(resource=resource)
        connection.send(GET)
        connection.clock.pump([10] * 100)
        assert connection.open
        resource.requests[0].finish()
        assert connection.transport.value().startswith(b"HTTP/1.1 200 OK\r\n")

    def test_a_closed_connection_that_does_not_go(self):
        """A client that does not take the end of a connection is cut."""
        connection = Connection(idle_timeout=60)
        connection.clock.pump([1] * 60)
        assert not connection.open
        assert not connection.transport.disconnected
        connection.clock.pump([1] * 3)
        assert connection.transport.disconnected

    def test_a_deadline_that_fails(self, monkeypatch):
        """A bug in one connection's costs that connection, and no other its deadline."""
        connection = Connection(idle_timeout=4)
        others = [connection.site.buildProtocol(None) for _ in range(3)]
        for each in others:
            each.makeConnection(StringTransport(lenient=True))
        monkeypatch.setattr(others[1], "expire", lambda _now: 1 / 0)
        with capture_logs() as logs:
            connection.clock.pump([1] * 5)
        assert [each["event"] for each in logs] == ["http.expiry_failed"]
        assert all(each.transport.disconnecting or each.transport.disconnected for each in others)
        assert not connection.open

    def test_no_timer_without_connections(self):
        """An idle site has nothing to do."""
        connection = Connection()
        assert len(connection.clock.getDelayedCalls()) == 1
        connection.lose()
        assert connection.clock.getDelayedCalls() == []
        assert connection.site.connections == 0


class TestResources:
    """Resources of twisted.web and klein are served, bounded and logged the same."""

    def app(self):
        app = Klein()
        self.wait = Deferred()

        @app.route("/hello/<name>")
        def hello(request, name):
            return f"hello {name} {request.args[b'a'][0].decode()}"

        @app.route("/form", methods=["POST"])
        def form(request):
            return request.args[b"b"][0]

        @app.route("/wait")
        async def wait(_request):
            return await self.wait

        @app.route("/fail")
        async def fail(_request):
            raise RuntimeError("secret")

        return Connection(resource=app.resource())

    def test_klein(self):
        """Paths, queries and forms arrive."""
        connection = self.app()
        reply = connection.send(b"GET /hello/you?a=1 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert parse(reply).data == b"hello you 1"
        assert b"\r\nDate: " in reply
        assert b"Server" not in reply
        reply = connection.send(
            b"POST /form HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            b"Content-Length: 3\r\n\r\nb=2"
        )
        assert parse(reply).data == b"2"

    @pytest.mark.parametrize(
        ("kind", "start", "end"),
        [
            (b"application/x-www-form-urlencoded", b"b=", b""),
            (
                b"multipart/form-data; boundary=B",
                b'--B\r\nContent-Disposition: form-data; name="b"\r\n\r\n',
                b"\r\n--B--\r\n",
            ),
        ],
    )
    def test_a_large_form(self, kind, start, end):
        """It is the handler's to read: reading it here would hold up everyone."""

        class Page(Resource):
            isLeaf = True

            def render_POST(self, request):
                return b"%d %d" % (len(request.args.get(b"b", [b""])[0]), len(request.content.read()))

        for more, form in ((0, 64 * 1024 - len(start + end)), (1, 0)):
            body = start + b"x" * (64 * 1024 + more - len(start + end)) + end
            connection = Connection(resource=Page())
            head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
            reply = connection.send(head % (kind, len(body)) + body)
            assert parse(reply).data == b"%d %d" % (form, len(body))
            connection.lose()

    @pytest.mark.parametrize(
        ("status", "request_bytes"),
        [
            (400, b"POST /form HTTP/1.1\r\n\r\n"),
            (408, b"POST /form HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nb="),
            (413, b"POST /form HTTP/1.1\r\nHost: a\r\nContent-Length: 10485761\r\n\r\n"),
            (414, b"GET /form?" + b"x" * 20000),
            (431, b"POST /form HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 20000),
        ],
    )
    def test_the_same_bounds(self, status, request_bytes):
        """What is refused before an application of WSGI is refused before klein's, and logged."""
        connection = self.app()
        connection.site.access_log = True
        with capture_logs() as logs:
            reply = connection.send(request_bytes)
            connection.clock.pump([1] * 62)
        reply = reply or connection.transport.value()
        assert parse(reply).status == status
        assert [(each["event"], each["status"]) for each in logs] == [("http.refused", status)]
        method = request_bytes.partition(b" ")[0].decode()
        assert (logs[0]["method"], logs[0]["path"][:5]) == (method, "/form")
        assert parse(reply).headers["X-Request-Id"] == logs[0]["request_id"]
        assert not connection.open
        connection.lose()

    def test_no_content(self):
        """What has no body has no length, on HTTP/2 neither; the connection goes on."""

        class Page(Resource):
            isLeaf = True

            def render_GET(self, request):
                request.setResponseCode(204)
                return b"never"

        connection = Connection(resource=Page())
        for _ in range(2):
            reply = connection.send(GET)
            assert reply.startswith(b"HTTP/1.1 204 ")
            assert reply.endswith(b"\r\n\r\n")
            assert b"Content-Length" not in reply
        response = Client(resource=Page()).request()
        assert (response.status, response.ended, response.body) == (204, True, b"")
        assert "content-length" not in dict(response.headers)

    def test_a_reason_is_one_line(self):
        """What a resource lets a client say there splits no response."""

        class Page(Resource):
            isLeaf = True

            def render_GET(self, request):
                request.setResponseCode(404, b"no\r\nX: y\r\n\r\nmore")
                return b"done"

        reply = parse(Connection(resource=Page()).send(GET))
        assert (reply.status, reply.reason, reply.headers["X"]) == (404, "no X: y  more", None)

    @pytest.mark.parametrize("pieces", [1, 7])
    def test_a_body_longer_than_its_length_is_trimmed(self, pieces):
        """A client would take what is more for the next response."""

        class Page(Resource):
            isLeaf = True

            def render_GET(self, request):
                request.setHeader("Content-Length", "3")
                for _ in range(pieces):
                    request.write(b"abcdHTTP/1.1 200 OK\r\n\r\n")
                request.finish()
                return NOT_DONE_YET

        connection = Connection(resource=Page())
        for _ in range(2):
            with capture_logs() as logs:
                assert connection.send(GET).endswith(b"\r\n\r\nabc")
            assert [(each["event"], each["declared"]) for each in logs] == [("http.body_trimmed", 3)]
        assert connection.open
        response = Client(resource=Page()).request()
        assert (response.body, response.ended, response.reset) == (b"abc", True, None)

    @pytest.mark.parametrize("body", [b"", b"ab"])
    def test_a_body_shorter_than_its_length_breaks_off(self, body):
        """A client that waits for the rest would take the next response for it."""

        class Page(Resource):
            isLeaf = True

            def render_GET(self, request):
                request.setHeader("Content-Length", "3")
                request.write(body)
                request.finish()
                return NOT_DONE_YET

        connection = Connection(resource=Page())
        with capture_logs() as logs:
            connection.send(GET)
        assert [(each["event"], each["sent"]) for each in logs] == [("http.body_short", len(body))]
        assert connection.transport.disconnected
        # A HEAD has no body, whatever its length.
        head = Connection(resource=Page())
        assert b"Content-Length: 3\r\n" in head.send(b"HEAD" + GET.removeprefix(b"GET"))
        assert head.open

    @pytest.mark.parametrize("code", [205, 304])
    def test_a_body_where_there_is_none(self, code):
        """It is dropped, in whatever pieces it is written."""

        class Page(Resource):
            isLeaf = True

            def render_GET(self, request):
                request.setResponseCode(code)
                request.write(b"never")
                request.write(b"ever")
                request.finish()
                return NOT_DONE_YET

        assert Connection(resource=Page()).send(GET).endswith(b"\r\n\r\n")

    @pytest.mark.parametrize("code", [-5, 0, 100, 1000, 99999])
    def test_a_status_that_is_none_is_500(self, code):
        """A final status has three digits (RFC 9112 section 4)."""

        class Page(Resource):
            isLeaf = True

            def render_GET(self, request):
                request.setResponseCode(code)
                return b"x"

        with capture_logs() as logs:
            assert parse(Connection(resource=Page()).send(GET)).status == 500
        assert [(each["event"], each["status"]) for each in logs] == [("http.resource_failed", code)]

    def test_control_characters_become_spaces(self):
        """A field of the head says what a resource lets a client say, as far as HTTP can say it."""

        class Page(Resource):
            isLeaf = True

            def render_GET(self, request):
                request.setResponseCode(200, b"a\0b\x1fc\x7f")
                request.setHeader(b"X-A", b"a\0b\x0bc\td\xe4")
                return b"x"

        reply = Connection(resource=Page()).send(GET)
        assert reply.startswith(b"HTTP/1.1 200 a b c \r\n")
        assert b"X-A: a b c\td\xe4\r\n" in reply

    def test_a_waiting_handler_is_in_flight(self):
        """An asynchronous request is seen while it waits, without a thread."""
        connection = self.app()
        connection.send(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        (request,) = connection.site.in_flight()
        assert (request.path, request.thread) == ("/wait", None)
        self.wait.callback("done")
        assert parse(connection.transport.value()).data == b"done"
        assert connection.site.in_flight() == []

    def test_an_error_tells_the_log_only(self):
        """A bug is 500 in plain text; the traceback is in the log."""
        connection = self.app()
        with capture_logs() as logs:
            reply = connection.send(b"GET /fail HTTP/1.1\r\nHost: a\r\n\r\n")
        assert parse(reply).status == 500
        assert parse(reply).data == b"Internal Server Error\n"
        (event,) = [each for each in logs if each["event"] == "http.resource_failed"]
        assert event["failure"].check(RuntimeError)

    def test_methods(self):
        """A method that a resource does not know is 405, with those that it knows."""
        connection = Connection(resource=Waiting())
        reply = parse(connection.send(b"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n"))
        assert (reply.status, reply.headers["Allow"], reply.data) == (
            405,
            "GET, HEAD",
            b"Method Not Allowed\n",
        )

    @pytest.mark.parametrize(
        ("code", "line"),
        [(429, b"HTTP/1.1 429 Too Many Requests"), (451, b"HTTP/1.1 451 Unavailable For Legal Reasons")],
    )
    def test_a_status_has_the_reason_of_its_rfc(self, code, line):
        """twisted.web knows those of 1999, and says `Unknown Status` of what came later."""

        class Answers(Resource):
            isLeaf = True

            def render_GET(self, request):
                request.setResponseCode(code)
                return b""

        assert Connection(resource=Answers()).send(GET).partition(b"\r\n")[0] == line

    def test_a_reason_of_the_resource_stays(self):
        """Also where the status is one that nobody knows."""

        class Answers(Resource):
            isLeaf = True

            def render_GET(self, request):
                request.setResponseCode(*((429, b"Calm down") if request.uri == b"/" else (299, None)))
                return b""

        assert Connection(resource=Answers()).send(GET).startswith(b"HTTP/1.1 429 Calm down\r\n")
        assert (
            Connection(resource=Answers())
            .send(GET.replace(b" / ", b" /x "))
            .startswith(b"HTTP/1.1 299 Unknown Status\r\n")
        )


class TestAccessLog:
    """What is known of requests afterwards."""

    def test_one_event_a_request(self):
        """Method, path without query, status, size, time, peer and agent."""
        connection = Connection(access_log=True)
        with capture_logs() as logs:
            connection.send(
                b"GET /a%20b?token=1 HTTP/1.1\r\nHost: a\r\nUser-Agent: \xff[31m\r\nX-Request-Id: r1\r\n\r\n"
            )
        assert logs == [
            {
                "event": "http.request",
                "log_level": "info",
                "method": "GET",
                "path": "/a%20b",
                "status": 200,
                "bytes": 5,
                "seconds": 0.0,
                "peer": "192.168.1.1:54321",
                "request_id": "r1",
                "agent": "\\xff[31m",
            }
        ]

    @pytest.mark.parametrize(
        ("reason", "request_bytes"),
        [
            ("no Host", b"GET / HTTP/1.1\r\n\r\n"),
            ("Host is no host", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
            ("host twice", b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
            ("a header without a colon", b"GET / HTTP/1.1\r\nHost: a\r\nx\r\n\r\n"),
            ("a header's name that is none", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
            (
                "a header's name that is too long",
                b"GET / HTTP/1.1\r\nHost: a\r\n" + b"x" * 300 + b": 1\r\n\r\n",
            ),
            ("a control character, or a line end that is not CR LF", b"GET / HTTP/1.1\nHost: a\n\n"),
            ("a control character, or a line end that is not CR LF", b"GET / HTTP/1.1\r\nHost: a\0\r\n\r\n"),
            ("no request line of HTTP/1.1", b"get / HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("another version of HTTP", b"GET / HTTP/3.0\r\nHost: a\r\n\r\n"),
            ("a target that this method does not have", b"GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("CONNECT is not served", b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("no request line of HTTP/1.1", b"\r\n\r\n"),
            ("longer than max_head", b"GET /" + b"x" * 20000),
            (
                "more headers or trailers than max_headers",
                b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: 1\r\n" * 100 + b"\r\n",
            ),
            ("a body longer than max_body", POST + b"Content-Length: 10485761\r\n\r\n"),
            ("Content-Length is no length", POST + b"Content-Length: +1\r\n\r\n"),
            ("both Content-Length and Transfer-Encoding", CHUNKED[:-2] + b"Content-Length: 1\r\n\r\n"),
            ("Transfer-Encoding is not chunked alone", POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n"),
            ("Transfer-Encoding in HTTP/1.0", CHUNKED.replace(b"1.1", b"1.0", 1)),
            ("a chunk that is not framed as one", CHUNKED + b"x\r\n"),
            ("a chunk that is not framed as one", CHUNKED + b"1\r\nabc"),
            ("a trailer that is none, or is forbidden there", CHUNKED + b"0\r\nHost: b\r\n\r\n"),
            (
                "too much in extensions and trailers of chunks",
                CHUNKED + (b"1;" + b"x" * 1000 + b"\r\na\r\n") * 20,
            ),
        ],
    )
    def test_the_log_says_why_a_request_was_refused(self, reason, request_bytes):
        """The client has only the status, and the id by which its event is found."""
        connection = Connection(access_log=True)
        with capture_logs() as logs:
            reply = parse(connection.send(request_bytes))
        assert [each["reason"] for each in logs] == [reason]
        assert reply.headers["X-Request-Id"] == logs[0]["request_id"]
        assert not connection.open

    def test_off(self):
        """Without the flag there is none."""
        with capture_logs() as logs:
            Connection(access_log=False).send(GET)
        assert logs == []

    def test_refusals_and_disconnections(self):
        """What was refused has an event of its own; what the client did not wait for is marked."""
        connection = Connection(access_log=True)
        with capture_logs() as logs:
            connection.send(b"\x00\xff\r\n\r\n")
        assert [(each["event"], each["status"]) for each in logs] == [("http.refused", 400)]
        assert not {"method", "path"} & logs[0].keys()
        connection = Connection(resource=Waiting(), access_log=True)
        with capture_logs() as logs:
            connection.send(GET)
            connection.lose()
        assert [(each["event"], each["aborted"], each["status"]) for each in logs] == [
            ("http.request", True, 499)
        ]
        assert connection.site.counts.aborted == 1

    @pytest.mark.parametrize("how", ["raises", "short", "trailers", "resource", "short resource", "aborts"])
    def test_a_response_that_breaks_off_here_is_no_client_that_left(self, how):
        """Its status is 500 for those who read the log and the counts, whatever it began with."""

        def app(environ, start_response):
            length = [("Content-Length", "100")] if how == "short" else []
            start_response("200 OK", length)
            if how == "trailers":
                environ["halfsync.send_trailers"](["X-Sum"], lambda: 1 // 0)
            yield b"begun"
            if how == "raises":
                raise RuntimeError("mid")

        class Page(Resource):
            isLeaf = True

            def render_GET(self, request):
                if how == "short resource":
                    request.setHeader("Content-Length", "100")
                request.write(b"begun")
                if how == "short resource":
                    request.finish()
                elif how == "aborts":
                    request.channel.abortConnection()
                else:
                    raise RuntimeError("mid")
                return NOT_DONE_YET

        resource = Page() if how in {"resource", "short resource", "aborts"} else None
        connection = Connection(app, resource=resource, access_log=True)
        with capture_logs() as logs:
            connection.send(b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n")
        told = [(each["aborted"], each["status"]) for each in logs if each["event"] == "http.request"]
        assert told == [(True, 500)]
        assert connection.site.counts.requests == {("GET", 500): 1}
        assert connection.site.counts.aborted == 0

    def test_counts(self):
        """Requests by method and status, durations, bytes; a client cannot invent labels."""
        connection = Connection()
        for line in (b"GET", b"GET", b"FOO", b"BAR"):
            connection.send(GET.replace(b"GET", line))
        counts, accepted = connection.site.counts, connection.site.context.connections.accepted
        assert counts.requests == {("GET", 200): 2, ("other", 200): 2}
        assert sum(counts.durations) == 4
        assert (counts.bytes, accepted) == (20, 1)


class SiteTest(ServerCase):
    """Promises of sockets."""

    async def test_keep_alive(self):
        """A connection serves one request after the other; HTTP/1.0 and `Connection: close` end it."""
        self.serve()
        client = await self.connect(GET)
        await client.bytes(b"hello")
        client.transport.write(GET)
        await client.bytes(b"hello", 2)
        client.transport.write(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert b"\r\nConnection: close\r\n" in await client.closed()
        assert client.received.count(b"hello") == 3
        client = await self.connect(GET.replace(b"1.1", b"1.0"))
        assert (await client.closed()).endswith(b"hello")

    async def test_any_number_of_requests(self):
        """A connection serves as many as come."""
        self.serve(queue=10)
        client = await self.connect()
        for number in range(2000):
            client.received = b""
            client.transport.write(GET)
            await client.bytes(b"hello")
            assert client.lost is None, number
        assert self.site.counts.requests == {("GET", 200): 2000}
        assert self.site.context.connections.accepted == 1

    async def test_head(self):
        """HEAD leaves the connection in step."""
        self.serve()
        client = await self.connect(GET.replace(b"GET", b"HEAD") + GET)
        received = await client.bytes(b"hello")
        assert received.count(b"Content-Length: 5") == 2

    async def test_a_chunked_upload(self):
        """A chunked body in pieces arrives in whole."""
        self.serve(lambda e, s: (s("200 OK", []), [e["wsgi.input"].read().upper()])[1])
        client = await self.connect(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab"
        )
        client.transport.write(b"c\r\n0\r\n\r\n")
        await client.bytes(b"ABC")

    async def test_413_reaches_a_client_that_goes_on_sending(self):
        """The answer is not lost to a reset while the client still sends."""
        self.serve(max_body=1000)
        client = await self.connect(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n")
        for _ in range(50):
            client.transport.write(b"x" * 10000)
        received = await client.closed()
        assert parse(received).status == 413
        assert client.lost == "ConnectionDone"

    async def test_drain(self):
        """In-flight requests are finished, new ones answered, idle connections closed; then it returns."""
        go, begun = threading.Event(), threading.Event()
        self.addCleanup(go.set)

        def app(environ, start_response):
            if environ["PATH_INFO"] == "/slow":
                begun.set()
                go.wait(10)
            return hello(environ, start_response)

        self.serve(app)
        idle, busy, late = [await self.connect(GET) for _ in range(3)]
        for each in (idle, busy, late):
            await each.bytes(b"hello")
        busy.transport.write(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        await deferToThread(begun.wait, 10)
        drained = Deferred.fromCoroutine(self.site.drain())
        late.transport.write(GET)
        assert (await late.closed()).count(b"hello") == 2
        assert b"\r\nConnection: close\r\n" in late.received
        assert b"Connection" not in await idle.closed()
        assert not drained.called
        go.set()
        assert (await busy.closed()).count(b"hello") == 2
        await drained
        assert self.site.connections == 0

    async def test_abort(self):
        """What does not end by itself is cut."""
        self.serve(resource=Waiting())
        client = await self.connect(GET)
        await until(self.site.in_flight)
        drained = Deferred.fromCoroutine(self.site.drain())
        self.site.abort()
        await client.closed()
        assert client.lost == "ConnectionLost"
        await drained


class TestTurns:
    """No client fills a turn of the reactor."""

    def connection(self, app=hello) -> tuple[Connection, Turns]:
        connection, turns = Connection(app), Turns()
        context = connection.site.context
        context.reading_on = ReadingOn(turns, context.connections.client_of)
        return connection, turns

    def test_many_requests_in_one_piece(self):
        """16 that are answered in the reactor are read in a turn, nothing more meanwhile; none is lost."""
        connection, turns = self.connection()
        connection.send(GET * 100)
        transport, most = connection.transport, PIECES // A_REQUEST
        for number in range(1, 7):
            assert transport.value().count(b"hello") == number * most
            assert transport.producerState == "paused"
            turns.next()
        assert transport.value().count(b"hello") == 100
        assert transport.producerState == "producing"
        assert not turns.calls

    def test_requests_that_take_long(self):
        """Time is what counts then: two, and others have their turn."""

        def slow(environ, start_response):
            connection.clock.rightNow += 1
            return hello(environ, start_response)

        connection, turns = self.connection(slow)
        connection.send(GET * 5)
        assert connection.transport.value().count(b"hello") == 2
        turns.next()
        assert connection.transport.value().count(b"hello") == 4

    def test_a_body_of_many_pieces(self):
        """128 chunks are read in a turn, each of a byte or not."""

        def length(environ, start_response):
            start_response("200 OK", [])
            return [b"%d bytes" % len(environ["wsgi.input"].read())]

        connection, turns = self.connection(length)
        reply = connection.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"1\r\nx\r\n" * 1000
            + b"0\r\n\r\n"
            + GET
        )
        number, before = 0, 6000
        while not reply:
            ahead = connection.connection.parser.ahead
            assert 0 < before - ahead <= (PIECES + 1) * 6
            before = ahead
            turns.next()
            number += 1
            reply = connection.transport.value()
        assert number == 1000 // PIECES
        assert reply.count(b"HTTP/1.1 200 OK") == 2
        assert b"1000 bytes" in reply

    def test_a_client_that_has_closed_its_side(self):
        """All that it asked for before is answered, in as many turns as that takes; then it ends."""
        connection, turns = self.connection()
        connection.send(GET * 50)
        connection.connection.readConnectionLost()
        while turns.calls:
            assert connection.open
            turns.next()
        assert connection.transport.value().count(b"HTTP/1.1 200 OK") == 50
        assert b" 400 " not in connection.transport.value()

    def test_one_that_ends_within_its_turns(self):
        """Nothing more of it is read."""
        connection, turns = self.connection()
        connection.send(GET * 50)
        connection.lose()
        turns.next()
        assert connection.transport.value().count(b"hello") == PIECES // A_REQUEST
        assert connection.site.context.memory.taken == 0


def test_drain_of_an_idle_connection_has_a_grace():
    """An idle connection is closed only after the grace, in which a request may be on its way."""
    connection = Connection()
    connection.send(GET)
    Deferred.fromCoroutine(connection.site.drain())
    connection.clock.advance(GRACE - 0.1)
    assert connection.open
    connection.clock.pump([0.1] * 3)
    assert not connection.open


def test_a_request_that_is_arriving_survives_a_drain():
    """A request of which a part had come when the drain began is answered."""
    connection = Connection()
    connection.send(GET[:10])
    Deferred.fromCoroutine(connection.site.drain())
    connection.clock.pump([1] * 20)
    reply = connection.send(GET[10:])
    assert reply.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nConnection: close\r\n" in reply
    assert not connection.open


def test_bounds_are_the_flags():
    """The flags' defaults are those of the contract; a listener made from the flags has their values."""
    listener = WebListener.from_flags(Resource(), Clock())
    assert listener.factory.bounds == Bounds()
    assert (Bounds().max_body, Bounds().idle_timeout, Bounds().request_timeout) == (10485760, 60, 30)
    assert listener.factory.access_log is True
    values = {
        each.name: (each.default or 0) + number
        for number, each in enumerate(fields(Bounds), start=1)
        # The descriptors of the process decide on these.
        if each.name != "most_files"
    }
    with flags_set({f"web.{name}": str(number) for name, number in values.items()}):
        bounds = WebListener.from_flags(Resource(), Clock()).factory.bounds
    assert bounds == Bounds(**values), "each bound is a flag"
