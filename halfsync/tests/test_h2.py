"""HTTP/2 in memory: requests, refusals, flow control, deadlines and drain, on a Clock."""

from __future__ import annotations

import gc
import weakref

import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import (
    ContinuationFrame,
    GoAwayFrame,
    HeadersFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from klein import Klein
from structlog.testing import capture_logs
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from h2_tools import GET, POST, PREFACE, Client, Transport, data
from halfsync.http.connections import GRACE
from halfsync.http.h2.response import A_STREAM, BUFFER
from halfsync.http.wsgi.gateway import Gateway
from halfsync.workers.pool import Busy
from http_tools import GET as HTTP_GET
from http_tools import Connection, Inline, hello

NO_LAST_STREAM = 2**31 - 1


class Waiting(Resource):
    """Answers when it is told to."""

    isLeaf = True

    def __init__(self):
        super().__init__()
        self.requests = []

    def render(self, request):
        self.requests.append(request)
        return NOT_DONE_YET


class Endless:
    """A push producer that writes whenever it may."""

    def __init__(self, request):
        self.request = request
        self.paused = self.stopped = False
        request.registerProducer(self, True)  # noqa: FBT003

    def run(self):
        while not self.paused and not self.stopped:
            self.request.write(b"x" * 10_000)

    def pauseProducing(self):
        self.paused = True

    def resumeProducing(self):
        self.paused = False
        self.run()

    def stopProducing(self):
        self.stopped = True


class TestRequests:
    """What arrives, and what is answered."""

    def test_hello(self):
        """A whole response is one frame of headers and one of data, which ends it."""
        client = Client()
        response = client.request()
        assert (response.status, response.body, response.frames, response.ended) == (200, b"hello", 1, True)
        names = [name for name, _ in response.headers]
        assert names[:3] == ["content-type", "content-length", "date"]
        assert client.request().status == 200
        assert client.site.counts.requests == {("GET", 200): 2}
        assert client.site.context.connections.accepted == 1
        assert client.site.in_flight() == []
        assert client.server.asked == 2

    def test_its_age_is_that_of_the_connection(self):
        """Not that of the agreement on HTTP/2."""
        client = Client()
        client.clock.advance(3)
        transport = Transport(lenient=True)
        channel = client.site.buildProtocol(None)
        channel.makeConnection(transport)
        client.clock.advance(1)
        channel.handshakeCompleted()
        assert (transport.protocol.since, transport.protocol.asked) == (3, 0)
        transport.protocol.connectionLost(Failure(ConnectionDone()))

    def test_the_environ(self):
        """The authority is the host, cookies are one header, the length of a body is known."""
        seen = {}

        def app(environ, start_response):
            seen.update(environ, body=environ["wsgi.input"].read())
            return hello(environ, start_response)

        client = Client(app)
        headers = [(":path", "/a%20b?c=d"), ("cookie", "a=1"), ("cookie", "b=2"), ("x-odd", "y")]
        client.request([*POST[:2], headers[0], (":authority", "example.com:8443"), *headers[1:]], b"body")
        expected = {
            "SERVER_PROTOCOL": "HTTP/2",
            "REQUEST_METHOD": "POST",
            "PATH_INFO": "/a b",
            "QUERY_STRING": "c=d",
            "HTTP_HOST": "example.com:8443",
            "HTTP_COOKIE": "a=1; b=2",
            "HTTP_X_ODD": "y",
            "CONTENT_LENGTH": "4",
            "body": b"body",
        }
        assert {name: seen.get(name) for name in expected} == expected
        seen.clear()
        client.request()
        assert "CONTENT_LENGTH" not in seen
        for host in ("only-host", "[::1]:8443"):
            client.request([*GET[:3], ("host", host)])
            assert seen["HTTP_HOST"] == host

    @pytest.mark.parametrize(
        ("method", "status"), [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Not Modified")]
    )
    def test_no_body(self, method, status):
        """What can have no body ends with its headers."""

        def app(_environ, start_response):
            start_response(status, [])
            return [b"never"]

        response = Client(app).request([(":method", method), *GET[1:]])
        assert (response.status, response.frames, response.ended) == (int(status[:3]), 0, True)

    def test_trailers(self):
        """What follows the body ends the request; it has no pseudo-headers."""
        client = Client(lambda e, s: (s("200 OK", []), [e["wsgi.input"].read()])[1])
        head = client.head(POST, end=False)
        trailers = client.head([("x-sum", "1")], number=head.stream_id)
        client.send(head, data(head.stream_id, b"body", end=False), trailers)
        assert client.streams[head.stream_id].body == b"body"
        head = client.head(POST, end=False)
        client.send(head, client.head([(":path", "/other")], number=head.stream_id))
        assert client.streams[head.stream_id].reset == ErrorCodes.PROTOCOL_ERROR

    def test_continue(self):
        """A client that asks whether to send its body is told to; not when it would be too large."""
        client = Client(max_body=10)
        headers = [*POST, ("expect", "100-continue")]
        response = client.request([*headers, ("content-length", "10")], end=False)
        assert (response.interim, response.status) == ([100], 0)
        response = client.request([*headers, ("content-length", "11")], end=False)
        assert (response.interim, response.status) == ([], 413)

    def test_klein(self):
        """Resources get paths, queries and forms; what they say of the connection stays here."""
        app = Klein()

        @app.route("/form", methods=["POST"])
        def form(request):
            request.setHeader("Connection", "close")
            request.setHeader("X-Own", " padded ")
            return request.args[b"a"][0] + request.args[b"b"][0] + request.getCookie(b"c")

        client = Client(resource=app.resource())
        content = ("content-type", "application/x-www-form-urlencoded")
        headers = [*POST[:2], (":path", "/form?a=1"), POST[3], content, ("cookie", "c=3")]
        response = client.request(headers, b"b=2")
        assert (response.status, response.body) == (200, b"123")
        sent = dict(response.headers)
        assert sent["x-own"] == "padded"
        assert sent.keys() & {"connection", "transfer-encoding"} == set()
        assert "date" in sent
        assert client.request([GET[0], GET[1], (":path", "/form"), GET[3]]).status == 405

    def test_other_methods(self):
        """CONNECT has no path and is not for us; `*` is."""
        client = Client(lambda *_: pytest.fail("served"))
        assert client.request([(":method", "CONNECT"), (":authority", "example.com:443")]).status == 501
        headers = [(":method", "OPTIONS"), GET[1], (":path", "*"), GET[3]]
        assert client.request(headers).status == 200

    def test_streams_take_turns(self):
        """A long response does not hold up another."""
        resource = Waiting()
        client = Client(resource=resource)
        first, second = client.request(), client.request()
        for request in resource.requests:
            request.write(b"x" * 30_000)
        client.frames.clear()
        client.receive()
        numbers = [frame.stream_id for frame in client.frames if not isinstance(frame, HeadersFrame)]
        assert numbers[:4] == [1, 3, 1, 3]
        assert len(client.site.in_flight()) == 2
        for request in resource.requests:
            request.finish()
        client.receive()
        assert first.ended
        assert second.ended

    def test_a_failure_in_midstream(self):
        """A response that breaks off is reset, and the connection goes on."""

        def app(environ, start_response):
            if environ["PATH_INFO"] != "/fail":
                return hello(environ, start_response)
            start_response("200 OK", [])
            return failing()

        def failing():
            yield b"begun"
            raise RuntimeError("mid")

        client = Client(app, access_log=True)
        with capture_logs() as logs:
            response = client.request([*GET[:2], (":path", "/fail"), GET[3]])
        assert (response.ended, response.reset) == (False, ErrorCodes.INTERNAL_ERROR)
        assert [(each["event"], each.get("status")) for each in logs] == [
            ("wsgi.application_failed", None),
            ("http.request", 500),
        ]
        assert client.request().status == 200
        assert client.site.counts.aborted == 0
        assert client.site.counts.requests == {("GET", 500): 1, ("GET", 200): 1}

    @pytest.mark.parametrize(
        ("declared", "body", "reset"), [("4", b"hell", None), ("9", b"", ErrorCodes.INTERNAL_ERROR)]
    )
    def test_another_length_than_declared_by_the_application(self, declared, body, reset):
        """What is too long is trimmed; what is too short is reset, so that the client can tell."""
        client = Client(lambda e, s: (s("200 OK", [("Content-Length", declared)]), [b"hello"])[1])
        with capture_logs():
            response = client.request()
        assert (response.reset, response.ended) == (reset, reset is None)
        if not reset:
            assert response.body == body

    def test_no_thread_is_free(self):
        """The answer is 503 with the time to come back, as on HTTP/1.1, and the connection goes on."""

        class Full(Inline):
            full = True

            def submit(self, call, label, **how):
                if self.full:
                    raise Busy
                super().submit(call, label, **how)

        workers = Full()
        client = Client(resource=Gateway(hello, workers))
        response = client.request()
        assert (response.status, response.ended) == (503, True)
        assert ("retry-after", "1") in response.headers
        workers.full = False
        assert client.request().status == 200

    def test_any_number_of_requests(self):
        """A connection serves as many as come, and keeps nothing of them."""
        client = Client()
        for _ in range(2500):
            assert client.request().body == b"hello"
        assert client.open
        assert client.server._streams == {}
        assert client.site.counts.requests == {("GET", 200): 2500}

    def test_a_resource_that_fails(self):
        """Before its first byte 500, afterwards a reset."""

        class Failing(Resource):
            isLeaf = True

            def render_GET(self, request):
                if request.path == b"/late":
                    request.write(b"begun")
                raise RuntimeError("own")

        client = Client(resource=Failing())
        with capture_logs():
            assert client.request().status == 500
            late = client.request([*GET[:2], (":path", "/late"), GET[3]])
        assert (late.ended, late.reset) == (False, ErrorCodes.INTERNAL_ERROR)

    def test_an_interim_status_as_the_final_one(self):
        """The client is not left waiting."""
        client = Client(lambda e, s: (s("103 Early Hints", []), [])[1])
        with capture_logs():
            assert client.request().status == 500
        assert client.server._streams == {}

    def test_the_log(self):
        """An event a request; what the client has reset is marked."""
        resource = Waiting()
        client = Client(resource=resource, access_log=True)
        with capture_logs() as logs:
            client.request()
            resource.requests[0].finish()
            client.request()
            client.send(RstStreamFrame(3, ErrorCodes.CANCEL))
        assert [(each["event"], each.get("aborted", False)) for each in logs] == [
            ("http.request", False),
            ("http.request", True),
        ]
        assert resource.requests[1]._disconnected

    def test_it_is_offered(self):
        """Over TLS, ahead of HTTP/1.1 (ALPN)."""
        assert Connection().site.acceptableProtocols() == [b"h2", b"http/1.1"]

    def test_prior_knowledge(self):
        """A connection without TLS may begin as HTTP/2, and only begin."""
        connection = Connection()
        assert not connection.send(PREFACE + SettingsFrame(0).serialize()).startswith(b"HTTP")
        assert type(connection.transport.protocol).__name__ == "H2Connection"
        assert connection.site.connections == connection.site.context.connections.accepted == 1
        connection = Connection()
        connection.send(HTTP_GET)
        with capture_logs():
            assert connection.send(PREFACE).startswith(b"HTTP/1.1 ")


class TestRefusals:
    """A request that is refused costs its stream, never the connection."""

    @pytest.mark.parametrize(
        "headers",
        [
            GET[1:],
            GET[:1] + GET[2:],
            GET[:2] + GET[3:],
            [GET[0], *GET],
            [*GET, GET[2]],
            [*GET, (":status", "200")],
            [*GET, (":protocol", "websocket")],
            [("accept", "*/*"), *GET],
            [*GET[:3], (":authority", "user@host")],
            [*GET[:3], (":authority", "a b")],
            [*GET, ("host", "other")],
            [*GET, ("host", "localhost"), ("host", "localhost")],
            [*GET[:3], ("host", "a"), ("host", "b")],
            [*GET[:2], (":path", ""), GET[3]],
            [*GET[:2], (":path", "no-slash"), GET[3]],
            [*GET[:2], (":path", "*"), GET[3]],
            [*GET[:2], (":path", "/a b"), GET[3]],
            [*GET[:2], (":path", "/a\r\nX: y"), GET[3]],
            [GET[0], (":scheme", "ftp"), *GET[2:]],
            [(":method", "GE T"), *GET[1:]],
            [(":method", "get"), *GET[1:]],
            [*GET[:2], (":path", "/#part"), GET[3]],
            [*GET[:2], (":path", "/\xff"), GET[3]],
            [*GET[:3], (":authority", "a:b")],
            [*GET[:3], (":authority", "a,b")],
            [*GET, ("content-type", "a/b"), ("content-type", "c/d")],
            [*GET, ("content_length", "0")],
            [*GET, ("content-length", "0"), ("content-length", "0")],
            [*GET, ("content-length", "0" * 19)],
            [(":method", ""), *GET[1:]],
            [(":method", "CONNECT"), *GET[1:]],
            [(":method", "CONNECT")],
            [*GET, ("", "empty")],
            [*GET, ("Upper", "x")],
            [*GET, ("with space", "x")],
            [*GET, ("colon:", "x")],
            [*GET[:3], (":authority", "%zz")],
            [*GET[:3], (":authority", "[g]")],
            [*GET, ("x", "a\r\nb: c")],
            [*GET, ("x", "a\0b")],
            [*GET, ("x", " padded")],
            [*GET, ("connection", "keep-alive")],
            [*GET, ("transfer-encoding", "chunked")],
            [*GET, ("upgrade", "h2c")],
            [*GET, ("te", "gzip")],
            [*GET, ("content-length", "5")],
        ],
    )
    def test_malformed(self, headers):
        """What RFC 9113 calls malformed is reset, and never served."""
        client = Client(lambda e, s: hello(e, s) if e["PATH_INFO"] == "/fine" else pytest.fail("served"))
        response = client.request(headers)
        assert (response.status, response.reset) == (0, ErrorCodes.PROTOCOL_ERROR)
        assert client.request([*GET[:2], (":path", "/fine"), GET[3]]).status == 200
        assert client.goaways == []

    @pytest.mark.parametrize("authority", [[], [(":authority", "")]])
    def test_without_authority(self, authority):
        """A request that does not say which host it asks is answered 400, as on HTTP/1.1."""
        client = Client(lambda *_: pytest.fail("served"))
        response = client.request([*GET[:3], *authority])
        assert (response.status, response.ended, response.reset) == (400, True, None)

    @pytest.mark.parametrize(
        ("status", "headers"),
        [
            (413, [*POST, ("content-length", "101")]),
            (414, [*GET[:2], (":path", "/" + "x" * 17_000), GET[3]]),
            (431, [*GET, ("x", "y" * 17_000)]),
            (431, [*GET, *[(f"x{number}", "y") for number in range(101)]]),
            (431, [*GET, ("x" * 257, "y")]),
        ],
    )
    def test_refused(self, status, headers):
        """The answer is as on HTTP/1.1."""
        client = Client(lambda *_: pytest.fail("served"), max_body=100)
        block = client.encoder.encode(headers)
        head = HeadersFrame(101, block[:16_000])
        rest = ContinuationFrame(101, block[16_000:])
        rest.flags.add("END_HEADERS")
        client.send(head, rest)
        response = client.streams[101]
        assert (response.status, response.ended, response.reset) == (status, True, None)
        assert client.site.counts.refused == {status: 1}
        # What is still sent is dropped, and the rest not wanted.
        client.send(data(101, b"x" * 10, end=False))
        client.advance(3)
        assert response.reset == ErrorCodes.NO_ERROR
        client.send(data(101, b"x" * 10))
        assert client.open

    def test_a_body_that_grows_too_large(self):
        """It is counted as it comes; a client that ends in order needs no reset."""
        client = Client(lambda *_: pytest.fail("served"), max_body=100)
        response = client.request(POST, b"x" * 101, end=False)
        assert (response.status, response.ended, response.reset) == (413, True, None)
        client.send(data(1, b"", end=True))
        client.advance(3)
        assert response.reset is None
        assert client.server._streams == {}

    @pytest.mark.parametrize("body", [b"abcd", b"abcdef"])
    def test_another_length_than_declared(self, body):
        """It is an error of the stream."""
        client = Client(lambda e, s: hello(e, s) if e["REQUEST_METHOD"] == "GET" else pytest.fail("served"))
        assert client.request([*POST, ("content-length", "5")], body).reset == ErrorCodes.PROTOCOL_ERROR
        assert client.request().status == 200

    def test_just_within(self):
        """What is exactly as large as the bound is served."""
        client = Client(max_body=3)
        assert client.request(POST, b"abc").status == 200
        assert client.request([*GET, *[(f"x{number}", "y") for number in range(99)]]).status == 200


class TestFlowControl:
    """Both ways."""

    def test_uploads(self):
        """A window that was used is opened again, the stream's and the connection's."""
        client = Client(lambda e, s: (s("200 OK", []), [b"%d" % len(e["wsgi.input"].read())])[1])
        response = client.request(POST, end=False)
        for _ in range(100):
            client.send(data(1, b"x" * 16_000, end=False))
        client.send(data(1, b""))
        assert response.body == b"1600000"
        opened = {0: 0, 1: 0}
        for frame in client.frames:
            if isinstance(frame, WindowUpdateFrame):
                opened[frame.stream_id] += frame.window_increment
        assert opened[1] + 256 * 1024 >= 1600000
        assert opened[0] + 65535 >= 1600000

    def test_downloads(self):
        """No more is sent than the client's windows allow; the rest waits for them."""
        client = Client(lambda e, s: (s("200 OK", []), [b"x" * 200_000])[1])
        response = client.request()
        assert len(response.body) == 65535
        client.send(WindowUpdateFrame(1, 100_000))
        assert len(response.body) == 65535
        client.send(WindowUpdateFrame(0, 1_000_000))
        assert len(response.body) == 165535
        client.send(SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 100_000}))
        assert len(response.body) == 200_000
        assert response.ended

    def test_a_producer(self):
        """Whoever makes a response is paused while the window is shut, and told when nobody wants it."""
        resource = Waiting()
        client = Client(resource=resource)
        response = client.request()
        producer = Endless(resource.requests[0])
        producer.run()
        client.receive()
        assert producer.paused
        assert len(response.body) == 65535
        stream = client.server._streams[1]
        assert len(stream._buffer) < BUFFER + 10_000
        client.send(WindowUpdateFrame(1, 50_000), WindowUpdateFrame(0, 50_000))
        assert len(response.body) == 115_535
        assert producer.paused
        client.send(RstStreamFrame(1, ErrorCodes.CANCEL))
        assert producer.stopped
        assert client.server._streams == {}

    def test_a_full_transport(self):
        """Nothing is read or sent while the client does not take what there is."""
        resource = Waiting()
        client = Client(resource=resource, write_timeout=60)
        response = client.request()
        client.server.pauseProducing()
        assert client.transport.producerState == "paused"
        resource.requests[0].write(b"x" * 1000)
        resource.requests[0].finish()
        client.receive()
        assert response.status == 0
        client.server.resumeProducing()
        client.receive()
        assert response.ended
        client.server.pauseProducing()
        client.advance(62)
        assert not client.open

    def test_shut_windows(self):
        """What streams keep for a client that opens no window is bounded, and the rest accounted for."""
        body = bytes(256 * 1024)
        client = Client(lambda e, s: (s("200 OK", []), [body])[1], spool=0)
        client.send(SettingsFrame(0, {SettingsFrame.INITIAL_WINDOW_SIZE: 0}))
        for _ in range(100):
            client.request()
        kept = sum(len(stream._buffer) for stream in client.server._streams.values())
        assert kept <= 100 * BUFFER
        taken = client.site.context.memory.taken - client.server.session.kept
        assert taken == 100 * (len(body) + A_STREAM)
        client.lose()
        assert client.site.context.memory.taken == 0

    def test_a_stalled_stream(self):
        """A window that does not open ends its stream after the write timeout, and no other."""
        resource = Waiting()
        client = Client(resource=resource, write_timeout=60)
        response = client.request()
        producer = Endless(resource.requests[0])
        producer.run()
        client.receive()
        client.request()
        client.advance(59)
        assert response.reset is None
        client.advance(3)
        assert response.reset == ErrorCodes.CANCEL
        assert producer.stopped
        assert client.open
        assert [each.path for each in client.site.in_flight()] == ["/"]

    def test_a_slow_stream(self):
        """One that is taken, though slowly, is not stalled; nor is one that waits for the application."""
        resource = Waiting()
        client = Client(resource=resource, write_timeout=60)
        response = client.request()
        Endless(resource.requests[0]).run()
        client.receive()
        for _ in range(10):
            client.advance(30)
            client.send(WindowUpdateFrame(0, 100_000), WindowUpdateFrame(1, 100_000))
        assert response.reset is None
        waiting = client.request()
        client.advance(130)
        assert (response.reset, waiting.reset) == (ErrorCodes.CANCEL, None)


class TestDeadlines:
    """All of them on a Clock."""

    def test_a_request_that_trickles(self):
        """It is refused when its rate is judged; the connection goes on."""
        client = Client(request_timeout=30, write_timeout=60)
        response = client.request(POST, end=False)
        for _ in range(59):
            client.advance(1)
            client.send(data(1, b"x", end=False))
        assert response.status == 0
        client.advance(2)
        assert response.status == 408
        assert client.request().status == 200

    def test_an_idle_connection(self):
        """It may stay for the idle timeout, whatever frames come; then it is closed in order."""
        client = Client(idle_timeout=60)
        client.request()
        for _ in range(59):
            client.advance(1)
            client.send(SettingsFrame(0))
        assert client.open
        client.advance(2)
        assert not client.open
        assert client.goaways == [(1, ErrorCodes.NO_ERROR)]
        assert not client.transport.disconnected
        client.clock.pump([1] * 3)
        assert client.transport.disconnected

    def test_a_long_request_is_left_alone(self):
        """No timer of the connection ends it."""
        resource = Waiting()
        client = Client(resource=resource, idle_timeout=60, request_timeout=30)
        response = client.request()
        client.advance(1000, step=10)
        assert client.open
        resource.requests[0].finish()
        client.receive()
        assert response.ended
        client.advance(58)
        assert client.open
        client.advance(4)
        assert not client.open

    def test_no_timer_without_connections(self):
        """An idle site has nothing to do."""
        client = Client()
        client.request()
        client.lose()
        assert client.clock.getDelayedCalls() == []
        assert client.site.connections == 0


def test_nothing_is_left_to_the_collector():
    """A connection, its requests and its session are freed when the last that needs them is done."""
    client = Client()
    client.request()
    client.request(POST, b"body")
    client.request(POST, end=False)
    left = [weakref.ref(each) for each in (client.server, client.server.session, client.server._streams[5])]
    gc.collect()
    gc.disable()
    try:
        client.lose()
        client.transport.protocol = client.transport.producer = client.server = None
        assert [each() for each in left] == [None] * 3
    finally:
        gc.enable()


class TestDrain:
    """GOAWAY, RFC 9113 section 6.8."""

    def test_drain(self):
        """What is in flight or on its way is answered, what comes later refused, then the connection ends."""
        resource = Waiting()
        client = Client(resource=resource)
        first = client.request()
        drained = Deferred.fromCoroutine(client.site.drain())
        client.receive()
        assert client.goaways == [(NO_LAST_STREAM, 0)]
        on_its_way = client.request()
        client.advance(GRACE + 0.2, step=0.1)
        assert client.goaways[1:] == [(3, 0)]
        late = client.request()
        assert late.reset == ErrorCodes.REFUSED_STREAM
        assert len(resource.requests) == 2
        for request in resource.requests:
            request.finish()
        client.receive()
        assert first.ended
        assert on_its_way.ended
        assert not client.open
        assert not drained.called
        client.lose()
        assert drained.called

    def test_an_idle_connection(self):
        """It is closed after the grace."""
        client = Client()
        client.request()
        Deferred.fromCoroutine(client.site.drain())
        client.advance(GRACE - 0.1, step=0.1)
        assert client.open
        client.advance(0.3, step=0.1)
        assert not client.open

    def test_a_client_that_says_goodbye(self):
        """It gets what it has asked for; then the connection ends."""
        resource = Waiting()
        client = Client(resource=resource)
        response = client.request()
        client.send(GoAwayFrame(0, last_stream_id=0))
        client.send(WindowUpdateFrame(0, 1000))
        assert client.open
        resource.requests[0].write(b"done")
        resource.requests[0].finish()
        client.receive()
        assert (response.body, response.ended) == (b"done", True)
        assert not client.open
        client = Client()
        client.request()
        client.send(GoAwayFrame(0, last_stream_id=0))
        assert not client.open

    def test_abort(self):
        """What does not end by itself is cut."""
        resource = Waiting()
        client = Client(resource=resource)
        client.request()
        gone = resource.requests[0].notifyFinish()
        gone.addErrback(lambda _: "gone")
        client.site.abort()
        assert gone.result == "gone"
        assert not client.open
