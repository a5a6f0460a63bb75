"""A connection that has become a websocket (RFC 6455): counted, bounded, asked for life, and drained.

The protocol is `twisted.web.websocket`'s, on wsproto; what it does not bound is bounded here:
how long a message may be, how many frames are read before others have their turn, how much may wait for a
client, how long a client may be silent or not there, and how long both sides take to say goodbye.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from twisted.internet.interfaces import IConsumer, ITransport
from twisted.protocols.policies import ProtocolWrapper
from zope.interface import implementer

from halfsync.endpoints.addresses import address_text
from halfsync.endpoints.transport import FULL
from halfsync.http.rate import unsent
from halfsync.http.taken_over import TakenOver
from halfsync.http.websocket.frames import Frames
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twisted.python.failure import Failure

    from halfsync.http.connection import H1Connection

log = get_logger(__name__)

MAX_MESSAGE = 1024 * 1024
"""Bytes of a message from a client; a longer one ends the connection with 1009."""

MOST_WAITING = 1024 * 1024
"""Bytes that may wait for a client that takes nothing, before it is cut."""

SILENCE = 20.0
"""Seconds without a byte after which a client is asked by a ping; after as many more it is cut."""

GOODBYE = 0.5
"""Seconds for the client to answer a Close."""

FRAMES = 64
"""Frames that are read of a client in a turn of the reactor: each takes 20 microseconds, and has 6 bytes."""

GOING_AWAY, TOO_BIG, INTERNAL_ERROR = 1001, 1009, 1011


@implementer(ITransport, IConsumer)
class Websocket(TakenOver):
    """The protocol of a transport, and the transport of twisted.web's websocket protocol."""

    disconnecting = False
    kind = "websocket"

    def __init__(self, before: H1Connection, protocol: Any) -> None:
        """Take over a connection that has asked for it.

        :param protocol: reads frames: an IProtocol with `ping` and `loseConnection(code)`.
        """
        self._now = before.context.seconds
        self._request = before.stream.request_id if before.stream is not None else ""
        self._protocol = protocol
        self._frames = Frames(MAX_MESSAGE)
        self._asked_for_life = False
        self._unread = b""
        """What has come, and waits for its turn."""
        self._waits = False
        """Whether it is in the queue of those whose turn is to come."""
        self._lost = False
        self._leaving = False
        super().__init__(before)
        if isinstance(self.transport, ProtocolWrapper):
            self.transport.wrappedProtocol = cast("Any", self)
        else:
            self.transport.protocol = self
        self.deadline = self._now() + SILENCE
        self.protocol_call(protocol.makeConnection, self)
        if before.context.connections.draining:
            # Not before the handshake is answered.
            self._leaving = True
            self.deadline = self._now()

    def protocol_call(self, call: Any, *arguments: Any) -> None:
        """Have the protocol do something; a bug of the application's ends this connection alone."""
        try:
            call(*arguments)
        except Exception:
            log.exception("websocket.failed", peer=address_text(self.client), request_id=self._request)
            self.close(INTERNAL_ERROR)

    def close(self, code: int) -> None:
        """Say goodbye, unless that has been done; then close."""
        if self.disconnecting or self._lost:
            return
        try:
            self._protocol.loseConnection(code)
        except Exception:  # noqa: BLE001  wsproto raises when the other side has closed already
            self._end()

    # The transport calls these.

    def dataReceived(self, data: bytes) -> None:
        """Hand on what arrives, some frames at a time."""
        if self._waits:
            # TLS may have had more.
            self._unread += data
        else:
            self._read(data)

    def _read(self, data: bytes) -> None:
        end = self._frames.feed(data, FRAMES)
        if end < len(data) and not self._frames.too_long:
            self._unread = data[end:]
            data = data[:end]
        self._hand_on(data)
        if self._unread and not self._lost:
            self.transport.pauseProducing()
            self._waits = True
            self.weigh()
            self._context.reading_on.add(self)

    def take_turn(self) -> None:
        """Read what has come; its turn is there."""
        self._waits = False
        data, self._unread = self._unread, b""
        if not self._lost:
            self.transport.resumeProducing()
            self._read(data)

    def _hand_on(self, data: bytes) -> None:
        """Hand on frames, as far as a message may be."""
        frames = self._frames
        if frames.too_long:
            if not self.disconnecting:
                log.info("websocket.message_too_long", peer=address_text(self.client), most=MAX_MESSAGE)
                self.close(TOO_BIG)
            return
        if not self.disconnecting:
            self._asked_for_life = False
            self.deadline = self._now() + SILENCE
            self.protocol_call(self._protocol.dataReceived, data)
            if frames.held:
                self.weigh()
        elif frames.close_seen:
            self._end()

    def connectionLost(self, reason: Failure) -> None:
        """Tell the application."""
        self._lost = True
        self._unread = b""
        try:
            self._protocol.connectionLost(reason)
        except Exception:
            log.exception("websocket.failed", peer=address_text(self.client), request_id=self._request)

    # The protocol calls these.

    def write(self, data: bytes) -> None:
        """Send a frame; a client that takes none is cut when too much waits for it."""
        if self._lost:
            return
        self.transport.write(data)
        waiting = unsent(self.transport)
        if waiting > MOST_WAITING:
            log.info("websocket.client_cut", peer=address_text(self.client), waiting=waiting)
            self.abort()
        elif waiting > FULL:
            self.weigh()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Send pieces of a frame."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close; the client has a moment to answer the Close that was sent (RFC 6455 section 7.1.1)."""
        if self.disconnecting:
            return
        self.disconnecting = True
        if self._frames.close_seen:
            self._end()
        else:
            self.deadline = self._now() + GOODBYE

    def registerProducer(self, producer: Any, streaming: bool) -> None:  # noqa: FBT001  IConsumer has it so
        """Pause and resume what the application sends from."""
        self.transport.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """Do without a producer."""
        self.transport.unregisterProducer()

    def getPeer(self) -> Any:
        """Return the client's address."""
        return self.transport.getPeer()

    def getHost(self) -> Any:
        """Return our address."""
        return self.transport.getHost()

    # The listener calls these.

    def buffered(self) -> int:
        """Return how many bytes wait for the client, or for the rest of its message."""
        return len(self._unread) + self._frames.held + super().buffered()

    def wind_down(self, deadline: float) -> None:
        """Tell the client that the service goes away."""
        del deadline
        self.close(GOING_AWAY)

    def expire(self, now: float) -> None:
        """Ask whether the client is there; close one that does not say so, or has not said goodbye."""
        if self.disconnecting:
            if self._closing:
                self.abort()
            else:
                self._end()
        elif self._leaving:
            self.close(GOING_AWAY)
        elif self._asked_for_life:
            log.info("websocket.client_silent", peer=address_text(self.client), seconds=2 * SILENCE)
            self.abort()
        else:
            self._asked_for_life = True
            self.deadline = now + SILENCE
            self.protocol_call(self._protocol.ping)

    def _end(self) -> None:
        """Close once everything is sent, and cut what does not take it."""
        self.disconnecting = True
        self._closing = False
        TakenOver.expire(self, self._now())
