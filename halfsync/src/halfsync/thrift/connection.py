"""A connection: its login, then frames to jobs and answers to the client, within bounds. In the reactor.

    bytes -> frames -> waiting -> one job at a time in a thread -> answers -> one write

While a job is out, or the client does not take its answers, what arrives waits, and past a bound
the transport is paused: the rest waits with the client.
"""

from __future__ import annotations

from collections import deque
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol
from zope.interface import implementer

from halfsync.logs import get_logger
from halfsync.thrift import errors, peers
from halfsync.thrift.counts import log_call
from halfsync.thrift.framing import FrameReader
from halfsync.thrift.job import Job
from halfsync.thrift.processor import Done, Ready
from halfsync.workers import Busy

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    from halfsync.thrift.call import Identity
    from halfsync.thrift.login import Login

log = get_logger(__name__)

JOB_CALLS, JOB_BYTES = 32, 256 * 1024
"""What one job takes at most: the next client's turn comes after that."""

WAITING_CALLS = 64
"""Calls that may wait; with as many, or with as many bytes as a frame may have, reading stops."""

SMALL = 4 * 1024
"""Bytes of a call up to which the reactor decodes it itself, when its handler is `async`."""


@implementer(IPushProducer)
class Connection(Protocol):
    """One client."""

    identity: Identity | None = None
    login: Login | None = None
    peer = "unknown"
    deadline = inf
    """Until when something must happen, in `time.monotonic()`."""
    frame_deadline = inf
    """Until when the frame that has begun to arrive must have done so."""
    held = 0
    """Bytes that this client costs in memory."""
    busy: Job | Ready | None = None
    """What is being answered."""
    asked = 0
    """How many calls it has made."""
    _paused = False
    """Whether reading has stopped."""
    _unsent = 0
    """Bytes of answers, while the client does not take them."""
    _full = False
    """Whether the transport wants no more answers for now."""
    _closing = False
    _over = False
    _heavy = False
    """Whether it has one of the turns for heavy calls."""

    def __init__(self, server: Any) -> None:
        """Belong to an `RpcServer`, which stands above this module."""
        self.server = server
        self.reader = FrameReader(server.bounds.max_frame)
        self.waiting: deque[tuple[float, bytes]] = deque()

    # Twisted calls these.

    def connectionMade(self) -> None:
        """Begin: with the login, when this listener wants one."""
        self.peer = peers.text(self.transport)
        self._transport.registerProducer(self, True)  # noqa: FBT003  Twisted's signature
        self.server.opened(self)

    def dataReceived(self, data: bytes) -> None:
        """Take bytes."""
        if self._closing:
            return
        self._hold(len(data))
        try:
            if self.login is not None:
                self.login.received(data)
            else:
                self.take(data)
        except errors.FrameError as error:
            self.refuse("frame", str(error))

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # Twisted has a default
        """Forget everything; a handler that runs is not interrupted."""
        del reason
        self._over = self._closing = True
        self.waiting.clear()
        self._hold(-self.held)
        if self.login is not None:
            self.login.end()
        self.server.lost(self)
        if isinstance(self.busy, Ready):
            self.server.cancel(self)

    def pauseProducing(self) -> None:
        """Send no more for now: the client does not take it."""
        self._full = True
        self.deadline = monotonic() + self.server.bounds.write_timeout

    def resumeProducing(self) -> None:
        """Send again."""
        self._full = False
        self._hold(-self._unsent)
        self._unsent = 0
        self.deadline = inf
        self.proceed()

    def stopProducing(self) -> None:
        """Hear that the connection has ended; `connectionLost` follows."""

    # The login and the server call these.

    def take(self, data: bytes) -> None:
        """Take bytes of frames.

        :raises FrameError: when they are none.
        """
        reader = self.reader
        before = reader.held
        frames = reader.feed(data)
        if reader.held and (frames or not before):
            self.frame_deadline = monotonic() + self.server.bounds.frame_timeout
        if frames:
            if not self.asked and self.identity is None:
                # Now the handshake is over.
                shown = peers.client_certificate(self.transport)
                self.identity = peers.identity_of_certificate(shown) if shown is not None else None
            now = monotonic()
            self.asked += len(frames)
            self.waiting.extend([(now, frame) for frame in frames])
            if len(self.waiting) >= WAITING_CALLS or self.held > self.server.bounds.max_frame:
                self._pause()
        self.proceed()

    def proceed(self) -> None:
        """Do what can be done next."""
        if self.busy is None and not self._full and not self._over:
            if self.waiting and not self._closing:
                self._next_job()
            elif self._paused:
                self._resume()
        if self.busy is None and not self.waiting and not self._full and self.login is None:
            self.deadline = self.server.patience(self)

    def logged_in(self, identity: Identity | None, rest: bytes) -> None:
        """Go on after a login."""
        self.login = None
        self.identity = identity
        self.server.authenticated(self)
        self._hold(-self.held)
        self.deadline = self.server.patience(self)
        if rest:
            self.dataReceived(rest)

    def answered(self, job: Job) -> None:
        """Take over what a job has done."""
        server = self.server
        server.counts.add(job.done)
        self.busy = None
        if self._heavy:
            self._heavy = False
            server.heavy_done()
        if self._over:
            return
        left = job.frames
        self._hold(sum(4 + len(frame) for _, frame in left) - job.size)
        if left:
            left.extend(self.waiting)
            self.waiting = left
        if job.answers:
            self.send(b"".join(job.answers) if len(job.answers) > 1 else job.answers[0])
        if job.broken is not None:
            self.refuse("message", job.broken)
        elif job.pending is not None:
            self._run_async(job.pending)
        else:
            self.proceed()

    def send(self, data: bytes) -> None:
        """Send bytes, at once where the transport can do that."""
        transport = self._transport
        at_once = getattr(transport, "send", None)
        if at_once is not None:
            at_once(data)
        else:
            transport.write(data)
        if self._full:
            self._unsent += len(data)
            self._hold(len(data))

    def expire(self) -> None:
        """End: the deadline has passed."""
        if self._closing:
            self.abort()
        elif self.login is not None:
            self.refuse("login_timeout", "the login took too long")
        elif self._full:
            self.refuse("slow_reader", "the client did not take its answers", abort=True)
        elif self.reader.held:
            self.refuse("slow_writer", "a frame took too long to arrive", abort=True)
        else:
            self.close()

    def refuse(self, reason: str, text: str, *, abort: bool = False) -> None:
        """End the connection for what the client did.

        :param reason: a word for the metrics.
        """
        if self._closing:
            return
        self.server.refused(self, reason, text)
        if abort:
            self.abort()
        else:
            self.close()

    def close(self) -> None:
        """End once everything is sent; what waits is not begun."""
        if self._closing:
            return
        self._closing = True
        self.waiting.clear()
        self.deadline = monotonic() + self.server.bounds.write_timeout
        self._transport.unregisterProducer()
        self._transport.loseConnection()

    def abort(self) -> None:
        """Cut the connection."""
        self._closing = self._over = True
        self.deadline = inf
        self._transport.abortConnection()

    # Our own.

    @property
    def unsent(self) -> int:
        """How many bytes of answers wait for the client."""
        return self._unsent

    @property
    def _transport(self) -> Any:
        return self.transport

    def _hold(self, size: int) -> None:
        self.held += size
        self.server.hold(size)

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._transport.pauseProducing()

    def _resume(self) -> None:
        self._paused = False
        self._transport.resumeProducing()

    def _next_job(self) -> None:
        server = self.server
        waiting = self.waiting
        arrived, frame = waiting[0]
        if server.past_grace:
            self._refuse_waiting(errors.ServerDraining())
            return
        if server.processor.any_async and len(frame) <= SMALL and server.processor.is_async(frame):
            waiting.popleft()
            self._begin_here(arrived, frame)
            return
        if server.is_heavy(frame):
            if not server.heavy_turn(self):
                return
            self._heavy = True
            frames = deque((waiting.popleft(),))
            size = 4 + len(frame)
        else:
            frames, size = self._batch()
        job = Job(self, frames, size)
        try:
            server.submit(job, job.describe)
        except Busy:
            waiting.extendleft(reversed(frames))
            if self._heavy:
                self._heavy = False
                server.heavy_done()
            self._refuse_waiting(errors.ServerOverloaded())
            return
        self.busy = job
        self.deadline = inf

    def _batch(self) -> tuple[deque[tuple[float, bytes]], int]:
        """Take the calls of the next job; return them, and how many bytes they are."""
        waiting = self.waiting
        is_heavy = self.server.is_heavy
        frames = deque((waiting.popleft(),))
        size = 4 + len(frames[0][1])
        while waiting and len(frames) < JOB_CALLS and size < JOB_BYTES and not is_heavy(waiting[0][1]):
            frames.append(waiting.popleft())
            size += 4 + len(frames[-1][1])
        return frames, size

    def _refuse_waiting(self, error: errors.RpcError) -> None:
        """Answer everything that waits with an error of ours."""
        server = self.server
        done = []
        size = 0
        try:
            while self.waiting:
                arrived, frame = self.waiting.popleft()
                size += 4 + len(frame)
                done.append(server.processor.refuse(frame, error, arrived))
        except errors.FrameError as broken:
            self.refuse("message", str(broken))
            return
        finally:
            self._finish(done)
            self._hold(-min(size, self.held))
        self.proceed()

    def _finish(self, done: list[Done]) -> None:
        """Send answers that were made in the reactor, and account for them."""
        self.server.counts.add(done)
        if self.server.access_log:
            for each in done:
                log_call(each, self.peer, self.identity)
        answer = b"".join([each.answer for each in done])
        if answer and not self._over:
            self.send(answer)

    def _begin_here(self, arrived: float, frame: bytes) -> None:
        self._hold(-4 - len(frame))
        try:
            step = self.server.processor.begin(frame, self.identity, self.peer, arrived)
        except errors.FrameError as broken:
            self.refuse("message", str(broken))
            return
        if isinstance(step, Ready):
            self._run_async(step)
        else:
            self._finish([step])
            # Not by recursion: hundreds may wait.
            self.server.soon(self.proceed)

    def _run_async(self, ready: Ready) -> None:
        self.busy = ready
        self.deadline = inf
        called: Deferred[Done] = self.server.run_async(self, ready)
        called.addCallback(self._ran_async)

    def _ran_async(self, done: Done) -> None:
        self.busy = None
        self._finish([done])
        if not self._over:
            self.server.soon(self.proceed)
