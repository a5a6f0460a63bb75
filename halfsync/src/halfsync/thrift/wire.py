"""The bytes of a connection: its login, then frames that wait to be answered. In the reactor."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol
from zope.interface import implementer

from halfsync.logs import get_logger
from halfsync.thrift import errors, peers
from halfsync.thrift.framing import FrameReader
from halfsync.thrift.processor import Ready

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from halfsync.thrift.call import Identity
    from halfsync.thrift.job import Job
    from halfsync.thrift.login import Login

log = get_logger(__name__)

WAITING_CALLS = 64
"""Calls that may wait; with as many, or with as many bytes as a frame may have, reading stops."""


@implementer(IPushProducer)
class Wire(Protocol):
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

    def logged_in(self, identity: Identity | None, rest: bytes) -> None:
        """Go on after a login."""
        self.login = None
        self.identity = identity
        self.server.authenticated(self)
        self._hold(-self.held)
        self.deadline = self.server.patience(self)
        if rest:
            self.dataReceived(rest)

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

    @abstractmethod
    def proceed(self) -> None:
        """Do what can be done next."""
