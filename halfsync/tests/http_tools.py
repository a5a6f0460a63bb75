"""What the tests of HTTP share: a site in memory, one on a real port, and a client that sends raw bytes."""

from __future__ import annotations

import io
from contextvars import copy_context
from http.client import HTTPResponse
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from twisted.internet import reactor, tcp
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from halfsync.endpoints.poller import Poller
from halfsync.endpoints.transport import SocketTransport
from halfsync.http.bounds import Bounds
from halfsync.http.site import Site
from halfsync.http.wsgi.gateway import Gateway
from halfsync.workers import lines as worker_lines
from halfsync.workers.client_waits import ClientWaits
from halfsync.workers.pool import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 60
"""Seconds after which what is awaited has failed."""

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def hello(environ, start_response):
    """The smallest application."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]


class Inline:
    """Workers that make every call at once."""

    threads = 1
    client_waits = ClientWaits(1)

    def submit(self, call, label, *, patient=False, deadline=None, critical=False):
        copy_context().run(call)

    def retry_after(self):
        return 1

    def in_reactor(self, function, *args):
        function(*args)

    def skipped(self): ...

    def progress(self, *, waiting=False): ...


class Connection:
    """A connection in memory to a site whose time is a Clock."""

    def __init__(self, app: Any = hello, *, resource: Any = None, access_log: bool = False, **bounds: Any):
        self.clock = Clock()
        self.site = Site(
            resource or Gateway(app, Inline()),
            bounds=Bounds(**bounds),
            access_log=access_log,
            reactor=self.clock,
        )
        self.transport = StringTransport(lenient=True)
        self.connection = self.site.buildProtocol(None)
        self.connection.makeConnection(self.transport)

    def send(self, data: bytes) -> bytes:
        """Send bytes; return what came back for them."""
        self.transport.clear()
        self.connection.dataReceived(data)
        return self.transport.value()

    def lose(self) -> None:
        """Close the connection from the client's side."""
        self.connection.connectionLost(Failure(ConnectionDone()))

    @property
    def open(self) -> bool:
        """Whether the server still wants the connection."""
        return not self.transport.disconnecting


async def until(true: Callable[[], object]) -> None:
    """Wait, with the reactor running, until something is so."""
    ends = reactor.seconds() + PATIENCE
    while not true():
        assert reactor.seconds() < ends, "it has not become so"
        await deferLater(reactor, 0.002)


class Raw(Protocol):
    """A client that sends what it is told to, and waits for what comes."""

    keep: int | None = None
    """How many of the last bytes received to keep."""

    def __init__(self):
        self.received = b""
        self.size = 0
        self.lost: str | None = None
        self._waits: list[tuple[Any, Deferred[None]]] = []

    def dataReceived(self, data):
        self.size += len(data)
        self.received = (self.received + data)[-self.keep if self.keep else 0 :]
        self._look()

    def connectionLost(self, reason):
        self.lost = reason.type.__name__
        self._look()

    async def until(self, condition) -> None:
        """Return when the condition holds."""
        wait: Deferred[None] = Deferred()
        self._waits.append((condition, wait))
        self._look()
        await wait

    async def bytes(self, text: bytes, count: int = 1) -> bytes:
        """Return everything received, once it holds the text so many times."""
        await self.until(lambda: self.received.count(text) >= count or self.lost)
        assert self.received.count(text) >= count, (self.received, self.lost)
        return self.received

    async def closed(self) -> bytes:
        """Return everything received, once the connection is closed."""
        await self.until(lambda: self.lost)
        return self.received

    def _look(self):
        for pair in list(self._waits):
            if pair[0]():
                self._waits.remove(pair)
                pair[1].callback(None)


class _Port(tcp.Port):
    """A port whose connections have the transport that those of our endpoints have."""

    def startListening(self):
        self.poller = Poller(self.reactor)
        super().startListening()

    def transport(self, sock, protocol, client, *_):
        return SocketTransport(sock, protocol, client, None, 0, self.poller)


class Turns:
    """A reactor of which a turn can be had at a time; a Clock goes on while there is something to do."""

    def __init__(self):
        self.calls = []

    def callLater(self, delay, call):
        """Make a call in the next turn."""
        assert delay == 0
        self.calls.append(call)
        return call

    def next(self) -> None:
        """Make one turn."""
        calls, self.calls = self.calls, []
        for call in calls:
            call()


class ServerCase(TestCase):
    """A test with sites on real ports."""

    timeout = 100

    def serve(
        self, app: Any = hello, *, resource: Any = None, threads=2, queue=2, access_log=False, **bounds
    ):
        """Serve an application on a free port until the test ends.

        No request is refused because others wait for long: a machine that is at other things is no overload.
        """
        patient = mock.patch.object(worker_lines, "INTERVAL", inf)
        patient.start()
        self.addCleanup(patient.stop)
        self.pool = WorkerPool("workers", threads=threads, queue=queue, reactor=reactor)
        self.site = Site(
            resource or Gateway(app, self.pool),
            bounds=Bounds(**bounds),
            access_log=access_log,
            reactor=reactor,
        )
        self.port = _Port(0, self.site, interface="127.0.0.1", reactor=reactor)
        self.port.startListening()
        self.clients: list[Raw] = []

        async def clean() -> None:
            await self.port.stopListening()
            await self.pool.stop()
            self.site.abort()
            for client in self.clients:
                await client.closed()
            if self.site.connections:
                await self.site.drain()

        self.addCleanup(lambda: Deferred.fromCoroutine(clean()))

    async def connect(self, data: bytes = b"") -> Raw:
        """Open a connection and send something on it."""
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.port.getHost().port)
        client = await connectProtocol(endpoint, Raw())
        self.clients.append(client)
        client.transport.write(data)
        return client


class _Received:
    def __init__(self, data):
        self.makefile = lambda mode: io.BytesIO(data)


def parse(data: bytes, method: str = "GET") -> HTTPResponse:
    """Parse one response; its body is read into `.data`."""
    response = HTTPResponse(_Received(data), method=method)
    response.begin()
    response.data = response.read()
    return response


def resident() -> int:
    """Return how much memory this process holds, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
