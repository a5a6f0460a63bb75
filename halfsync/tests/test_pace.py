"""Clients that take what they have asked for slowly, or not at all; on a Clock."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest
from hpack import Encoder
from hyperframe.frame import DataFrame, HeadersFrame, SettingsFrame, WindowUpdateFrame
from structlog.testing import capture_logs
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

import h2_tools
from halfsync.endpoints.transport import SocketTransport
from halfsync.http.bounds import Bounds
from halfsync.http.rate import unsent, untaken
from halfsync.http.site import Site
from http_tools import GET

BOUNDS = {"write_timeout": 10, "min_rate": 1000, "idle_timeout": 3600, "request_timeout": 30}


class Slow(SocketTransport):
    """A connection whose client takes what `take` says; the queue is our own."""

    aborted = disconnected_orderly = False

    def __init__(self, clock: Clock):
        self.reactor = clock
        self.socket = SimpleNamespace(family=socket.AF_UNIX)
        self.reading = True
        self.received = bytearray()
        self._room = 0

    @property
    def untaken(self):
        return self.unsent

    hung_up = False

    def _send(self, pieces):
        taken = b"".join(pieces)[: self._room]
        self._room -= len(taken)
        self.received += taken
        return len(taken)

    def take(self, size: int) -> None:
        """Take so many bytes, if they are there."""
        self._room = size
        while self.unsent and self._room:
            self.doWrite()
        self._room = 0

    def startReading(self):
        self.reading = True

    def stopReading(self):
        self.reading = False

    def startWriting(self):
        pass

    stopWriting = startWriting

    def abortConnection(self):
        self.aborted = True

    def loseConnection(self):
        self.disconnected_orderly = True

    def getPeer(self):
        return IPv4Address("TCP", "192.0.2.1", 1)

    getHost = getPeer


class Endless(Resource):
    """Writes whenever it may, and then so many bytes more: what was on its way."""

    isLeaf = True
    enough = False

    def __init__(self, more: int = 0):
        super().__init__()
        self.more = more

    def render_GET(self, request):
        self.request = request
        self.paused = False
        request.registerProducer(self, streaming=True)
        self.resumeProducing()
        return NOT_DONE_YET

    def pauseProducing(self):
        if not self.paused:
            self.paused = True
            if self.more:
                self.request.write(bytes(self.more))

    def resumeProducing(self):
        self.paused = False
        while not (self.paused or self.enough):
            self.request.write(bytes(16384))

    def stopProducing(self):
        self.paused = True


class Ample(Resource):
    """Answers with 256 KiB at once."""

    isLeaf = True
    BODY = bytes(256 * 1024)
    asked = 0

    def render_GET(self, request):
        self.asked += 1
        return self.BODY


def h2_request(path: str = "/", window: int = 2**31 - 1) -> bytes:
    """Say hello, open the windows, and ask."""
    headers = [(name, path if name == ":path" else value) for name, value in h2_tools.GET]
    head = HeadersFrame(1, Encoder().encode(headers))
    head.flags |= {"END_HEADERS", "END_STREAM"}
    frames = [
        SettingsFrame(0, {SettingsFrame.INITIAL_WINDOW_SIZE: window}),
        WindowUpdateFrame(0, 2**31 - 1 - 65535),
        head,
    ]
    return h2_tools.PREFACE + b"".join(frame.serialize() for frame in frames)


class Connection:
    """A connection in memory to a resource."""

    def __init__(self, resource: Resource, request: bytes, **bounds):
        self.clock = Clock()
        self.resource = resource
        self.site = Site(resource, bounds=Bounds(**(BOUNDS | bounds)), access_log=False, reactor=self.clock)
        self.transport = Slow(self.clock)
        self.transport.protocol = self.site.buildProtocol(None)
        self.transport.protocol.makeConnection(self.transport)
        self.send(request)

    def send(self, data: bytes) -> None:
        """Send bytes, though the server may not want to read any."""
        self.transport.protocol.dataReceived(data)

    def advance(self, seconds: int, rate: int = 0) -> None:
        """Let time pass, and take so many bytes in each second of it."""
        for _ in range(seconds):
            self.clock.pump([0.25] * 4)
            self.transport.take(rate)


@pytest.mark.parametrize("request_bytes", [GET, h2_request()], ids=["h1", "h2"])
class TestPace:
    """The same for a connection of either protocol."""

    def test_too_slow(self, request_bytes):
        """Who takes less than `min_rate` is cut after `write_timeout`, though every second something goes."""
        connection = Connection(Endless(), request_bytes)
        with capture_logs() as logs:
            connection.advance(9, 900)
            assert not connection.transport.aborted
            connection.advance(2, 900)
        assert connection.transport.aborted
        assert [each["event"] for each in logs] == ["http.stalled"]

    def test_an_application_that_does_not_wait(self, request_bytes):
        """What is written all the same buys a client no time."""
        connection = Connection(Endless(), request_bytes)
        with capture_logs():
            for _ in range(11):
                connection.resource.request.write(b"more")
                connection.advance(1)
        assert connection.transport.aborted

    @pytest.mark.parametrize(("period", "amount"), [(1, 1100), (7, 80_000), (30, 200_000)])
    def test_fast_enough(self, request_bytes, period, amount):
        """Who takes more is served for as long as it takes, be it in a large step now and then."""
        connection = Connection(Endless(), request_bytes, write_timeout=30 if period == 30 else 10)
        for _ in range(200 // period):
            connection.advance(period - 1)
            connection.transport.take(amount)
            connection.clock.pump([0.25] * 4)
            assert not connection.transport.aborted

    def test_what_was_on_its_way(self, request_bytes):
        """What comes when the buffer is full already is not held against the client."""
        connection = Connection(Endless(more=64_000), request_bytes)
        for _ in range(20):
            connection.advance(9)
            connection.transport.take(62_000)
            connection.advance(1)
            assert not connection.transport.aborted

    def test_the_end_of_a_response(self, request_bytes):
        """A whole response that is not taken is no idle connection."""
        connection = Connection(Ample(), request_bytes)
        with capture_logs():
            connection.advance(11)
        assert connection.transport.aborted


class TestAhead:
    """Requests that come ahead of the answers, on HTTP/1.1."""

    def test_answers(self):
        """No request is answered before the client has taken the answers before it; in the end all are."""
        connection = Connection(Ample(), GET * 300)
        assert connection.resource.asked == 1
        assert unsent(connection.transport) < 300_000
        for _ in range(300):
            connection.transport.take(262_000)
        connection.transport.take(1_000_000)
        assert connection.resource.asked == 300
        assert connection.transport.received.count(b"HTTP/1.1 200 OK") == 300
        assert not connection.transport.aborted

    def test_half_closed(self):
        """A client that closes its side still gets all of them; after the last the connection is closed."""
        connection = Connection(Ample(), GET * 3)
        connection.transport.protocol.readConnectionLost()
        assert connection.resource.asked == 1
        connection.transport.take(1_000_000)
        assert connection.transport.received.count(b"HTTP/1.1 200 OK") == 3
        assert connection.transport.disconnected_orderly
        assert b" 400 " not in connection.transport.received

    def test_what_is_kept(self):
        """While an answer waits for the client, little of what it goes on sending is taken."""
        connection = Connection(Endless(), GET)
        sent = 0
        while connection.transport.reading and sent < 10_000_000:
            connection.send(GET * 100)
            sent += len(GET) * 100
        assert sent < 100_000
        connection.resource.enough = True
        for _ in range(1 + sent // len(GET)):
            connection.transport.take(1_000_000)
            connection.resource.request.unregisterProducer()
            connection.resource.request.finish()
        connection.transport.take(1_000_000)
        assert connection.transport.reading
        assert connection.transport.received.count(b"HTTP/1.1 200 OK") == 1 + sent // len(GET)

    def test_each_has_its_time(self):
        """A request that had to wait for the client to take others is not too late for that."""
        connection = Connection(Ample(), GET + GET[:20])
        connection.advance(40, 6000)
        assert not connection.transport.aborted
        connection.transport.take(1_000_000)
        connection.send(GET[20:])
        connection.transport.take(1_000_000)
        assert connection.transport.received.count(b"HTTP/1.1 200 OK") == 2
        assert b" 408 " not in connection.transport.received


def test_an_upload_beside_a_slow_download():
    """What an HTTP/2 connection did not read while it was full is not held against its other streams."""
    connection = Connection(Endless(), h2_request())
    connection.transport.take(unsent(connection.transport))
    connection.clock.advance(0)
    head = HeadersFrame(3, Encoder().encode(h2_tools.POST))
    head.flags.add("END_HEADERS")
    connection.send(head.serialize())
    connection.advance(1)
    for _ in range(40):
        connection.transport.take(1100)
        connection.advance(1)
    assert not connection.transport.reading
    connection.resource.enough = True
    while left := unsent(connection.transport):
        connection.transport.take(left)
    connection.clock.pump([0.25] * 4)
    assert connection.transport.reading
    assert connection.site.counts.refused == {}
    body = DataFrame(3, b"")
    body.flags.add("END_STREAM")
    connection.send(body.serialize())
    assert connection.site.counts.requests == {("POST", 405): 1}
    connection.transport.protocol.connectionLost(Failure(ConnectionDone()))


def test_what_the_kernel_holds():
    """It counts as not taken until the client has read it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    with client, ours:
        ours.settimeout(0)
        transport = SocketTransport(ours, None, None, None, 0, MemoryReactorClock())
        sent = 0
        while True:
            try:
                sent += ours.send(bytes(65536))
            except BlockingIOError:
                break
        kept = untaken(transport)
        assert unsent(transport) == 0
        assert 0 < kept <= sent
        taken = 0
        while taken < sent:
            taken += len(client.recv(1 << 20))
        client.sendall(b"x")
        # The last acknowledgement may be on its way.
        while untaken(transport):
            client.sendall(b"x")
