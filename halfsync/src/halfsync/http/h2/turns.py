"""The turns of an HTTP/2 connection's streams: what is sent, when, and in pieces of which size.

Priorities are not heeded, as RFC 9113 section 5.3 allows: streams take turns, a frame of data at a time.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Any

from halfsync.endpoints.transport import SocketTransport
from halfsync.http.ends import Ends
from halfsync.http.h2.response import A_STREAM
from halfsync.http.rate import Pace, unsent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from halfsync.http.context import Context
    from halfsync.http.h2.response import H2Response
    from halfsync.http.h2.session import Session

AT_ONCE = 64 * 1024
"""Bytes of frames handed to the transport in one piece."""

A_CHANGE = 256
"""Bytes of what a session keeps; of less the account is not told."""

A_LOOK = 0.1
"""Seconds between two looks at what is in buffers while frames come."""


class H2Turns(Ends):
    """A connection, as far as it sends."""

    _streams: Mapping[int, H2Response]

    def __init__(self, context: Context, session: Session) -> None:
        self.context = context
        self.session = session
        self.closing = False
        """Nothing more is read or begun."""
        self._leaving = False
        """Whether the connection ends with the streams it has."""
        self._turns: deque[H2Response] = deque()
        self._paused = False
        self._pace = Pace(context.bounds)
        """How the client takes what is sent; windows apart, which are their streams' own."""
        self._flushing = False
        self._flush_call: Any = None
        self._kept = 0
        """What the session keeps, as the account knows."""
        self._next_look = 0.0

    def ready(self, stream: H2Response) -> None:
        """Give the stream a turn; soon, so that what becomes ready at the same time goes out in one piece."""
        if self.closing:
            return
        if not stream.queued:
            stream.queued = True
            self._turns.append(stream)
        if not self._flushing and self._flush_call is None and not self._paused:
            self._flush_call = self.context.reactor.callLater(0, self._flush_now)

    def buffered(self) -> int:
        """Return how many bytes there are of answers to be sent, and of requests that are not answered."""
        if self.closing:
            return unsent(self.transport)
        # A bytearray that grows has an eighth to spare.
        answers = sum([each.buffered for each in self._streams.values()]) * 9 // 8
        return self.session.waiting + answers + A_STREAM * len(self._streams) + unsent(self.transport)

    def _look(self) -> None:
        """Have the account know what there is: of what has come at once, of the rest now and then."""
        size = self.session.kept
        if abs(size - self._kept) > A_CHANGE and not self.closing:
            self._kept = size
            self.context.memory.weigh_kept(self, size)
        if (now := self.context.seconds()) >= self._next_look:
            self._next_look = now + A_LOOK
            self.weigh()

    def weigh_nothing(self) -> None:
        """Give all of that back."""
        super().weigh_nothing()
        if self._kept:
            self._kept = 0
            self.context.memory.weigh_kept(self, 0)

    def _flush(self) -> None:
        """Give every stream its turns, as long as the client takes what is sent."""
        if self._flushing or self.closing:
            return
        self._flushing = True
        try:
            while self._turns and not self._paused and not self.closing:
                self._turn(self._turns.popleft())
        finally:
            self._flushing = False
        if not self.closing:
            self._write()
            if self._leaving and not self._streams:
                self._close()

    def _flush_now(self) -> None:
        self._flush_call = None
        self._flush()

    def _turn(self, stream: H2Response) -> None:
        stream.queued = False
        if self._streams.get(stream.number) is not stream:
            return
        if stream.send():
            self.ready(stream)
        if self.session.waiting >= AT_ONCE:
            self._write()

    def _write(self) -> None:
        data = self.session.data_to_send()
        if data:
            self._pace.sent(len(data))
            transport = self.transport
            if isinstance(transport, SocketTransport):
                # At once: to wait until the kernel says that it takes more is three system calls.
                transport.send(data)
            else:
                transport.write(data)

    @abstractmethod
    def _close(self) -> None:
        """End the connection once everything is sent."""
