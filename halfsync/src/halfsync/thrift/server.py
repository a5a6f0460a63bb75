"""The factory of RPC connections: counts, bounds, deadlines and drain of all of them. In the reactor."""

from __future__ import annotations

from contextvars import copy_context
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from halfsync import deadline
from halfsync import request_id as request_ids
from halfsync.endpoints.sweeper import Sweeper
from halfsync.logs import get_logger
from halfsync.thrift import codec, peers
from halfsync.thrift.call import set_current
from halfsync.thrift.connection import Connection
from halfsync.thrift.counts import Counts
from halfsync.thrift.errors import DeadlinePassed
from halfsync.thrift.header import is_packed
from halfsync.thrift.login import Login

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IAddress

    from halfsync.thrift.bounds import Bounds
    from halfsync.thrift.login import Logins
    from halfsync.thrift.processor import Done, Processor, Ready
    from halfsync.workers.pool import WorkerPool

log = get_logger(__name__)

GRACE = 0.5
"""Seconds that an idle connection stays open in a drain: its client may just have sent a call."""


class RpcServer(Factory):
    """What all connections of a listener share."""

    noisy = False

    def __init__(
        self,
        processor: Processor,
        workers: WorkerPool,
        *,
        bounds: Bounds,
        logins: Logins | None,
        access_log: bool,
        reactor: Any,
    ) -> None:
        self.processor = processor
        self.bounds = bounds
        self.logins = logins
        self.access_log = access_log
        self.counts = Counts()
        self.held = 0
        """Bytes that all clients cost in memory."""
        self.draining = False
        self.submit = workers.submit
        self.in_reactor = workers.in_reactor
        self.connections: dict[Connection, float] = {}
        """Those that are open, and since when, in `time.monotonic()`."""
        self._reactor = reactor
        self._unknown: dict[Connection, None] = {}
        """Those that have not logged in, the oldest first."""
        self._heavy_turns = max(1, workers.threads // 4)
        self._heavy_waiting: dict[Connection, None] = {}
        self._running: dict[Connection, Deferred[Any]] = {}
        self._grace_until = inf
        self._sweeper = Sweeper(reactor, self._sweep, lambda: GRACE / 5 if self.draining else 1.0)
        self._empty: Deferred[None] | None = None

    @property
    def past_grace(self) -> bool:
        """Whether the process drains, and what arrives now is not begun any more."""
        return self.draining and monotonic() > self._grace_until

    # The listener calls these.

    async def drain(self) -> None:
        """Answer what has arrived, and what arrives within the grace; then close each connection.

        Returns when no connection is open. Cancelling it leaves the server draining.
        """
        self.draining = True
        self._grace_until = monotonic() + GRACE
        for connection in list(self.connections):
            connection.proceed()
        if self.connections:
            self._sweeper.hurry()
            self._empty = Deferred()
            await self._empty

    def abort(self) -> None:
        """Cut every connection."""
        for connection in list(self.connections):
            connection.abort()

    # Connections call these.

    def opened(self, connection: Connection) -> None:
        """Take a connection into account, and begin its login."""
        now = monotonic()
        self.connections[connection] = now
        self.counts.connections += 1
        self._sweeper.begin()
        if len(self.connections) > self.bounds.max_connections:
            connection.refuse("too_many_connections", "there are too many connections", abort=True)
            return
        transport: Any = connection.transport
        if peers.host(transport) != "unix" and hasattr(transport, "setTcpKeepAlive"):
            # A client whose machine is gone says nothing, and its connection may stay for an hour.
            transport.setTcpKeepAlive(1)
        if self.logins is None:
            connection.deadline = self.patience(connection)
            return
        connection.login = Login(connection, self.logins)
        connection.deadline = now + self.bounds.login_timeout
        self._unknown[connection] = None
        if len(self._unknown) > self.bounds.max_logins:
            oldest = next(iter(self._unknown))
            del self._unknown[oldest]
            oldest.refuse("too_many_logins", "there are too many clients that have not logged in", abort=True)

    def authenticated(self, connection: Connection) -> None:
        """Hear that a client is known."""
        self._unknown.pop(connection, None)
        self.counts.logins += 1

    def lost(self, connection: Connection) -> None:
        """Forget a connection."""
        self.connections.pop(connection, None)
        self._unknown.pop(connection, None)
        self._heavy_waiting.pop(connection, None)
        if not self.connections:
            self._sweeper.end()
            if self._empty is not None:
                empty, self._empty = self._empty, None
                empty.callback(None)

    def refused(self, connection: Connection, reason: str, text: str) -> None:
        """Account for a connection that is ended for what its client did."""
        self.counts.refuse(reason)
        log.info("rpc.refused", peer=connection.peer, reason=text)

    def patience(self, connection: Connection) -> float:
        """Return until when a connection may do nothing, or may be at its frame."""
        if connection.reader.held:
            return connection.frame_deadline
        now = monotonic()
        if self.draining:
            return max(now, self._grace_until)
        return now + self.bounds.idle_timeout

    def hold(self, size: int) -> None:
        """Account for memory; beyond the bound, cut the connection that holds most."""
        self.held += size
        if self.held > self.bounds.memory:
            greatest = max(self.connections, key=lambda each: each.held)
            greatest.refuse("memory", "the calls and answers of all clients take too much memory", abort=True)
            self.held -= greatest.held
            greatest.held = 0

    def is_heavy(self, frame: bytes) -> bool:
        """Say whether a call may cost so much time or memory that only a few run at once."""
        return is_packed(frame) or codec.dense(frame)

    def heavy_turn(self, connection: Connection) -> bool:
        """Say whether a heavy call may run now; if not, `proceed` is called when it may."""
        if self._heavy_turns:
            self._heavy_turns -= 1
            return True
        self._heavy_waiting[connection] = None
        connection.deadline = inf
        return False

    def heavy_done(self) -> None:
        """Give the turn of a heavy call to the next."""
        self._heavy_turns += 1
        if self._heavy_waiting:
            connection = next(iter(self._heavy_waiting))
            del self._heavy_waiting[connection]
            self.soon(connection.proceed)

    def soon(self, call: Callable[[], object]) -> None:
        """Make a call in the next turn of the reactor."""
        self._reactor.callLater(0, call)

    def run_async(self, connection: Connection, ready: Ready) -> Done | Deferred[Done]:
        """Run an `async` handler; return its answer, or, when it waits, a Deferred of it that never fails."""
        call = ready.call
        processor = self.processor

        late = False

        def expire() -> None:
            nonlocal late
            late = True
            answered.cancel()

        async def answer() -> Done:
            try:
                value = await ready.method.call(ready.arguments)
            except CancelledError as error:
                if late:
                    return processor.failed(ready, DeadlinePassed())
                return (
                    processor.failed(ready, error)
                    if connection in self.connections
                    else processor.gone(ready)
                )
            except BaseException as error:  # noqa: BLE001  SystemExit, too, is the answer to this call
                return processor.failed(ready, error)
            return processor.returned(ready, value)

        def begin() -> Deferred[Done]:
            set_current(call)
            request_ids.bind(call.request_id)
            with deadline.within(call.remaining()):
                return Deferred.fromCoroutine(answer())

        # What it leaves in context variables must not reach the next.
        answered: Deferred[Done] = copy_context().run(begin)
        if answered.called:
            at_once: list[Done] = []
            answered.addCallback(at_once.append)
            return at_once[0]
        self._running[connection] = answered
        left = call.remaining()
        timer = None if left is None else self._reactor.callLater(max(0.0, left), expire)

        def ended(done: Done) -> Done:
            self._running.pop(connection, None)
            if timer is not None and timer.active():
                timer.cancel()
            return done

        return answered.addCallback(ended)

    def cancel(self, connection: Connection) -> None:
        """Cancel the `async` handler of a client that is gone."""
        running = self._running.get(connection)
        if running is not None:
            running.cancel()

    # Twisted calls these.

    def buildProtocol(self, addr: IAddress | None) -> Connection:
        """Make a connection."""
        del addr
        return Connection(self)

    def startFactory(self) -> None:
        """There is nothing to begin."""

    def stopFactory(self) -> None:
        """There is nothing to undo."""

    def _sweep(self) -> None:
        """Look at every deadline; each connection is spared a timer."""
        now = monotonic()
        for connection in [each for each in self.connections if each.deadline <= now]:
            try:
                connection.expire()
            except Exception:
                # The deadlines of all others are behind it.
                log.exception("rpc.expiry_failed", peer=connection.peer, failure=Failure())
                connection.abort()
