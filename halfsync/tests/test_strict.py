"""Requests are read strictly: what two readers could take for two things is refused."""

from __future__ import annotations

import random
import re
import socket

import pytest
from structlog.testing import capture_logs
from twisted.internet.defer import Deferred
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from http_tools import GET, Connection, ServerCase, hello, parse, until

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def echo(environ, start_response):
    """Says what it was asked."""
    body = environ["wsgi.input"].read()
    said = f"{environ['REQUEST_METHOD']} {environ['REQUEST_URI']} {environ.get('HTTP_HOST')} ".encode() + body
    start_response("200 OK", [("Content-Length", str(len(said)))])
    return [said]


def refused(request: bytes, **bounds) -> int:
    """Send a request that must be refused, in whole and byte by byte; return the status."""
    statuses = set()
    for step in (len(request), 1):
        connection = Connection(lambda *_: pytest.fail("served"), **bounds)
        with capture_logs() as logs:
            pieces = [connection.send(request[at : at + step]) for at in range(0, len(request), step)]
        reply = b"".join(pieces)
        assert parse(reply).status >= 400
        assert reply.count(b"HTTP/1.1 ") == 1
        assert b"\r\nConnection: close\r\n" in reply
        assert not connection.open
        assert connection.send(GET) == b""
        assert [each for each in logs if each["log_level"] == "error"] == []
        statuses.add(parse(reply).status)
        connection.lose()
    (status,) = statuses
    return status


def served(request: bytes, app=echo) -> bytes:
    """Send a request that must be served, in whole and byte by byte; return the body of the response."""
    bodies = set()
    for step in (len(request), 1):
        connection = Connection(app)
        reply = b"".join(connection.send(request[at : at + step]) for at in range(0, len(request), step))
        response = parse(reply)
        assert response.status == 200
        bodies.add(response.data)
    (body,) = bodies
    return body


class TestRequestLine:
    """Method, one space, target, one space, version."""

    @pytest.mark.parametrize(
        "line",
        [
            b"GET  / HTTP/1.1",
            b"GET /  HTTP/1.1",
            b" GET / HTTP/1.1",
            b"GET / HTTP/1.1 ",
            b"GET\t/ HTTP/1.1",
            b"GET / a HTTP/1.1",
            b"GET /\x0b HTTP/1.1",
            b"GET /\x00 HTTP/1.1",
            b"GET /\x7f HTTP/1.1",
            b"GET /\xc3\xa9 HTTP/1.1",
            b"GET /#fragment HTTP/1.1",
            b"GET HTTP/1.1",
            b"GET /",
            b"GET",
            b"get / HTTP/1.1",
            b"G(T / HTTP/1.1",
            b"G\xc9T / HTTP/1.1",
            b"GET / http/1.1",
            b"GET / HTTP/1.10",
            b"GET / HTTP/11",
            b"GET / HTTP/+1.1",
            b"GET / XHTTP/1.1",
            b"GET / HTTP/1.1\r",
            b"\rGET / HTTP/1.1",
            b"GET /\rHTTP/1.1",
            b"GET / HTTP/1.1\nX: y",
            b"\r\n\r\nGET / HTTP/1.1",
            b"CONNECT / HTTP/1.1",
            b"CONNECT example.com:443/ HTTP/1.1",
            b"GET example.com:80 HTTP/1.1",
            b"GET nowhere HTTP/1.1",
            b"GET * HTTP/1.1",
            b"OPTIONS ** HTTP/1.1",
            b"GET ftp://host/ HTTP/1.1",
            b"GET http:/// HTTP/1.1",
            b"GET http:host/ HTTP/1.1",
            b"GET http://user:word@host/ HTTP/1.1",
            b"GET http://ho^st/ HTTP/1.1",
            b"GET http://host:port/ HTTP/1.1",
            b"\x16\x03\x01\x02\x00",
        ],
    )
    def test_ill_formed(self, line):
        assert refused(line + b"\r\nHost: a\r\n\r\n") == 400

    @pytest.mark.parametrize("version", [b"0.9", b"2.0", b"3.0"])
    def test_versions(self, version):
        """Other versions have a status of their own."""
        assert refused(b"GET / HTTP/" + version + b"\r\nHost: a\r\n\r\n") == 505

    def test_a_later_minor_version(self):
        """It is served as the latest that we speak (RFC 9110 section 2.5)."""
        assert served(b"GET /x HTTP/1.2\r\nHost: a\r\n\r\n") == b"GET /x a "

    def test_connect(self):
        """We are no proxy."""
        assert refused(b"CONNECT example.com:443 HTTP/1.1\r\nHost: a\r\n\r\n") == 501

    @pytest.mark.parametrize(
        ("target", "uri", "host"),
        [
            (b"/", b"/", b"a"),
            (b'/a"b|c{}\\?d="e"', b'/a"b|c{}\\?d="e"', b"a"),
            (b"//b/c", b"//b/c", b"a"),
            (b"/?http://b/", b"/?http://b/", b"a"),
            (b"http://b/c?d", b"/c?d", b"b"),
            (b"HTTP://b", b"/", b"b"),
            (b"http://b?d", b"/?d", b"b"),
            (b"https://[::1]:8080/c", b"/c", b"[::1]:8080"),
        ],
    )
    def test_targets(self, target, uri, host):
        """The host of an absolute target replaces the header's (RFC 9112 section 3.2.2)."""
        assert served(b"PURGE-1 " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n") == b"PURGE-1 %b %b " % (
            uri,
            host,
        )

    def test_one_empty_line(self):
        """Old clients send one after a body; it begins no request."""
        assert served(b"\r\n" + GET, hello) == b"hello"
        connection = Connection(request_timeout=5, idle_timeout=60)
        connection.send(GET + b"\r\n")
        connection.clock.pump([1] * 50)
        assert connection.open
        assert connection.send(GET).startswith(b"HTTP/1.1 200 OK\r\n")


class TestHeaders:
    """Names are tokens, values hold no control characters."""

    @pytest.mark.parametrize(
        "line",
        [
            b"X : y",
            b" X: y",
            b"X y",
            b": y",
            b"X\x00: y",
            b"X\xff: y",
            b'"X": y',
            b"X: \x00",
            b"X: a\x07b",
            b"X: a\x7fb",
            b"X: a\rb",
            b"X: a\nb",
            b"X: a\n",
            b"X: a\r",
            b"X: a\r\n b",
            b"X: a\r\n\tb: c",
            b"Content-Type: a\r\nContent-Type: a",
            b"Content_Length: 1",
            b"Transfer_encoding: chunked",
        ],
    )
    def test_ill_formed(self, line):
        assert refused(HEAD + line + b"\r\n\r\n") == 400
        assert refused(b"GET / HTTP/1.1\r\n" + line + b"\r\nHost: a\r\n\r\n") == 400

    def test_well_formed(self):
        """Whitespace around a value is none of it; what is not ASCII passes; names have any case."""

        def app(environ, start_response):
            seen = (environ["HTTP_X_A"], environ["HTTP_X_B_C"], environ["HTTP_EMPTY"], environ["HTTP_HOST"])
            start_response("200 OK", [])
            return [repr(seen).encode()]

        head = b"GET / HTTP/1.1\r\nhOST:a\r\nx-a: \t b\tc \t \r\nX-b-C: \xc3\xa9\r\nEmpty:\r\n\r\n"
        assert served(head, app) == repr(("b\tc", "\xc3\xa9", "", "a")).encode()

    @pytest.mark.parametrize(
        "value",
        rb"a b|a,b|a, a|a/b|user@a|a:b|a:1:2|a:123456|::1|[::1|[g]|[::1]x|:80|a\b|a#b|a?b|<a>|%zz".split(
            b"|"
        ),
    )
    def test_ill_formed_hosts(self, value):
        assert refused(b"GET / HTTP/1.1\r\nHost: " + value + b"\r\n\r\n") == 400
        assert refused(b"GET / HTTP/1.0\r\nHost: " + value + b"\r\n\r\n") == 400

    @pytest.mark.parametrize(
        "value", [b"", b"a", b"a:", b"a:80", b"a_b.c-d", b"127.0.0.1", b"[::1]:80", b"%41", b"[v1.a:b]"]
    )
    def test_well_formed_hosts(self, value):
        assert served(b"GET / HTTP/1.1\r\nHost: " + value + b"\r\n\r\n") == b"GET / %b " % value

    def test_a_host_has_the_length_of_a_name_at_most(self):
        """255 bytes (RFC 1035 section 2.3.4) and a port: what looks it up need not bound it."""
        for host, status in ((b"a" * 255 + b":65535", None), (b"a" * 262, 400), (b"a." * 4000, 400)):
            for head in (
                b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n",
                b"GET http://%b/ HTTP/1.1\r\nHost: a\r\n\r\n",
            ):
                if status is None:
                    assert served(head % host)
                else:
                    assert refused(head % host) == status

    def test_bare_line_feeds_are_refused_at_once(self):
        """A client that ends its lines with them would wait for an answer until the deadline."""
        assert parse(Connection().send(b"GET / HTTP/1.1\nHost: a\n\n")).status == 400


class TestLength:
    """A body has one end."""

    @pytest.mark.parametrize(
        "value",
        [
            b"+5",
            b"-5",
            b"-0",
            b"0x5",
            b"5_0",
            b"5,5",
            b"5, 5",
            b"5 5",
            b"5.0",
            b"",
            b"\xb2",
            b"1" * 19,
            b"1" * 5000,
        ],
    )
    def test_ill_formed(self, value):
        assert refused(POST + b"Content-Length: " + value + b"\r\n\r\nhello") == 400

    @pytest.mark.parametrize(
        ("status", "headers"),
        [
            (400, b"Content-Length: 5\r\nContent-Length: 5"),
            (400, b"Content-Length: 5\r\nTransfer-Encoding: chunked"),
            (400, b"Transfer-Encoding: chunked\r\nContent-Length: 5"),
            (400, b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
            (400, b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
            (400, b"Transfer-Encoding: identity"),
            (400, b"Transfer-Encoding: gzip"),
            (400, b"Transfer-Encoding: xchunked"),
            (400, b"Transfer-Encoding: chunked, identity"),
            (400, b"Transfer-Encoding:"),
            (400, b"Transfer-Encoding: \x0bchunked"),
            (501, b"Transfer-Encoding: gzip, chunked"),
            (501, b"Transfer-Encoding: chunked, chunked"),
        ],
    )
    def test_framing(self, status, headers):
        assert refused(POST + headers + b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n") == status

    def test_chunks_are_not_for_http_1_0(self):
        assert refused(CHUNKED.replace(b"1.1", b"1.0") + b"0\r\n\r\n") == 400

    def test_well_formed(self):
        assert served(POST + b"Content-Length: 005\r\n\r\nhello") == b"POST / a hello"
        assert served(CHUNKED.replace(b"chunked", b"Chunked") + b"0\r\n\r\n") == b"POST / a "


class TestChunks:
    """Framing inside the body."""

    @pytest.mark.parametrize(
        "body",
        [
            b"\r\nhello",
            b"x\r\n",
            b"+5\r\nhello",
            b"-5\r\nhello",
            b"0x5\r\nhello",
            b"5_0\r\nhello",
            b" 5\r\nhello",
            b"5 \r\nhello",
            b"5\t\r\nhello",
            b"\xb2\r\n",
            b"00000000000000005\r\nhello",
            b"5\nhello\r\n",
            b"5\rhello\r\n",
            b"5;\r\nhello",
            b"5;a=\r\nhello",
            b"5;a\rb\r\nhello",
            b"5;a\nb\r\nhello",
            b'5;a="b\r\nhello',
            b"5;" + b"a" * 1100 + b"\r\nhello",
            b"5\r\nhelloworld",
            b"5\r\nhello\n0\r\n\r\n",
            b"5\r\nhello0\r\n\r\n",
            b"0\r\nno colon\r\n\r\n",
            b"0\r\nX : y\r\n\r\n",
            b"0\r\n X: y\r\n\r\n",
            b"0\r\nX: a\x00\r\n\r\n",
            b"0\r\nContent-Length: 5\r\n\r\n",
            b"0\r\ntransfer-encoding: chunked\r\n\r\n",
            b"0\r\nTransfer_Encoding: chunked\r\n\r\n",
            b"0\r\nHost: b\r\n\r\n",
            b"0\r\nAuthorization: b\r\n\r\n",
        ],
    )
    def test_ill_formed(self, body):
        assert refused(CHUNKED + body) == 400

    @pytest.mark.parametrize(
        "body",
        [
            b"1;" + b"a" * 1000 + b"\r\nx\r\n",
            b"0\r\n" + b"X: %b\r\n" % (b"y" * 1000) * 20,
            b"0\r\nX: " + b"y" * 2000,
        ],
    )
    def test_what_is_dropped_is_bounded(self, body):
        """Extensions and trailers cost no more than a head may."""
        assert refused(CHUNKED + body * 20) == 431

    def test_well_formed(self):
        body = b'05;a;b=c ; d="e\\"; f"\r\nhello\r\n6;a=b\r\n world\r\nA\r\n0123456789\r\n'
        body += b"000\r\nVary: *\r\nX:\r\n\r\n"
        assert served(CHUNKED + body) == b"POST / a hello world0123456789"

    def test_what_follows_is_the_next_request(self):
        """Nothing of a body is left over."""
        connection = Connection(echo)
        reply = connection.send((CHUNKED + b"5\r\nhello\r\n0\r\nVary: *\r\n\r\n") * 3 + GET)
        assert reply.count(b"POST / a hello") == 3
        assert reply.count(b"GET / localhost") == 1


class TestPersistence:
    """How a connection goes on, or does not."""

    def test_pipelining_ends_with_a_refusal(self):
        """Requests before one that is refused are answered, none after it."""
        connection = Connection()
        reply = connection.send(GET + GET + b"GET  / HTTP/1.1\r\n\r\n" + GET)
        assert re.findall(rb"HTTP/1.1 (\d+)", reply) == [b"200", b"200", b"400"]
        assert not connection.open

    @pytest.mark.parametrize(
        ("version", "value", "goes_on"),
        [
            (b"1.1", b"", True),
            (b"1.1", b"close", False),
            (b"1.1", b"x, Close", False),
            (b"1.1", b"close,x", False),
            (b"1.1", b"keep-alive", True),
            (b"1.1", b"closed", True),
            (b"1.0", b"", False),
            (b"1.0", b"Keep-Alive", True),
            (b"1.0", b"keep-alive, close", False),
        ],
    )
    def test_connection(self, version, value, goes_on):
        """`Connection` is a list (RFC 9110 section 7.6.1); HTTP/1.0 goes on when both sides say so."""
        connection = Connection()
        reply = connection.send(
            GET.replace(b"1.1", version).replace(b"t\r\n\r\n", b"t\r\nConnection: %b\r\n\r\n" % value)
        )
        assert reply.startswith(b"HTTP/%b 200 OK\r\n" % version)
        assert connection.open == goes_on
        assert (b"\r\nConnection: close\r\n" in reply) != goes_on
        assert (b"\r\nConnection: Keep-Alive\r\n" in reply) == (goes_on and version == b"1.0")

    def test_http_1_0_without_a_length(self):
        """Where only the end of the connection ends the response, it ends."""
        connection = Connection(lambda e, s: (s("200 OK", []), iter([b"a", b"b"]))[1])
        reply = connection.send(
            GET.replace(b"1.1", b"1.0").replace(b"t\r\n", b"t\r\nConnection: keep-alive\r\n")
        )
        assert b"\r\nConnection: close\r\n" in reply
        assert b"chunked" not in reply
        assert not connection.open

    def test_head(self):
        """HEAD has the head of the response to GET and no body, and the connection goes on."""
        connection = Connection()
        reply = connection.send(GET.replace(b"GET", b"HEAD"))
        assert reply.endswith(b"\r\n\r\n")
        assert b"Content-Length: 5\r\n" in reply
        assert connection.send(GET).endswith(b"hello")


class TestContinue:
    """100 (Continue) is sent when the body is going to be read."""

    WAITS = b"Expect: 100-Continue\r\n"

    def test_asked(self):
        for framing in (b"Content-Length: 1\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"):
            connection = Connection()
            assert connection.send(POST + self.WAITS + framing) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.lose()

    @pytest.mark.parametrize(
        "request_bytes",
        [
            POST + WAITS + b"Content-Length: 1\r\n\r\nx",
            POST + WAITS + b"Content-Length: 0\r\n\r\n",
            HEAD + WAITS + b"\r\n",
            POST.replace(b"1.1", b"1.0") + WAITS + b"Content-Length: 1\r\n\r\nx",
        ],
    )
    def test_no_one_waits(self, request_bytes):
        """A client that has sent its body, or has none, or speaks HTTP/1.0, gets its answer alone."""
        assert b" 100 " not in Connection().send(request_bytes)

    def test_refused(self):
        """A body that will not be read is not asked for."""
        assert refused(POST + self.WAITS + b"Content-Length: 9\r\n\r\n", max_body=8) == 413
        assert refused(POST + self.WAITS + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n") == 400


class TestForms:
    """What twisted.web reads before a resource has its turn."""

    @pytest.mark.parametrize("kind", [b"application/x-www\x85form-urlencoded", b"multipart/form-data"])
    def test_ill_formed(self, kind):
        """What no form can be read from is refused, without an error in the log."""
        connection = Connection(resource=Later())
        with capture_logs() as logs:
            reply = connection.send(POST + b"Content-Type: %b\r\nContent-Length: 3\r\n\r\na=b" % kind)
        assert parse(reply).status == 400
        assert not connection.open
        assert [each for each in logs if each["log_level"] == "error"] == []
        connection.lose()


class Later(Resource):
    """Answers when it is told to."""

    isLeaf = True

    def __init__(self):
        super().__init__()
        self.asked: Deferred = Deferred()

    def render_GET(self, request):
        self.asked.callback(request)
        return NOT_DONE_YET


class HalfClosed(ServerCase):
    """A client may close its side after its request, and still wants the answer."""

    async def test_answered(self):
        """All requests that had come are, and then the connection is closed."""
        self.serve()
        client = await self.connect(GET * 3)
        client.transport.loseWriteConnection()
        assert (await client.closed()).count(b"hello") == 3
        assert client.lost == "ConnectionDone"

    async def test_answered_later(self):
        """An answer that takes its time arrives as well."""
        resource = Later()
        self.serve(resource=resource)
        client = await self.connect(GET)
        request = await resource.asked
        client.transport.loseWriteConnection()
        (connection,) = self.site.context.connections
        await until(lambda: connection._half_closed is not None)
        request.write(b"late")
        request.finish()
        assert b"late" in await client.closed()

    async def test_never_answered(self):
        """A client that cannot be asked may have closed both sides: the wait has an end."""
        resource = Later()
        self.serve(resource=resource, request_timeout=0.2)
        await self.connect(GET.replace(b"1.1", b"1.0"))
        request = await resource.asked
        gone = request.notifyFinish()
        self.clients[0].transport.loseWriteConnection()
        with pytest.raises(Exception, match="closed cleanly"):
            await gone

    async def test_gone(self):
        """A client that has closed both sides is found by what it answers to 100 Continue."""
        resource = Later()
        self.serve(resource=resource)
        with socket.create_connection(("127.0.0.1", self.port.getHost().port)) as client:
            client.sendall(GET)
            request = await resource.asked
            gone = request.notifyFinish()
        with pytest.raises(Exception, match="closed cleanly"):
            await gone

    async def test_half_a_request(self):
        """What will never be whole is refused at once; nothing at all is just closed."""
        self.serve()
        for start in (b"GET /", POST + b"Content-Length: 9\r\n\r\nx", CHUNKED + b"0\r\n", GET + b"G"):
            client = await self.connect(start)
            client.transport.loseWriteConnection()
            assert re.findall(rb" (\d{3}) ", await client.closed())[-1:] == [b"400"]
        client = await self.connect()
        client.transport.loseWriteConnection()
        assert await client.closed() == b""


SEEDS = [
    GET,
    b"\r\n" + GET,
    HEAD + b"Connection: keep-alive\r\nCookie: a=b; c\r\nX: y\r\n\r\n",
    GET.replace(b"1.1", b"1.0"),
    b"GET http://b:80/c?d HTTP/1.1\r\nHost: a\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    POST + b"Content-Length: 5\r\n\r\nhello",
    POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    POST + b'Content-Type: multipart/form-data; boundary="x"\r\nContent-Length: 61\r\n\r\n'
    b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n',
    POST + b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 7\r\n\r\na=b&c=d",
    CHUNKED + b'5;a="b"\r\nhello\r\n0\r\nVary: *\r\n\r\n',
]
SPICES = [b"\r", b"\n", b"\r\n", b"\x00", b" ", b"\t", b":", b";", b",", b"\xff", b"/", b"0", b"9" * 30]
SPICES += [
    b"-",
    b"+",
    b"_",
    b'"',
    b"%",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"X" * 5000,
]
SPICES += [b"HTTP/1.1", b"GET ", b"Host: b\r\n", b"Connection: close\r\n", b"\r\n\r\n", b"0\r\n\r\n"]


EVENTS = {"http.request", "http.refused", "http.form_refused"}


def mutate(rng: random.Random, data: bytes) -> bytes:
    """Return the data with a few places changed."""
    for _ in range(rng.randint(1, 4)):
        at, to = rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)
        kind = rng.randrange(5)
        if kind == 0:
            data = data[:at] + rng.choice(SPICES) + data[at:]
        elif kind == 1:
            data = data[:at] + data[at + rng.randint(1, 4) :]
        elif kind == 2:
            data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        elif kind == 3:
            data = data[: max(at, to)] + data[min(at, to) :]
        else:
            data += rng.choice(SEEDS)
    return data


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("forms", [False, True])
def test_mutated_requests(seed, forms):
    """Whatever comes, in whatever pieces: no error of ours, answers only, and an end at the deadline."""
    rng = random.Random(f"{seed} {forms}")

    class Forms(Resource):
        isLeaf = True

        def render(self, request):
            return b"%d" % len(request.args)

    for _ in range(100):
        data = mutate(rng, rng.choice(SEEDS))
        connection = Connection(echo, resource=Forms() if forms else None, access_log=True)
        at = 0
        with capture_logs() as logs:
            while at < len(data):
                step = rng.choice([1, 2, 10, 100, 10000])
                connection.connection.dataReceived(data[at : at + step])
                at += step
            connection.clock.pump([1] * 100)
        assert not connection.open, data
        assert connection.transport.disconnected or connection.transport.disconnecting
        assert {each["event"] for each in logs} <= EVENTS, (data, logs)
        connection.lose()
        reply = connection.transport.value()
        while reply:
            # Every answer is whole, and nothing stands between them.
            head = re.match(rb"HTTP/1\.[01] ([1-5]\d\d) [^\r\n]*\r\n(?:[!-~]+: [^\r\n]*\r\n)*\r\n", reply)
            assert head, (data, reply)
            length = re.search(rb"Content-Length: (\d+)", head[0])
            reply = reply[head.end() + (int(length[1]) if length else 0) :]
            if b"Transfer-Encoding: chunked" in head[0]:
                reply = reply[reply.index(b"0\r\n\r\n") + 5 :]
        assert connection.site.connections == 0
