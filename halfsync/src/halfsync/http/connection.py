"""One HTTP/1.1 connection: requests one after the other, deadlines, and an answer to all that is refused."""

from __future__ import annotations

from math import inf
from typing import IO, TYPE_CHECKING, Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener
from zope.interface import implementer

from halfsync.endpoints.addresses import address_text
from halfsync.http.arrival import Arrival, at_once
from halfsync.http.h1_ends import H1Ends
from halfsync.http.h1_stream import H1Stream
from halfsync.http.h2.preface import may_be_h2
from halfsync.http.half_closed import LOOK, HalfClosed
from halfsync.http.head import Refused
from halfsync.http.outgoing import Outgoing
from halfsync.http.parser import END, Parser
from halfsync.http.rate import wait_or_cut
from halfsync.http.stream import RequestHead
from halfsync.http.upload import NoRoom
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from halfsync.http.context import Context
    from halfsync.http.stream import Stream

log = get_logger(__name__)

MOST_AHEAD = 16 * 1024
"""Bytes that may come ahead of an answer before no more is read; till then, it is noticed who leaves."""


PIECES = 128
"""Pieces of a body that are read in a turn of the reactor; one may be of a byte, and takes 13 us."""

A_REQUEST = 8
"""As how many of them a request counts that is answered in the reactor."""

LONGEST = 0.002
"""Seconds for such requests in a turn, but for the first."""


@implementer(IHalfCloseableProtocol, IHandshakeListener)
class H1Connection(H1Ends):
    """One connection."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.deadline = inf
        self.parser = Parser(context.bounds)

    # Twisted calls these.

    def connectionMade(self) -> None:
        """Start waiting for a request, or answer at once that there is no room for it."""
        connections = self.context.connections
        client = self.context.limited_client(self.transport.getPeer())
        connections.opened(self, client)
        self.since = self.context.seconds()
        self.deadline = connections.idle_deadline()
        self.outgoing = Outgoing(self)
        if self.outgoing.socket is not None:
            self.outgoing.socket.share = client
        if not connections.find_place(self):
            connections.turned_away(self)
            if connections.flooded:
                self.abort()
            elif getattr(self.transport, "negotiatedProtocol", None) == b"h2":
                self.give_way()
                self.context.speak_h2(self).turn_away()
            else:
                self.refuse(503)

    def handshakeCompleted(self) -> None:
        """Make room for HTTP/2 when TLS has agreed on it (ALPN, RFC 7301)."""
        if self.transport.negotiatedProtocol == b"h2" and not self.closing:
            self.give_way()
            self.context.speak_h2(self)

    def dataReceived(self, data: bytes) -> None:
        """Read what arrives, or drop it when the connection is on its way out."""
        if self.closing:
            return
        self.parser.feed(data)
        if self.begun is None:
            self.begun = self.context.seconds()
        elif self._arrival is not None:
            self._arrival.pace.taken += len(data)
        self._read()

    def sank(self, count: int) -> None:
        """Count bytes of a body that are in the memory that was given for it."""
        arrival, socket = self._arrival, self.outgoing.socket
        if arrival is not None and socket is not None:
            socket.sink = None
            self._read(lambda: arrival.sank(count))

    def connectionLost(self, reason: Any = None) -> None:
        """Tell the request and the listener."""
        del reason
        self.closing = True
        self.deadline = inf
        self._lose_request()
        self.weigh_nothing()
        self.context.connections.lost(self)

    def readConnectionLost(self) -> None:
        """Answer what a client has asked before it closed its side of the connection, unless it is gone."""
        half_closed = self._half_closed = HalfClosed(self)
        stream = self.stream
        if self.closing:
            self.transport.loseConnection()
        elif stream is None:
            self._read()
        elif half_closed.gone:
            self.abort()
        else:
            half_closed.ask(stream)
            self._set_deadline()

    def writeConnectionLost(self) -> None:
        """Our own doing."""

    def resumed(self) -> None:
        """Go on: the client has taken what was written."""
        stream = self.stream
        if stream is not None and stream.ended:
            self.written(stream)
            return
        self._set_deadline()
        if stream is not None and stream.responder is not None:
            stream.responder.resume()

    # The listener calls these.

    @property
    def idle(self) -> bool:
        """Whether it waits for a request."""
        return self.begun is None and self.stream is None and not (self.closing or self.outgoing.blocked)

    def buffered(self) -> int:
        """Return how many bytes have come that are not read yet, and are ready that are not sent."""
        return self.outgoing.held + (0 if self.closing else self.parser.held)

    def streams(self) -> list[Stream]:
        """Return the request that is being answered."""
        return [] if self.stream is None else [self.stream]

    def wind_down(self, deadline: float) -> None:
        """Wait for a request no longer than that."""
        if self.begun is None and not self.closing:
            self.deadline = min(self.deadline, deadline)

    def expire(self, now: float) -> None:
        """Do what the deadline is for."""
        arrival = self._arrival
        if self.closing or self.outgoing.blocked:
            self.deadline = wait_or_cut(self, self.outgoing.pace, now)
        elif self.stream is not None:
            again = inf if self._half_closed is None else self._half_closed.look(self.stream, now)
            if again is None:
                self.abort()
            else:
                self.deadline = again
        elif arrival is not None and (deadline := arrival.pace.judge(now)) is not None:
            self.deadline = deadline
        elif self.begun is not None:
            self.refuse(408)
        else:
            self._lose()

    # The stream and the arrival call these.

    def written(self, stream: H1Stream) -> None:
        """Go on after a response that has been written, once the client has taken most of it."""
        if self.closing or self.outgoing.blocked or self.stream is not stream:
            return
        self.stream = self.begun = self.outgoing.pace = None
        now = self.context.answered(stream)
        stream.release()
        if not stream.persistent or self.context.connections.draining:
            self._lose()
            return
        if self._held_back:
            self._held_back = False
            self.transport.resumeProducing()
        if self.parser.ahead or self._half_closed is not None:
            self._read()
        else:
            self.deadline = now + self.context.bounds.idle_timeout

    def handle(self, head: RequestHead, body: IO[bytes]) -> None:
        """Have a request answered that has arrived to its last byte."""
        self._arrival = None
        since = self.context.seconds() if self.begun is None else self.begun
        stream = self.stream = H1Stream(self, head, since)
        self.deadline = inf if self._half_closed is None else self.context.seconds() + LOOK
        self.context.handle(stream, body)

    def read_on(self, then: Callable[[], object]) -> None:
        """Make a call that what arrives has waited for, and read on."""
        if self._reading:
            # There are no threads, as in memory.
            then()
        else:
            self._read(then)

    # Reading.

    def _read(self, first: Callable[[], object] | None = None) -> None:
        """Read as many requests as may be answered, one after the other."""
        # A response that is made at once comes back here.
        if self._reading or self._waits:
            return
        self._reading = True
        try:
            if first is not None:
                first()
            self._take_events()
        except Refused as refused:
            if refused.code != 505 or not may_be_h2(self):
                self.refuse(refused.code, refused.reason)
        except NoRoom as error:
            # What the client did was right.
            log.warning("http.spool_failed", problem=str(error))
            self.refuse(503)
        except Exception:
            # A bug of ours costs one connection, and nobody waits for its answer.
            log.exception("http.parser_failed", peer=address_text(self.client))
            self.refuse(400)
        finally:
            self._reading = False
        if not self.closing and (self.stream is None or self.parser.ahead):
            self._after_reading()
            self.weigh()
        elif self._weighs:
            self.weigh()

    def _take_events(self) -> None:
        parser, left, ends = self.parser, PIECES, 0.0
        while self.stream is None and not self.closing:
            arrival = self._arrival
            if arrival is not None and arrival.flushing:
                return
            if left <= 0 and parser.ahead:
                self._waits = True
                self.transport.pauseProducing()
                self.context.reading_on.add(self)
                return
            event = parser.next()
            if event is None:
                return
            if isinstance(event, RequestHead):
                self._begin(event)
                if self.stream is None:
                    left -= A_REQUEST
                    now = self.context.seconds()
                    if not ends:
                        ends = now + LONGEST
                    elif now > ends:
                        left = 0
                continue
            left -= 1
            if arrival is not None:
                arrival.complete() if event is END else arrival.add(memoryview(event))

    def take_turn(self) -> None:
        """Read on: what others have sent was read meanwhile."""
        self._waits = False
        if not self.closing:
            self.transport.resumeProducing()
            self._read()

    def _after_reading(self) -> None:
        parser = self.parser
        if self.stream is not None:
            if parser.ahead > MOST_AHEAD and not self._held_back:
                self._held_back = True
                self.transport.pauseProducing()
            return
        if self._arrival is None and parser.between:
            # Not even a byte of a request: an empty line, at most.
            self.begun = None
        elif self.begun is None:
            self.begun = self.context.seconds()
        if self._half_closed is None or self._waits:
            self._set_deadline()
        elif self.begun is None:
            self._lose()
        else:
            self.refuse(400, "the client has closed its side within it")

    def _begin(self, head: RequestHead) -> None:
        """Have a request answered, or prepare for its body."""
        self.asked += 1
        if self.context.memory.full and not self.context.memory.room_for(self):
            raise NoRoom("the memory for requests and responses is full")
        body = at_once(self, head)
        if body is not None:
            self.handle(head, body)
        else:
            self._arrival = Arrival(self, head)
            self._arrival.begin()
