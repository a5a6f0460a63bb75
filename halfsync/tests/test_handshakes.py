"""From an accepted socket to a connection over TLS, and what becomes of clients that do not get there."""

from __future__ import annotations

import contextlib
import socket
import ssl
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from structlog.testing import capture_logs
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from certificates import make_certificate, write
from halfsync.endpoints import handshakes, parse
from halfsync.life.sockets import Sockets

if TYPE_CHECKING:
    from halfsync.endpoints.ports import ListeningPort

PIECE = bytes(range(256)) * 64
LONG = 3_000_000


class Echo(Protocol):
    """Sends back what comes, and ends when the client does."""

    def connectionMade(self) -> None:
        self.factory.open.add(self)

    def dataReceived(self, data: bytes) -> None:
        self.factory.received += len(data)
        if data.startswith(b"long"):
            for _ in range(LONG // len(PIECE)):
                self.transport.write(PIECE)
            self.transport.loseConnection()
        elif data.startswith(b"bye"):
            self.transport.write(b"bye")
            self.transport.loseConnection()
        else:
            self.transport.write(data)

    def connectionLost(self, reason: Any) -> None:
        self.factory.open.discard(self)
        self.factory.reasons.append(reason.type.__name__)
        if not self.factory.open:
            waiting, self.factory.waiting = self.factory.waiting, []
            for each in waiting:
                each.callback(None)


class Pauses(Echo):
    """Takes nothing for a while after the first byte that it hears of."""

    def dataReceived(self, data: bytes) -> None:
        self.factory.received += len(data)
        self.transport.pauseProducing()
        reactor.callLater(0, self.transport.resumeProducing)
        if self.factory.received >= LONG:
            self.transport.write(b"all")
            self.transport.loseConnection()


class Sinks(Pauses):
    """Has bytes read right into memory of its own that is smaller than a record."""

    def connectionMade(self) -> None:
        super().connectionMade()
        self.memory = bytearray(1000)
        self.transport.sink = memoryview(self.memory)

    def sank(self, count: int) -> None:
        self.factory.received += count
        if self.factory.received >= LONG:
            self.transport.sink = None
            self.transport.write(b"all")
            self.transport.loseConnection()


def context(alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    if alpn:
        trusting.set_alpn_protocols(list(alpn))
    return trusting


def read_all(connection: socket.socket) -> bytes:
    said = b""
    while more := connection.recv(65536):
        said += more
    return said


class Over(TestCase):
    """Clients of a port with TLS."""

    timeout = 60

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.pem = write(self.folder / "x.pem", *make_certificate("localhost"))

    def serve(
        self, protocol: type[Protocol] = Echo, *, before: str = "", factory: Any = None
    ) -> ListeningPort:
        if factory is None:
            factory = Factory.forProtocol(protocol)
            factory.open, factory.waiting, factory.reasons, factory.received = set(), [], [], 0
        self.factory = factory
        text = f"{before}ssl:0:privateKey={self.pem}:interface=127.0.0.1"
        port = parse(text).listen(factory, reactor, Sockets())

        async def clean() -> None:
            await port.close()
            port.handshakes.abort()
            if getattr(factory, "open", None):
                done: Deferred[None] = Deferred()
                factory.waiting.append(done)
                await done

        self.addCleanup(lambda: Deferred.fromCoroutine(clean()))
        return port

    def connect(self, port: ListeningPort) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", port.port), 20)
        self.addCleanup(client.close)
        return client

    def shake_hands(self, client: socket.socket, alpn: tuple[str, ...] = (), **how: Any) -> ssl.SSLSocket:
        trusting = how.pop("trusting", None) or context(alpn)
        served = trusting.wrap_socket(client, **how)
        self.addCleanup(served.close)
        return served

    async def until(self, condition: Any) -> None:
        while not condition():
            await deferLater(reactor, 0.01)

    async def test_an_unknown_protocol_is_answered_with_alert_120(self) -> None:
        """RFC 7301 section 3.2: no_application_protocol; a client that offers none is served."""
        port = self.serve(factory=Site(Resource()))
        with capture_logs() as events, self.connect(port) as client:
            refused = deferToThread(self.shake_hands, client, ("smtp",))
            error = await self.assertFailure(refused, ssl.SSLError)
        assert "alert no application protocol" in str(error)
        assert [event["event"] for event in events] == ["tls.handshake_failed"]
        for offered, agreed in (((), None), (("smtp", "http/1.1"), "http/1.1")):
            with self.connect(port) as client:
                served = await deferToThread(self.shake_hands, client, offered)
                assert served.selected_alpn_protocol() == agreed
                served.close()

    async def test_plain_http_is_answered_in_plain_http(self) -> None:
        """400 with what would be right, and a line in the log."""
        port = self.serve()
        with capture_logs() as events:
            with self.connect(port) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                said = await deferToThread(read_all, client)
                name = client.getsockname()
            await self.until(lambda: not len(port.handshakes))
        head, _, body = said.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b"https://" in body
        (event,) = events
        assert (event["event"], event["client"]) == ("tls.plain_http", f"127.0.0.1:{name[1]}")
        assert port.handshakes.results == {"plain_http": 1}

    async def test_a_handshake_byte_by_byte(self) -> None:
        """It is made all the same, and nothing of it is lost."""
        port = self.serve()
        to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context().wrap_bio(to_client, to_server)

        def shake() -> bytes:
            with self.connect(port) as client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while True:
                    try:
                        tls.do_handshake()
                        break
                    except ssl.SSLWantReadError:
                        for byte in to_server.read():
                            client.sendall(bytes([byte]))
                        to_client.write(client.recv(65536))
                tls.write(b"bye")
                for byte in to_server.read():
                    client.sendall(bytes([byte]))
                to_client.write(read_all(client))
                return tls.read()

        assert await deferToThread(shake) == b"bye"

    async def test_who_began_in_time_is_not_cut_as_the_process_was_held(self) -> None:
        """What a client has sent is read before deadlines are looked at."""
        port = self.serve()
        outgoing = ssl.MemoryBIO()
        tls = context().wrap_bio(ssl.MemoryBIO(), outgoing)
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        with mock.patch.object(handshakes, "TIMEOUT", 0.5), self.connect(port) as client:
            await self.until(lambda: len(port.handshakes))

            def hold() -> None:
                client.sendall(outgoing.read())
                time.sleep(handshakes.SWEEP + 0.2)

            reactor.callFromThread(hold)
            assert await deferToThread(client.recv, 1) == b"\x16", "a record of a handshake"

    async def test_the_goodbye_is_said(self) -> None:
        """close_notify ends what was sent; a client that requires it sees no truncation, of 3 MB, either."""
        port = self.serve()

        def ask(what: bytes) -> bytes:
            with self.connect(port) as client:
                strict = self.shake_hands(client, suppress_ragged_eofs=False)
                strict.sendall(what)
                return read_all(strict)

        assert await deferToThread(ask, b"bye") == b"bye"
        assert len(await deferToThread(ask, b"long")) == LONG // len(PIECE) * len(PIECE)

    async def test_the_end_of_a_client_is_told_apart_from_a_cut(self) -> None:
        """A goodbye is a clean end; an end without is a lost connection."""
        port = self.serve()

        def leave(*, goodbye: bool) -> None:
            with self.connect(port) as client:
                served = self.shake_hands(client)
                served.sendall(b"x")
                served.recv(1)
                if goodbye:
                    with contextlib.suppress(OSError):
                        served.unwrap()
                served.close()

        for goodbye, reason in ((True, "ConnectionDone"), (False, "ConnectionLost")):
            await deferToThread(leave, goodbye=goodbye)
            await self.until(lambda: not self.factory.open)
            assert self.factory.reasons[-1] == reason

    async def sent_whole(self, protocol: type[Protocol]) -> None:
        port = self.serve(protocol)

        def upload() -> bytes:
            with self.connect(port) as client:
                served = self.shake_hands(client)
                served.sendall(b"x" * LONG)
                return read_all(served)

        assert await deferToThread(upload) == b"all"
        assert self.factory.received == LONG

    async def test_what_openssl_holds_never_stalls_behind_pauses(self) -> None:
        """The protocol pauses and resumes at every piece."""
        await self.sent_whole(Pauses)

    async def test_what_openssl_holds_never_stalls_behind_a_small_sink(self) -> None:
        """Of a record of 16 KiB, 1,000 bytes are read at a time."""
        await self.sent_whole(Sinks)

    async def test_sessions_are_resumed(self) -> None:
        """A client with a ticket is spared the certificate, with TLS 1.3 and 1.2."""
        port = self.serve()

        def twice(version: ssl.TLSVersion) -> bool:
            trusting, session = context(), None
            trusting.minimum_version = trusting.maximum_version = version
            for _ in range(2):
                with self.connect(port) as client:
                    served = self.shake_hands(client, trusting=trusting, session=session)
                    served.sendall(b"bye")
                    read_all(served)
                    session = served.session
                    reused = bool(served.session_reused)
            return reused

        assert await deferToThread(twice, ssl.TLSVersion.TLSv1_2)
        assert await deferToThread(twice, ssl.TLSVersion.TLSv1_3)

    async def test_a_stalled_handshake_ends_at_its_deadline(self) -> None:
        """Whether nothing came, or half a ClientHello."""
        with mock.patch.object(handshakes, "TIMEOUT", 0.1), mock.patch.object(handshakes, "SWEEP", 0.05):
            port = self.serve()
            for start in (b"", b"\x16\x03\x01\x02\x00\x01"):
                with self.connect(port) as client:
                    client.sendall(start)
                    # A socket that is closed with bytes unread is reset.
                    with contextlib.suppress(ConnectionResetError):
                        assert await deferToThread(client.recv, 1) == b""
        assert port.handshakes.results == {"timeout": 2}
        assert self.factory.reasons == []

    async def test_there_is_a_bound_on_handshakes(self) -> None:
        """Beyond it the oldest makes room, and an honest client is served."""
        port = self.serve()
        with mock.patch.object(handshakes, "MOST", 3), capture_logs() as events:
            stalled = [self.connect(port) for _ in range(5)]
            await self.until(lambda: port.handshakes.results["cut"] == 2)
            assert await deferToThread(stalled[0].recv, 1) == b""
            with self.connect(port) as client:
                served = await deferToThread(self.shake_hands, client)
                served.sendall(b"x")
                assert await deferToThread(served.recv, 1) == b"x"
                served.close()
        assert {event["event"] for event in events} == {"handshakes.too_many"}

    async def test_proxy_headers(self) -> None:
        """One that tells nothing is served; a malformed one is refused with one line, and no traceback."""
        port = self.serve(before="haproxy:")
        with self.connect(port) as client:
            client.sendall(b"PROXY UNKNOWN\r\n")
            served = await deferToThread(self.shake_hands, client)
            served.sendall(b"x")
            assert await deferToThread(served.recv, 1) == b"x"
            served.close()
        for line in (
            b"PROXY TCP4 \x1b[2J 192.0.2.1 1 2\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.1 99999 443\r\n",
        ):
            port.handshakes.log._last.clear()
            with capture_logs() as events, self.connect(port) as client:
                client.sendall(line)
                assert await deferToThread(read_all, client) == b""
            assert [event["event"] for event in events] == ["proxy_header.refused"]
            assert events[0]["reason"].isprintable()

    async def test_a_drain_waits_for_handshakes_that_become_connections(self) -> None:
        """And not for those that stall."""
        port = self.serve()
        with self.connect(port) as client, self.connect(port), mock.patch.object(handshakes, "DRAIN", 0.3):
            await self.until(lambda: len(port.handshakes) == 2)
            port.stop_accepting()
            drained = Deferred.fromCoroutine(port.handshakes.drain())
            served = await deferToThread(self.shake_hands, client)
            served.sendall(b"x")
            assert await deferToThread(served.recv, 1) == b"x"
            with mock.patch.object(handshakes, "SWEEP", 0.05):
                await drained
            served.close()
        assert port.handshakes.results == {"done": 1, "timeout": 1}
