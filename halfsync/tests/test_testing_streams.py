"""The client of `halfsync.testing`: responses piece by piece, and websockets, without a socket."""

from __future__ import annotations

from threading import get_ident

import pytest
from flask import Flask, Response, request, stream_with_context
from klein import Klein
from structlog.testing import capture_logs
from twisted.internet.task import Clock

from halfsync import EventStream, Gateway, Mount, WebSockets
from halfsync.in_memory import steps
from halfsync.testing import Client, InlineWorkers, Unanswered

CALLED: list[object] = []


class Body:
    """Three pieces, and what is done with them."""

    def __init__(self) -> None:
        self.made = 0
        self.closed = 0

    def __iter__(self):
        return self

    def __next__(self) -> bytes:
        if self.made == 3:
            raise StopIteration
        self.made += 1
        return b"piece %d" % self.made

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def body() -> Body:
    return Body()


@pytest.fixture
def client(body: Body) -> Client:
    def app(environ, start_response):
        length = [("Content-Length", "21")] if environ["QUERY_STRING"] else []
        start_response("200 OK", [("Content-Type", "text/plain"), ("Set-Cookie", "seen=yes"), *length])
        return body

    return Client(app)


def test_pieces_come_as_they_are_made(client, body):
    """No piece is made before it is asked for; the head comes with the first; cookies are kept."""
    with client.stream("GET", "/") as response:
        assert (response.status, response.headers["content-type"]) == (200, "text/plain")
        for number in (1, 2, 3):
            assert next(response) == b"piece %d" % number
            assert (body.made, body.closed) == (number, 0)
        assert list(response) == []
        assert body.closed == 1
    assert client.cookies == {"seen": "yes"}
    assert body.closed == 1


def test_with_a_length_too(client, body):
    """What is not chunked is as little made ahead."""
    with client.stream("GET", "/?length") as response:
        assert next(response) == b"piece 1"
        assert body.made == 1
        assert b"".join(response) == b"piece 2piece 3"


def test_leaving_early_closes(client, body):
    """The application hears of it at its next piece: as in the service, that one is made and not sent."""
    with capture_logs() as lines, client.stream("GET", "/") as response:
        next(response)
    assert (body.made, body.closed) == (2, 1)
    assert "wsgi.client_left" in [line["event"] for line in lines]
    assert list(response) == []


def test_no_body_and_short_ones(client):
    """HEAD has no body, and a list is one piece."""
    with client.stream("HEAD", "/") as response:
        assert list(response) == []

    def app(_environ, start_response):
        start_response("404 Not Found", [])
        return [b"not ", b"here"]

    with Client(app).stream("POST", "/", json={}) as response:
        assert (response.status, list(response)) == (404, [b"not here"])


def test_flask_in_a_context_of_its_request():
    """What a generator finds in the request's context is there, piece by piece; and early hints go by."""
    app = Flask(__name__)

    @app.get("/")
    def export():
        request.environ["halfsync.early_hints"]([("Link", "</a.css>; rel=preload")])

        def rows():
            for each in request.args["rows"]:
                yield f"row {each}\n"

        return Response(stream_with_context(rows()))

    with Client(app).stream("GET", "/", query={"rows": "abc"}) as response:
        assert next(response) == b"row a\n"
        assert list(response) == [b"row b\n", b"row c\n"]


def test_one_that_breaks_off():
    """It is an error where it breaks off, and no sooner; the application has not run with the test."""

    def app(_environ, start_response):
        start_response("200 OK", [])
        yield b"good"
        CALLED.append(get_ident())
        raise RuntimeError("broken")

    with capture_logs(), Client(app).stream("GET", "/") as response:
        assert next(response) == b"good"
        with pytest.raises(ConnectionAbortedError):
            next(response)
    assert CALLED.pop() != get_ident()


def test_an_application_that_hangs(monkeypatch):
    """A test that waits for it fails in time."""
    monkeypatch.setattr(steps, "PATIENCE", 0.05)
    hang = steps.Semaphore(0)

    def app(_environ, start_response):
        start_response("200 OK", [])
        hang.acquire()
        yield b"late"

    with pytest.raises(TimeoutError, match="handed on nothing"):
        Client(app).stream("GET", "/")
    hang.release()


def test_a_resource_that_waits():
    """What a handler in the reactor sends later is read later; leaving is seen by it."""
    events = EventStream("prices", reactor=Clock())
    mount = Mount({"/prices": events.resource, "/": Gateway(Flask(__name__), InlineWorkers())})
    with Client(mount).stream("GET", "/prices") as response:
        assert next(response).startswith(b":")
        with pytest.raises(Unanswered):
            next(response)
        events.publish("42.17")
        assert b"data: 42.17" in next(response)
        assert events.clients == 1
    assert events.clients == 0
    with Client(mount).stream("GET", "/other") as response:
        assert response.status == 404


def test_a_klein_handler_that_has_said_nothing():
    """There is no head yet: that is told at once, and the handler hears that its client left."""
    app = Klein()
    left = []
    app.route("/")(lambda request: request.notifyFinish().addErrback(left.append))
    with pytest.raises(Unanswered):
        Client(app).stream("GET", "/")
    assert len(left) == 1


class Echo:
    """A websocket that answers, and notes its end."""

    ended = 0

    def negotiationStarted(self, transport):
        self.transport = transport

    def negotiationFinished(self):
        self.transport.sendTextMessage("welcome")

    def textMessageReceived(self, message):
        if message == "bye":
            self.transport.loseConnection(4000)
        elif message == "break":
            raise RuntimeError("broken")
        else:
            self.transport.sendTextMessage(message)

    def bytesMessageReceived(self, data):
        self.transport.sendBytesMessage(bytes(data))

    def pongReceived(self, payload):
        pass

    def connectionLost(self, reason):
        Echo.ended += 1


class Echoes:
    """Makes them, and keeps the request of the last."""

    def buildProtocol(self, request):
        self.cookie = request.getCookie(b"user")
        return Echo()


@pytest.fixture
def echoes(monkeypatch) -> Echoes:
    monkeypatch.setattr(Echo, "ended", 0)
    return Echoes()


def test_a_websocket(echoes):
    """Messages of both kinds and any length; the client's cookies; each end is heard once."""
    client = Client(WebSockets(echoes))
    client.cookies["user"] = "ada"
    with client.websocket("/") as one, client.websocket("/") as other:
        assert echoes.cookie == b"ada"
        assert [one.receive(), other.receive()] == ["welcome", "welcome"]
        with pytest.raises(Unanswered):
            one.receive()
        for message in ("Zoë", "long" * 50_000, b"\x00\xff", b""):
            one.send(message)
            assert one.receive() == message
        one.close(4001)
        assert one.close_code == 4001
        assert Echo.ended == 1
        with pytest.raises(EOFError):
            one.send("late")
        other.send("still here")
        assert other.receive() == "still here"
    assert Echo.ended == 2


def test_the_service_closes(echoes):
    """What came before is still received; then its code is told. A bug of the handler's is 1011."""
    with Client(WebSockets(echoes)).websocket("/") as socket:
        socket.send("bye")
        assert socket.receive() == "welcome"
        with pytest.raises(EOFError, match="4000"):
            socket.receive()
        assert (socket.close_code, Echo.ended) == (4000, 1)
    with capture_logs(), Client(WebSockets(echoes)).websocket("/") as socket:
        socket.send("break")
        assert socket.receive() == "welcome"
        with pytest.raises(EOFError, match="1011"):
            socket.receive()
    assert Echo.ended == 2


def test_a_message_that_is_too_long(echoes):
    """The bounds of the service hold: 1009."""
    with capture_logs(), Client(WebSockets(echoes)).websocket("/") as socket:
        socket.receive()
        socket.send("x" * 1_100_000)
        with pytest.raises(EOFError, match="1009"):
            socket.receive()


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [("/", {"Origin": "https://evil.example"}, 403), ("/no", {}, 404)],
    ids=["origin", "path"],
)
def test_a_websocket_that_is_refused(echoes, path, headers, status):
    """The answer's status is told."""
    mount = Mount({"/chat": WebSockets(echoes)})
    with pytest.raises(ConnectionRefusedError, match=str(status)):
        Client(mount).websocket("/chat" if path == "/" else path, headers=headers)
