"""Fields behind bodies (RFC 9110 section 6.5), both ways, over both versions of HTTP."""

from __future__ import annotations

import httpx
import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import WindowUpdateFrame
from klein import Klein
from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThread
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

import h2_tools
from halfsync.http.wsgi.trailers import Trailers
from http_tools import Connection, ServerCase, until

CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n"
TAKES = [*h2_tools.GET, ("te", "trailers")]


class Told:
    """An application that keeps the trailers of its requests."""

    def __init__(self):
        self.trailers = []

    def __call__(self, environ, start_response):
        assert environ["wsgi.input"].read() in {b"hello", b""}
        self.trailers.append(dict(environ["halfsync.trailers"]))
        start_response("204 No Content", [])
        return []


class Summed(Resource):
    """A resource that does the same, and answers with trailers."""

    isLeaf = True

    def __init__(self):
        super().__init__()
        self.trailers = []
        self.taken = []

    def render(self, request):
        self.trailers.append(request.trailers)
        self.taken.append(request.send_trailers(["X-Sum"], lambda: [("X-Sum", "1")]))
        request.write(b"ab")
        request.write(b"c")
        request.finish()
        return NOT_DONE_YET


def summing(environ, start_response):
    """Answer by a generator that makes its trailers when it is at its end."""
    made = []

    def answer():
        for piece in (b"ab", b"", b"c"):
            yield piece
            made.append(piece)

    taken = environ["halfsync.send_trailers"](
        ["X-Sum", "Server-Timing"], lambda: [("X-Sum", str(len(made))), ("server-timing", "db;dur=5")]
    )
    start_response("200 OK", [("Content-Length", "3"), ("X-Taken", str(taken))])
    return answer()


def ask_h2(client, trailers, *, length=None):
    """Send a request with trailers; return what came of it."""
    headers = h2_tools.POST if length is None else [*h2_tools.POST, ("content-length", str(length))]
    head = client.head(headers, end=False)
    behind = client.head(trailers, number=head.stream_id)
    client.send(head, h2_tools.data(head.stream_id, b"hello", end=False), behind)
    return client.streams[head.stream_id]


def test_an_application_is_given_those_of_a_request():
    """By their names in lower case, repeated ones joined; the next request has its own, or none."""
    app = Told()
    connection = Connection(app)
    for behind in (b"X-Sum: 7\r\nx-sum:\t8 \r\nEmpty:\r\nName: \xe4\r\n", b"", b"A: b\r\n"):
        assert connection.send(CHUNKED + behind + b"\r\n").startswith(b"HTTP/1.1 204 ")
    connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert app.trailers == [{"x-sum": "7, 8", "empty": "", "name": "ä"}, {}, {"a": "b"}, {}]


def test_an_application_is_given_those_of_http2():
    """The same, whether the length of the body is declared or not."""
    app = Told()
    client = h2_tools.Client(app)
    for length in (None, 5):
        assert ask_h2(client, [("x-sum", "7"), ("x-sum", "8")], length=length).status == 204
    client.request()
    assert app.trailers == [{"x-sum": "7, 8"}] * 2 + [{}]


def test_a_resource_is_given_them():
    """As a mapping of the request's, over both."""
    resource = Summed()
    Connection(resource=resource).send(CHUNKED + b"X-Sum: 7\r\n\r\n")
    ask_h2(h2_tools.Client(resource=resource), [("x-sum", "8")])
    assert resource.trailers == [{"x-sum": "7"}, {"x-sum": "8"}]


@pytest.mark.parametrize(
    "name", ["Content-Length", "host", "Authorization", "Cookie", "TE", "Trailer", "Upgrade"]
)
def test_what_might_be_believed_is_refused(name):
    """It frames or routes a request, or says whose it is, and comes too late for that."""
    app = Told()
    assert b" 400 " in Connection(app).send(CHUNKED + name.encode() + b": 5\r\n\r\n")
    assert ask_h2(h2_tools.Client(app), [(name.lower(), "5")]).reset == ErrorCodes.PROTOCOL_ERROR
    assert app.trailers == []


def test_what_has_no_place_there_is_dropped():
    """What describes, caches or changes what was read before it (RFC 9110 section 6.5.1) is not handed on."""
    app = Told()
    Connection(app).send(CHUNKED + b"Content-Type: a/b\r\nRange: bytes=1-\r\nX-Request_Id: 7\r\nA: b\r\n\r\n")
    ask_h2(h2_tools.Client(app), [("content-type", "a/b"), ("vary", "*"), ("a", "b")])
    assert app.trailers == [{"a": "b"}] * 2


@pytest.mark.parametrize(
    "bad", [(":path", "/"), ("X-Sum", "1"), ("a b", "1"), ("a", "b\nc"), ("connection", "x")]
)
def test_what_is_no_field_of_http2_ends_the_stream(bad):
    """And only the stream: the next request is answered."""
    client = h2_tools.Client(app := Told())
    assert ask_h2(client, [bad]).reset == ErrorCodes.PROTOCOL_ERROR
    assert client.request().status == 204
    assert app.trailers == [{}]


def test_there_are_no_more_of_them_than_of_headers():
    """They cost memory, too: 431 beyond `max_headers`, and beyond `max_head` bytes of them."""
    app = Told()
    assert b" 431 " in Connection(app, max_headers=3).send(CHUNKED + b"a:\r\n" * 4 + b"\r\n")
    assert b" 204 " in Connection(app, max_headers=3).send(CHUNKED + b"a:\r\n" * 3 + b"\r\n")
    assert ask_h2(h2_tools.Client(app, max_headers=3), [("a", "")] * 4).status == 431
    assert ask_h2(h2_tools.Client(app, max_head=400), [("a", "b" * 500)]).status == 431
    assert len(app.trailers) == 1


def test_the_memory_of_those_that_wait_is_accounted_for():
    """Until the last line has come they wait, and a client may take its time; then they are the request's."""
    connection = Connection(Told())
    memory = connection.site.context.memory
    connection.send(CHUNKED + b"A: %b\r\n" % (b"b" * 500))
    assert memory.taken >= 500
    connection.send(b"\r\n")
    assert memory.taken == 0
    assert connection.connection.parser.held == 0


def test_a_response_has_them_behind_its_body():
    """Made after the last piece, named by `Trailer`; in chunks, though the application knows the length."""
    connection = Connection(summing)
    for _ in range(2):
        head, _, rest = connection.send(GET).partition(b"\r\n\r\n")
        assert b"\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, Server-Timing\r\n" in head
        assert b"Content-Length" not in head
        assert b"X-Taken: True" in head
        assert rest == b"2\r\nab\r\n1\r\nc\r\n0\r\nX-Sum: 3\r\nserver-timing: db;dur=5\r\n\r\n"
    assert connection.open
    # The application says the same to a client that takes none; nothing of the other is left over.
    plain = connection.send(GET.replace(b"TE: trailers\r\n", b""))
    assert b"\r\nContent-Length: 3\r\n" in plain
    assert plain.endswith(b"\r\n\r\nabc")


def test_a_response_of_http2_has_them():
    """As headers that end the stream, below the length that the application told."""
    client = h2_tools.Client(summing)
    for _ in range(2):
        response = client.request(TAKES)
        assert response.trailers == [("x-sum", "3"), ("server-timing", "db;dur=5")]
        assert (response.body, response.ended, dict(response.headers)["content-length"]) == (
            b"abc",
            True,
            "3",
        )


@pytest.mark.parametrize("body", [[], [b"hello"], [b"a" * 100_000, b"b" * 100_000]])
def test_they_follow_a_body_of_any_length(body):
    """Nothing at all, one piece, and more than a window of HTTP/2 at a time."""

    def app(environ, start_response):
        assert environ["halfsync.send_trailers"](["a"], lambda: [("a", "b")])
        start_response("200 OK", [])
        return body

    whole = b"".join(body)
    reply = Connection(app).send(GET)
    assert reply.endswith(b"0\r\na: b\r\n\r\n")
    assert reply.count(b"a") >= whole.count(b"a")
    client = h2_tools.Client(app)
    response = client.request(TAKES)
    while len(response.body) < len(whole):
        client.send(*_windows(1))
    client.receive()
    assert (response.body, response.trailers, response.ended) == (whole, [("a", "b")], True)


def _windows(number):
    return [WindowUpdateFrame(each, window_increment=50_000) for each in (0, number)]


@pytest.mark.parametrize("te", [b"", b"TE: gzip\r\n", b"TE: trailersx, gzip;q=1\r\n"])
def test_clients_that_take_none_get_none(te):
    """The response has the length that the application told, and no function is called for nothing."""
    reply = Connection(summing).send(b"GET / HTTP/1.1\r\nHost: a\r\n" + te + b"\r\n")
    assert b"X-Taken: False" in reply
    assert b"Content-Length: 3\r\n" in reply
    assert reply.endswith(b"\r\n\r\nabc")
    assert b"railer:" not in reply
    response = h2_tools.Client(summing).request()
    assert (response.body, response.trailers, response.ended) == (b"abc", [], True)


def test_clients_of_http10_get_none():
    """They know no chunks."""
    reply = Connection(summing).send(b"GET / HTTP/1.0\r\nTE: trailers\r\n\r\n")
    assert b"X-Taken: False" in reply
    assert reply.endswith(b"\r\n\r\nabc")


def test_what_has_no_body_has_none():
    """The response to HEAD says what that to GET would, and ends with its head."""
    reply = Connection(summing).send(GET.replace(b"GET", b"HEAD"))
    assert reply.endswith(b"\r\n\r\n")
    assert reply.count(b"\r\n\r\n") == 1
    response = h2_tools.Client(summing).request([(":method", "HEAD"), *TAKES[1:]])
    assert (response.status, response.body, response.trailers, response.ended) == (200, b"", [], True)


@pytest.mark.parametrize(
    "name", ["Content-Length", "transfer-encoding", "Set-Cookie", "Date", "a b", "Connection"]
)
@pytest.mark.parametrize("request_bytes", [GET, GET.replace(b"TE: trailers\r\n", b"")])
def test_names_that_may_not_be_are_an_error_for_the_application(name, request_bytes):
    """Whether the client takes trailers or not, before a byte is sent."""
    raised = []

    def app(environ, start_response):
        try:
            environ["halfsync.send_trailers"]([name], list)
        except ValueError as error:
            raised.append(str(error))
        start_response("204 No Content", [])
        return []

    assert Connection(app).send(request_bytes).startswith(b"HTTP/1.1 204 ")
    assert len(raised) == 1
    assert name.lower() in raised[0].lower()


def test_one_name_is_a_list_of_one():
    """A text would be taken for its letters, each a name that may be."""
    with pytest.raises(ValueError, match="a list, not 'sum'"):
        Trailers("sum", list)


@pytest.mark.parametrize("made", [[("b", "1")], [("a", "1\r\nb: 2")], [("a", "\u20ac")], None])
def test_values_that_may_not_be_break_the_response_off(made):
    """It has begun, so the client has to be able to tell; what was not named is such a value, too."""

    def app(environ, start_response):
        environ["halfsync.send_trailers"](["a"], lambda: made)
        start_response("200 OK", [])
        yield b"hello"

    connection = Connection(app)
    reply = connection.send(GET)
    assert reply.endswith(b"5\r\nhello\r\n")
    assert connection.transport.disconnected
    response = h2_tools.Client(app).request(TAKES)
    assert (response.ended, response.reset) == (False, ErrorCodes.INTERNAL_ERROR)


def test_they_are_named_before_the_response_begins():
    """Afterwards it is an error of the application's, as the head is on its way."""
    raised = []

    def app(environ, start_response):
        start_response("200 OK", [])
        yield b"hello"
        try:
            environ["halfsync.send_trailers"](["a"], list)
        except RuntimeError as error:
            raised.append(error)

    assert Connection(app).send(GET).endswith(b"5\r\nhello\r\n0\r\n\r\n")
    assert len(raised) == 1


def test_an_endless_body_beyond_its_length_ends_all_the_same():
    """What is beyond the length is never sent, and so not made, either."""

    def app(environ, start_response):
        environ["halfsync.send_trailers"](["a"], lambda: [("a", "b")])
        start_response("200 OK", [("Content-Length", "3")])
        while True:
            yield b"ab"

    assert Connection(app).send(GET).endswith(b"2\r\nab\r\n1\r\na\r\n0\r\na: b\r\n\r\n")


def test_a_body_shorter_than_its_length_is_broken_off():
    """As without trailers."""

    def app(environ, start_response):
        environ["halfsync.send_trailers"](["a"], lambda: [("a", "b")])
        start_response("200 OK", [("Content-Length", "3")])
        yield b"ab"

    connection = Connection(app)
    assert connection.send(GET).endswith(b"2\r\nab\r\n")
    assert connection.transport.disconnected


def test_a_generator_that_never_starts_its_response_is_a_500():
    """Its client waited for ever."""
    assert Connection(lambda environ, start_response: iter(())).send(GET).startswith(b"HTTP/1.1 500 ")


def test_a_resource_answers_with_them():
    """Over both, to a client that takes them, and to no other."""
    resource = Summed()
    reply = Connection(resource=resource).send(GET)
    assert b"\r\nTrailer: X-Sum\r\n" in reply
    assert reply.endswith(b"2\r\nab\r\n1\r\nc\r\n0\r\nX-Sum: 1\r\n\r\n")
    response = h2_tools.Client(resource=resource).request(TAKES)
    assert (response.body, response.trailers, response.ended) == (b"abc", [("x-sum", "1")], True)
    reply = Connection(resource=resource).send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert reply.endswith(b"1\r\nc\r\n0\r\n\r\n")
    assert resource.taken == [True, True, False]


@pytest.mark.parametrize("waits", [False, True])
def test_a_klein_application_answers_with_them(waits):
    """Also when its whole body is one piece, or nothing, and when it answers later."""
    app, later = Klein(), Deferred()

    @app.route("/")
    def root(request):
        assert request.send_trailers(["a"], lambda: [("a", "b")])
        return later if waits else succeed("")

    connection = Connection(resource=app)
    reply = connection.send(GET)
    if waits:
        later.callback(b"late")
        reply += connection.transport.value()
    assert reply.endswith(b"4\r\nlate\r\n0\r\na: b\r\n\r\n" if waits else b"\r\n\r\n0\r\na: b\r\n\r\n")


def test_a_resource_whose_values_fail_is_broken_off():
    """The client can tell that it has not all; over HTTP/1.1 the connection ends."""

    class Failing(Resource):
        isLeaf = True

        def render(self, request):
            request.send_trailers(["a"], lambda: 1 / 0)
            return b"hello"

    connection = Connection(resource=Failing())
    assert not connection.send(GET).endswith(b"0\r\n\r\n")
    assert connection.transport.disconnected


class Threads(ServerCase):
    """The same with threads, sockets and a slow client's disk."""

    async def test_they_come_after_what_waited_on_the_disk(self):
        """A client that takes nothing for a while has the body on our disk; trailers come after all of it."""
        pieces = 200

        def app(environ, start_response):
            assert environ["halfsync.send_trailers"](["a"], lambda: [("a", "b")])
            start_response("200 OK", [])
            return (b"x" * 65536 for _ in range(pieces))

        self.serve(app)
        client = await self.connect()
        client.keep = 100
        client.transport.pauseProducing()
        client.transport.write(GET)
        disk = self.site.context.disk
        await until(lambda: disk.taken)
        client.transport.resumeProducing()
        assert (await client.bytes(b"0\r\na: b\r\n\r\n")).endswith(b"\r\n0\r\na: b\r\n\r\n")
        assert client.size > pieces * 65536

    async def test_a_client_library_reads_past_them(self):
        """Chunks with trailers are an ordinary body for who looks at no trailers."""
        self.serve(summing)
        at = f"http://127.0.0.1:{self.port.getHost().port}/"

        def ask():
            with httpx.Client(trust_env=False) as client:
                return [client.get(at, headers={"TE": "trailers"}).text for _ in range(2)]

        assert await deferToThread(ask) == ["abc", "abc"]
