"""Websockets: served beside an application, counted, bounded, asked for life, and drained.

The client is `websockets`. Autobahn's test suite is not run: its only release on PyPI is for Python 2.
"""

from __future__ import annotations

import re
import runpy
import signal
import socket
import ssl
import sys
import threading
import time
import urllib.request
from contextlib import ExitStack, contextmanager, suppress
from struct import pack

import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import SettingsFrame
from structlog.testing import capture_logs
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

import h2_tools
from certificates import make_certificate, write
from children import ROOT, running
from halfsync import About, Mount, Process, WebSockets
from halfsync.http.bounds import Bounds
from halfsync.http.part import HttpListener
from halfsync.http.site import Site
from halfsync.http.taken_over import A_PROTOCOL
from halfsync.http.websocket.connection import FRAMES, MAX_MESSAGE, SILENCE
from halfsync.http.websocket.frames import Frames
from halfsync.manhole.tools import Tools
from halfsync.testing import Client
from http_tools import Connection, ServerCase, until

EXAMPLE = ROOT / "halfsync" / "examples" / "websocket_app.py"
PATIENCE = 60


def port(event) -> int:
    return int(re.findall(r":([0-9]+)\b(?!\.)", event["address"])[-1])


class Chat:
    """The example as a process."""

    def __init__(self, service) -> None:
        self.service = service
        self.port = port(service.wait_for("web.listening"))
        service.wait_for("service.started")

    def join(self, **more):
        return connect(f"ws://127.0.0.1:{self.port}/chat", open_timeout=PATIENCE, compression=None, **more)

    def page(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=PATIENCE) as response:
            return response.read().decode()

    def has_place(self) -> bool:
        """Whether the service takes one more connection."""
        try:
            return bool(self.page())
        except OSError:
            return False


@contextmanager
def chat(*flags: str):
    command = [sys.executable, str(EXAMPLE), "--log.format=json", "--web.listen=tcp:0:interface=127.0.0.1"]
    with running([*command, "--admin.listen=", *flags]) as service:
        yield Chat(service)


def ended(service) -> None:
    """See that a process that was told to stop does so well."""
    code, _, errors = service.end()
    assert (code, errors) == (0, "")


def close_code(client) -> int:
    """Read until the service says goodbye; return the code."""
    with suppress(ConnectionClosed):
        while True:
            client.recv(PATIENCE)
    return client.protocol.close_rcvd.code


def test_a_chat_and_its_end():
    """Messages reach all, long ones in pieces too; TERM tells each client 1001 and ends within seconds."""
    with chat() as room:
        with room.join() as one, room.join() as other:
            assert "new WebSocket" in room.page()
            one.send("hello")
            assert [each.recv(PATIENCE) for each in (one, other)] == ["hello", "hello"]
            other.send(["in ", "three ", "pieces", "!" * 200_000])
            assert one.recv(PATIENCE) == "in three pieces" + "!" * 200_000
            assert one.ping().wait(PATIENCE)
            began = time.monotonic()
            room.service.signal(signal.SIGTERM)
            for each in (one, other):
                assert close_code(each) == 1001
        ended(room.service)
        # A drain that waits for clients would take 30.
        assert time.monotonic() - began < 15


def test_over_tls(tmp_path):
    """The same on a connection with TLS, its end included."""
    pem = write(tmp_path / "server.pem", *make_certificate("localhost"))
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with chat(f"--web.listen=ssl:0:privateKey={pem}:interface=127.0.0.1") as room:
        url = f"wss://127.0.0.1:{room.port}/chat"
        with connect(url, open_timeout=PATIENCE, ssl=context, compression=None) as client:
            client.send("secret")
            assert client.recv(PATIENCE) == "secret"
            room.service.signal(signal.SIGTERM)
            assert close_code(client) == 1001
        ended(room.service)


def test_closed_ones_make_room():
    """30 clients one after the other, against a limit of 20, shut nobody out; nor do 20 that are cut."""
    with chat("--web.max_connections=20", "--web.max_connections_per_client=20") as room:
        for _ in range(30):
            with room.join() as client:
                client.send("x")
                assert client.recv(PATIENCE) == "x"
        with ExitStack() as many:
            clients = [many.enter_context(room.join()) for _ in range(20)]
            with socket.create_connection(("127.0.0.1", room.port), PATIENCE) as refused:
                assert refused.makefile("rb").readline().startswith(b"HTTP/1.1 503 ")
            for client in clients:
                client.socket.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + PATIENCE
        while not room.has_place():
            assert time.monotonic() < deadline, "the closed ones are still counted"
        with room.join() as client:
            client.send("again")
            assert client.recv(PATIENCE) == "again"


class Shown(ServerCase):
    """Websockets as those see them who look into the process."""

    suppress = ()
    """Of warnings; trial would take contextlib's, which this module imports, for it."""

    async def test_connections_shows_them(self):
        """As what they are, with their path, age and silence, until they end; they are no requests."""
        site = Site(
            Mount({"/chat": WebSockets(runpy.run_path(str(EXAMPLE))["Room"]())}),
            bounds=Bounds(),
            access_log=False,
            reactor=reactor,
        )
        process = Process(About("svc"), reactor)
        listen = ["tcp:0:interface=127.0.0.1"]
        listener = process.add(
            HttpListener("web", flag="web.listen", endpoints=listen, site=site, reactor=reactor)
        )
        await listener.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(listener.stop()))
        at = port({"address": listener.addresses()[0]})
        tools = Tools(process, lambda: {"closes_at": None}, threaded=False)
        self.addCleanup(tools.end)
        joined, leave = Deferred(), threading.Event()

        def stay() -> None:
            url = f"ws://127.0.0.1:{at}/chat?token=secret"
            with connect(url, open_timeout=PATIENCE, compression=None):
                reactor.callFromThread(joined.callback, None)
                leave.wait(PATIENCE)

        staying = deferToThread(stay)
        await joined
        (shown,) = listener.connections()
        assert (shown.at, shown.asked, shown.unsent) == ("websocket: GET /chat", 1, 0)
        assert shown.age is not None
        assert shown.idle is not None
        assert listener.requests() == []
        assert re.match(r"web  127\.0\.0\.1:\d+ .* websocket: GET /chat\nweb: 1\Z", str(tools.connections()))
        leave.set()
        await staying
        await until(lambda: not listener.connections())
        assert tools.connections() == ""


def test_a_client_that_does_not_say_goodbye_is_not_waited_for():
    """TERM ends the process though a client never answers the Close."""
    with chat() as room, socket.create_connection(("127.0.0.1", room.port), PATIENCE) as client:
        client.sendall(
            b"GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        received = client.recv(4096)
        while b"\r\n\r\n" not in received:
            received += client.recv(4096)
        assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in received
        began = time.monotonic()
        room.service.signal(signal.SIGTERM)
        ended(room.service)
        assert time.monotonic() - began < 15


@pytest.mark.parametrize(
    ("send", "code"),
    [
        (lambda client: client.send("x" * (MAX_MESSAGE + 1)), 1009),
        (lambda client: client.send(["x" * 65536] * 17), 1009),
        (lambda client: client.send(b"bytes"), 1003),
        (lambda client: client.socket.sendall(b"\xff\xff"), 1002),
    ],
    ids=["too long", "too long in pieces", "no text", "no frame"],
)
def test_what_is_not_taken(send, code):
    """Each is told by its code, and the others are served on."""
    with chat() as room, room.join() as other:
        with room.join() as client:
            with suppress(ConnectionClosed):
                send(client)
            assert close_code(client) == code
        other.send("still here")
        assert other.recv(PATIENCE) == "still here"


def test_pages_of_other_hosts_are_refused():
    """A browser would send the user's cookies along; what names no origin is no browser."""
    with chat() as room:
        with pytest.raises(InvalidStatus) as refused, room.join(origin="https://evil.example"):
            pass
        assert refused.value.response.status_code == 403
        with room.join(origin=f"http://127.0.0.1:{room.port}") as client:
            client.send("x")
            assert client.recv(PATIENCE) == "x"


HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


@pytest.mark.parametrize("name", ["Upgrade", "Sec-WebSocket-Version"])
def test_what_is_no_handshake_is_told_what_would_be(name):
    """426, with the version that there is (RFC 6455 section 4.4)."""
    headers = {**HANDSHAKE, name: "8"}
    answer = Client(WebSockets(None)).get("/", headers=headers)
    assert (answer.status, answer.headers["Sec-WebSocket-Version"]) == (426, "13")


@pytest.mark.parametrize(
    "key", ["", "abc", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZSE=", "\u00e4" * 22 + "=="]
)
def test_a_key_is_16_bytes_in_base64(key):
    """Another is 400 (RFC 6455 section 4.2.2), and so is none."""
    given = {name: value for name, value in HANDSHAKE.items() if name != "Sec-WebSocket-Key"}
    for headers in (given, {**given, "Sec-WebSocket-Key": key}):
        answer = Client(WebSockets(None)).get("/", headers=headers)
        assert (answer.status, answer.text) == (400, "Sec-WebSocket-Key: 16 bytes in base64 are wanted\n")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Connection", "keep-alive"),
        ("Host", "xn--a"),
        ("Sec-WebSocket-Extensions", "\u00e4"),
        ("Sec-WebSocket-Protocol", "\u00e4"),
    ],
)
def test_what_wsproto_does_not_take_is_400(name, value):
    """A client can write no traceback, and no error, into the log."""
    with capture_logs() as logs:
        answer = Client(WebSockets(None)).get("/", headers={**HANDSHAKE, name: value})
    assert answer.status == 400
    assert logs == []


@pytest.mark.parametrize("origin", ["http://[::1", "http://]", "\u00e4", "", "null"])
def test_an_origin_that_is_none_is_refused(origin):
    """403, as for that of another host, and no traceback."""
    with capture_logs() as logs:
        assert Client(WebSockets(None)).get("/", headers={**HANDSHAKE, "Origin": origin}).status == 403
    assert logs == []


def test_only_a_get_opens_one():
    """A HEAD is told so (RFC 6455 section 4.1)."""
    assert Client(WebSockets(None)).request("HEAD", "/", headers=HANDSHAKE).status == 426


def test_http2_has_none():
    """The answer says so, and the connection goes on."""
    client = h2_tools.Client(resource=WebSockets(None))
    assert client.request().status == 426
    asked = [(":method", "CONNECT"), (":protocol", "websocket"), *h2_tools.GET[1:]]
    assert client.request(asked, end=False).reset == ErrorCodes.PROTOCOL_ERROR
    assert client.request().status == 426
    settings = [each.settings for each in client.frames if isinstance(each, SettingsFrame)]
    # Else browsers would ask for websockets there (RFC 8441 section 3).
    assert not any(SettingsFrame.ENABLE_CONNECT_PROTOCOL in each for each in settings)


def test_the_silent_are_asked_and_the_dead_are_cut(monkeypatch):
    """A ping after SILENCE seconds; after as many more without a byte, the place is free."""
    sent: list[str] = []

    class Member:
        def negotiationStarted(self, transport):
            self.transport = transport

        def negotiationFinished(self):
            sent.append("open")

        def pongReceived(self, payload):
            sent.append("pong")

        def connectionLost(self, reason):
            sent.append("lost")

    class Factory:
        def buildProtocol(self, request):
            return Member()

    monkeypatch.setattr("halfsync.http.taken_over.socket_of", lambda transport: transport)
    connection = Connection(resource=WebSockets(Factory()))
    lines = "".join(f"{name}: {value}\r\n" for name, value in HANDSHAKE.items())
    reply = connection.send(f"GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode())
    assert reply.startswith(b"HTTP/1.1 101 ")
    assert connection.site.connections == 1
    connection.transport.clear()
    clock = connection.clock
    clock.pump([1] * int(SILENCE + 2))
    assert connection.transport.value() == b"\x89\x00"
    # A pong: the client lives, and is asked again later.
    connection.transport.protocol.dataReceived(b"\x8a\x80abcd")
    clock.pump([1] * int(SILENCE + 2))
    assert connection.transport.value() == b"\x89\x00" * 2
    clock.pump([1] * int(SILENCE + 2))
    assert connection.transport.disconnected
    assert sent == ["open", "pong"]


class Quiet:
    """A websocket's protocol that says nothing, on a connection in memory."""

    messages = 0

    def negotiationStarted(self, transport):
        self.transport = transport

    def negotiationFinished(self):
        pass

    def bytesMessageReceived(self, data):
        self.messages += 1

    def connectionLost(self, reason):
        pass

    def buildProtocol(self, request):
        return self


@pytest.fixture
def quiet(monkeypatch):
    """A websocket that is open, in memory; what waits for its client is what the test says."""
    for module in ("taken_over", "rate"):
        monkeypatch.setattr(f"halfsync.http.{module}.socket_of", lambda transport: transport)
    protocol = Quiet()
    connection = Connection(resource=WebSockets(protocol))
    connection.protocol = protocol
    connection.transport.unsent = 0
    lines = "".join(f"{name}: {value}\r\n" for name, value in HANDSHAKE.items())
    assert connection.send(f"GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode()).startswith(b"HTTP/1.1 101 ")
    return connection


@pytest.mark.parametrize("way", ["received", "text", "sent", "unnoticed"])
def test_what_is_in_buffers_counts_and_the_worst_is_cut(quiet, way):
    """A message that has come in part, and what waits for the client; in the end all is given back."""
    transport, memory = quiet.transport, quiet.site.context.memory
    websocket = transport.protocol
    assert memory.held_by(websocket) == memory.taken == A_PROTOCOL
    if way in {"received", "text"}:
        websocket.dataReceived((b"\x82" if way == "received" else b"\x81") + b"\xff" + pack("!Q", 400_000))
        websocket.dataReceived(bytes(4 + 300_000))
    else:
        transport.unsent = 300_000
        if way == "sent":
            websocket.write(b"x")
        else:
            # By what took the transport over without a word to us.
            quiet.clock.advance(1)
    assert memory.taken == A_PROTOCOL + 300_000 * (4 if way == "text" else 1)
    if way == "received":
        # Once it is whole it is the application's.
        websocket.dataReceived(bytes(100_000))
        quiet.clock.advance(1)
        assert memory.taken == A_PROTOCOL
    memory.limit = 100_000
    transport.unsent = 300_000
    with capture_logs() as logs:
        quiet.clock.advance(1)
    assert [each["event"] for each in logs] == ["http.holder_cut"]
    assert transport.disconnected
    transport.lost()
    assert (memory.taken, memory.holders(), quiet.site.connections) == (0, {}, 0)


def test_many_frames_are_read_in_turns(quiet):
    """A client that sends thousands in a piece leaves the reactor to others after each FRAMES of them.

    Meanwhile nothing more is read of it, and what waits counts.
    """
    transport, turn = quiet.transport, quiet.site.context.reading_on._turn
    websocket = transport.protocol
    total = 10 * FRAMES + 1
    data = frame(2, 0) * total + frame(2, 100)[:-1]
    websocket.dataReceived(data)
    turns = 1
    while quiet.protocol.messages < total:
        assert quiet.protocol.messages == turns * FRAMES
        assert transport.producerState == "paused"
        left = len(data) - turns * FRAMES * 6
        assert quiet.site.context.memory.held_by(websocket) == A_PROTOCOL + left
        turn()
        turns += 1
    assert turns == 11
    assert transport.producerState == "producing"
    websocket.dataReceived(b"\0")
    assert quiet.protocol.messages == total + 1


def test_one_that_ends_within_its_turns(quiet):
    """What waits to be read is dropped with the connection, and given back."""
    transport = quiet.transport
    websocket = transport.protocol
    websocket.dataReceived(frame(2, 0) * 10 * FRAMES)
    websocket.connectionLost(None)
    transport.lost()
    quiet.clock.advance(0)
    assert quiet.protocol.messages == FRAMES
    assert quiet.site.context.memory.taken == 0


def frame(opcode: int, length: int, *, fin: bool = True) -> bytes:
    first = bytes([(0x80 if fin else 0) | opcode])
    if length < 126:
        head = bytes([0x80 | length])
    elif length < 65536:
        head = b"\xfe" + pack("!H", length)
    else:
        head = b"\xff" + pack("!Q", length)
    return first + head + bytes(4 + min(length, 100_000))


@pytest.mark.parametrize("step", [1, 2, 7, 10_000])
def test_frames_are_counted_in_pieces_of_any_size(step):
    """Messages one after the other, control frames among their parts, each within the bound."""
    data = (
        frame(1, 900)
        + frame(1, 500, fin=False)
        + frame(9, 100)
        + frame(0, 500)
        + frame(2, 1000)
        + frame(1, 0)
    )
    frames = Frames(1000)
    for start in range(0, len(data), step):
        frames.feed(data[start : start + step])
    assert not frames.too_long
    assert not frames.close_seen
    assert not frames.held, "all is whole"
    frames.feed(frame(8, 2))
    assert frames.close_seen


@pytest.mark.parametrize(
    "data",
    [
        frame(1, 1001),
        frame(1, 600, fin=False) + frame(0, 401),
        frame(2, 70_000),
        b"\x82\xff" + b"\xff" * 8,
    ],
)
def test_a_message_beyond_the_bound_is_found_by_its_heads(data):
    """Before its bytes are collected."""
    frames = Frames(1000)
    frames.feed(data)
    assert frames.too_long


def test_without_wsproto_it_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "twisted.web.websocket", None)
    with pytest.raises(ImportError, match=r"pip install wsproto"):
        WebSockets(None)
