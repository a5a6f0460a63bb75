"""A response that a thread makes piece by piece, on its way to a client that may be slow."""

from __future__ import annotations

from threading import Condition
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from halfsync.endpoints.addresses import address_text
from halfsync.http.wsgi.spool import open_spool
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from halfsync.http.stream import ResponseHead, Stream
    from halfsync.http.wsgi.spool import Spool
    from halfsync.workers.client_waits import ClientWaits

log = get_logger(__name__)

SLICE = 64 * 1024
"""Bytes that are on their way to the reactor at most, and to the client before anything waits for it.

A body in one piece of that size is handed over whole.
"""

SLOW = 0.5
"""Seconds that a thread waits for a client before what follows goes to the disk."""

GRACE = 0.02
"""The same while half of all threads wait so already."""


class Workers(Protocol):
    """What the gateway needs of `halfsync.workers.pool.WorkerPool`."""

    threads: int
    """How many there may be."""
    client_waits: ClientWaits
    """Those of them that wait for clients."""

    def submit(
        self,
        call: Callable[[], object],
        label: str | Callable[[], str],
        *,
        patient: bool = False,
        deadline: float | None = None,
        critical: bool = False,
    ) -> None:
        """Have a thread make the call, or raise Busy."""

    def retry_after(self) -> int:
        """Say after how many seconds a client may try again."""

    def in_reactor(self, function: Callable[..., object], *args: object) -> None:
        """Make a call in the reactor's thread."""

    def skipped(self) -> None:
        """Hear that a call did nothing, as its client had left."""

    def progress(self, *, waiting: bool = False) -> None:
        """Hear from a thread that its call gets on, or waits for somebody else: it is not stuck."""


class Disconnected(ConnectionError):  # noqa: N818  said by the application's own frames: no fault of theirs
    """The client is gone, so the rest of the response has nowhere to go."""


class Flow:
    """The pieces; nothing ever waits for the disk while the lock is held."""

    def __init__(self, stream: Stream, workers: Workers, head: ResponseHead, waits: ClientWaits) -> None:
        self.passed = 0
        """Bytes that have gone to the reactor, or to the disk."""
        self.begun = monotonic()
        self._stream = stream
        self._workers = workers
        self._waits = waits
        self._head = head
        self._lock = Condition()
        self._gone = False
        self._paused = False
        self._behind = 0
        """Bytes that the reactor has been given and has not taken."""
        self._spool: Spool | None = None
        """What follows them on the disk, when the client is slow."""
        self._ending = False
        """Whether nothing follows what is in the spool."""
        self._trailers: Sequence[tuple[str, str]] = ()
        """What follows the body."""

    # In the thread.

    def send(self, data: bytes) -> None:
        """Hand a piece over when the client has taken enough of those before it, or put it on the disk.

        :raises Disconnected: when the client is gone.
        """
        lock, disk = self._lock, self._stream.context.disk
        while True:
            with lock:
                spool = self._spool
                if spool is None and self._wait_a_little():
                    break
            if spool is None:
                spool = open_spool(disk, self._stream.holder)
                with lock:
                    if spool is None:
                        self._wait_for_client(self._may_go_on)
                        break
                    self._spool = spool
            if spool.append(data):
                self._passed(data)
                self._workers.in_reactor(self._feed)
                return
            with lock:
                # The disk is full, or our part of it: the client has to take what is there first.
                self._wait_for_client(lambda: self._spool is None)
        with lock:
            self._behind += len(data)
        self._passed(data)
        self._workers.in_reactor(self._take, data)

    def cut(self) -> None:
        """Have the client cut: it is the slowest of too many that threads wait for. From any thread."""
        self._workers.in_reactor(self._cut)

    def _passed(self, data: bytes) -> None:
        self.passed += len(data)
        self._workers.progress()

    def _wait_a_little(self) -> bool:
        """Wait for a client that may be about to go on; return False when it is not."""
        if self._wait(self._may_go_on, GRACE):
            return True
        return not self._waits.crowded and self._wait_for_client(self._may_go_on, SLOW - GRACE)

    def _wait_for_client(self, condition: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait, as one of the threads that wait for clients."""
        self._workers.progress(waiting=True)
        with self._waits.wait(self):
            return self._wait(condition, timeout)

    def _wait(self, condition: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait for the reactor; return False when it took too long."""
        found = self._lock.wait_for(lambda: self._gone or condition(), timeout)
        if self._gone:
            raise Disconnected("the client closed the connection")
        return found

    def _may_go_on(self) -> bool:
        return not (self._paused or self._behind >= SLICE)

    # In the reactor.

    def gone(self) -> None:
        """Stop: there is no client. May be called again, from any thread."""
        self._gone = True
        with self._lock:
            self._lock.notify_all()
        if self._spool is not None:
            self._spool.close()

    def pause(self) -> None:
        """Have the thread wait."""
        self._paused = True

    def resume(self) -> None:
        """Have the thread go on."""
        self._paused = False
        with self._lock:
            self._lock.notify_all()
        self._feed()

    def finish(self, trailers: Sequence[tuple[str, str]] = ()) -> None:
        """End the response, once what is on the disk is sent."""
        if self._gone:
            return
        if self._spool is not None:
            self._ending, self._trailers = True, trailers
            self._feed()
            return
        if not self._stream.code:
            # A body of nothing, which has trailers.
            self._stream.begin(self._head)
        self._stream.finish(trailers)

    def _cut(self) -> None:
        if not self._gone:
            log.info("http.stalled", peer=address_text(self._stream.client), unsent=self._behind)
            self.gone()
            self._stream.abort()

    def _take(self, data: bytes) -> None:
        if self._gone:
            return
        if self._stream.code:
            self._stream.write(data)
        else:
            self._stream.begin(self._head, data)
        with self._lock:
            self._behind -= len(data)
            self._lock.notify_all()
        self._feed()

    def _feed(self) -> None:
        """Send of what waits on the disk as much as the client takes, once it has what came before."""
        try:
            while (spool := self._spool) is not None and not (self._gone or self._paused or self._behind):
                if data := spool.take(SLICE):
                    self._stream.write(data)
                elif spool.close_if_empty():
                    with self._lock:
                        self._spool = None
                        self._lock.notify_all()
                    if self._ending:
                        self._stream.finish(self._trailers)
                else:
                    # A thread is writing to it, and says so when it has.
                    return
        except OSError as error:
            # The disk does not give back what it has taken.
            log.warning("http.spool_failed", problem=str(error))
            self.gone()
            self._stream.fail()
