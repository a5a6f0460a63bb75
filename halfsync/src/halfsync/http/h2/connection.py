"""One HTTP/2 connection (RFC 9113): its deadlines, the turns of its streams, and how it ends.

Differences from `twisted.web._http2`, each a fault seen there:
long requests are cut by the timer for idle connections, a client's GOAWAY ends the requests before it,
and there is no way to end a connection that lets the requests in flight finish.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from halfsync.endpoints.addresses import address_text
from halfsync.http.h2.frames import ErrorCode, H2Error
from halfsync.http.h2.session import Session
from halfsync.http.h2.stream import H2Stream
from halfsync.http.h2.streams import RESET_COST, RESPONSE_CREDIT
from halfsync.http.h2.turns import H2Turns
from halfsync.http.rate import LINGER, Pace, socket_of, untaken, wait_or_cut
from halfsync.http.reading_on import A_READ
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from halfsync.http.context import Context
    from halfsync.http.h2.fields import Fields
    from halfsync.http.h2.response import H2Response
    from halfsync.http.stream import Stream

log = get_logger(__name__)

NO_LAST_STREAM = 2**31 - 1


@implementer(IPushProducer)
class H2Connection(H2Turns):
    """One connection."""

    transport: Any
    since = 0.0
    """When it was opened, in the reactor's seconds."""

    def __init__(self, context: Context) -> None:
        H2Turns.__init__(self, context, Session(context.bounds, context.seconds, self))
        self._streams: dict[int, H2Stream] = {}
        self._deadline = inf
        """Of the connection itself: idle, not taken by the client, or closing."""
        self._last_word = inf
        """When streams that are still to come are refused, in a drain."""
        self._last_stream = NO_LAST_STREAM
        self._reading_on = False
        """Whether it waits for its turn to be read."""

    # Twisted calls these.

    def connectionMade(self) -> None:
        """Say what we allow, and start waiting for a request."""
        self.transport.registerProducer(self, True)  # noqa: FBT003  IConsumer has it so
        bottom = socket_of(self.transport)
        if bottom is not None:
            bottom.bufferSize = A_READ
        self._deadline = self.context.connections.idle_deadline()
        self.session.open()
        if self.context.connections.draining:
            self.wind_down(self._deadline)
        self._flush()

    def dataReceived(self, data: bytes) -> None:
        """Act on the frames that arrive, then send what came of it."""
        if self.closing:
            return
        self._flushing = True
        try:
            shared = self.context.reading_on
            shared.spend(self.session.receive_data(data, shared.heads))
        except H2Error as error:
            self._fail(error.code, str(error))
        except Exception:
            log.exception("http.parser_failed", peer=address_text(self.client))
            self._fail(ErrorCode.INTERNAL_ERROR, "")
        finally:
            self._flushing = False
        self._flush()
        if self.session.unread and not self.closing:
            self._read_soon()
        self._look()

    def _read_soon(self) -> None:
        self.transport.pauseProducing()
        if not self._reading_on:
            self._reading_on = True
            self.context.reading_on.add(self)

    def take_turn(self) -> None:
        """Read what has come; its turn is there."""
        self._reading_on = False
        if not (self.closing or self._paused):
            self.transport.resumeProducing()
            self.dataReceived(b"")

    def pauseProducing(self) -> None:
        """Give the client time to take what fills the buffer; read nothing that would want an answer."""
        self._paused = True
        self._deadline = self._pace.wait(self.context.seconds(), untaken(self.transport))
        self.transport.pauseProducing()
        self.weigh()

    def resumeProducing(self) -> None:
        """Go on: the client has taken it."""
        self._paused = False
        if not self.closing:
            wait = self._pace.go_on(self.context.seconds())
            for stream in self._streams.values():
                # What it has to send was not read meanwhile.
                stream.deadline += wait
            self._deadline = inf if self._streams else self.context.connections.idle_deadline()
        self.transport.resumeProducing()
        self._flush()
        self.weigh()
        if self.session.unread and not self.closing:
            self._read_soon()

    def stopProducing(self) -> None:
        """Nothing more can be sent; `connectionLost` follows."""

    def connectionLost(self, reason: Any = None) -> None:
        """Tell the requests and the listener."""
        del reason
        self.closing = True
        if self._flush_call is not None:
            self._flush_call.cancel()
            self._flush_call = None
        self._lose_streams()
        self._deadline = self._last_word = inf
        self.session.dissolve()
        self.weigh_nothing()
        self.context.connections.lost(self)

    # The site calls these.

    @property
    def idle(self) -> bool:
        """Whether it waits for a request."""
        return not (self._streams or self._paused or self.closing or self._leaving)

    @property
    def deadline(self) -> float:
        """When `expire` has something to do."""
        own = min(self._deadline, self._last_word)
        return min(own, *(stream.deadline for stream in self._streams.values())) if self._streams else own

    @property
    def asked(self) -> int:
        """How many requests have arrived: a client numbers its streams 1, 3, 5 (RFC 9113 section 5.1.1)."""
        return (self.session.highest_inbound_stream_id + 1) // 2

    def streams(self) -> list[Stream]:
        """Return the requests that are not answered to their end."""
        return [stream for stream in self._streams.values() if stream.handled]

    def wind_down(self, deadline: float) -> None:
        """Announce the end (RFC 9113 section 6.8); requests that are on their way until then are answered."""
        if not self.closing:
            self._last_word = deadline
            self.session.say_goaway(NO_LAST_STREAM)
            self._flush()

    def expire(self, now: float) -> None:
        """Do what the deadline is for."""
        if self.closing or self._paused:
            if self._deadline <= now:
                self._deadline = wait_or_cut(self, self._pace, now)
            return
        if self._last_word <= now or (self._deadline <= now and not self._streams):
            self._leave()
        for stream in [each for each in self._streams.values() if each.deadline <= now]:
            stream.expire(now)
        self._flush()

    def turn_away(self) -> None:
        """Say that no request will be answered here, so that each may be asked elsewhere, and close."""
        self.session.say_goaway(0)
        self._write()
        self.closing = True
        self.transport.unregisterProducer()
        bottom = socket_of(self.transport)
        if bottom is None:
            self.transport.loseConnection()
        else:
            # Not both sides at once: a reset for what the client has sent could overtake the word.
            bottom.loseWriteConnection()
        self._deadline = self.context.seconds() + LINGER

    def abort(self) -> None:
        """Cut the connection."""
        self.closing = True
        self._deadline = self._last_word = inf
        self._lose_streams()
        self.weigh_nothing()
        self.transport.abortConnection()

    def acknowledge(self, count: int, number: int) -> None:
        """Let the client send as much more as has been taken from it."""
        if count and not self.closing:
            self.session.acknowledge_received_data(count, number)
            self._flush()

    # Streams call these.

    def forget(self, stream: H2Response, *, answered: bool = False) -> None:
        """Be done with a stream."""
        if self._streams.pop(stream.number, None) is None:
            return
        if answered:
            self.session.earn(RESPONSE_CREDIT)
        if not self._streams and not self._paused and not self.closing:
            self._deadline = self.context.connections.idle_deadline()

    def spend_on_reset(self) -> None:
        """Have the client pay for a stream that comes to nothing by its fault."""
        try:
            self.session.spend(RESET_COST)
        except H2Error as error:
            self._fail(error.code, str(error))

    # The session calls these, as frames are read.

    def request_came(self, number: int, fields: Fields, *, ended: bool) -> None:
        """Begin a request."""
        if self.closing:
            return
        if number > self._last_stream:
            self.session.spend(1)
            self.session.reset_stream(number, ErrorCode.REFUSED_STREAM)
            return
        self._deadline = inf
        stream = self._streams[number] = H2Stream(self, number)
        stream.receive_head(fields, bodiless=ended)

    def data_came(self, number: int, data: bytes | memoryview, cost: int) -> None:
        """Take a piece of a body."""
        stream = self._streams.get(number)
        if self.closing:
            return
        taken = stream is None or stream.receive_data(data, cost)
        if cost and taken:
            # Also what is dropped after a refusal: some clients look for the answer when all is sent.
            self.session.acknowledge_received_data(cost, number)

    def trailers_came(self, number: int, fields: Fields) -> None:
        """Take what follows a body."""
        stream = self._streams.get(number)
        if stream is not None:
            stream.receive_trailers(fields)

    def end_came(self, number: int) -> None:
        """Have a request answered that has arrived to its end."""
        stream = self._streams.get(number)
        if stream is not None and not self.closing:
            stream.receive_end()

    def reset_came(self, number: int, *, ours: bool) -> None:
        """Be done with a stream that the client has ended, or broken."""
        if ours:
            self.session.spend(RESET_COST)
        stream = self._streams.get(number)
        if stream is not None:
            self.forget(stream)
            stream.lose()

    def window_opened(self, number: int) -> None:
        """Go on sending."""
        for stream in self._streams.values() if not number else filter(None, [self._streams.get(number)]):
            self.ready(stream)

    def goodbye_came(self) -> None:
        """End with the requests there are."""
        self._leaving = True

    # Ends.

    def _leave(self) -> None:
        """Refuse the streams that are still to come, and close after those there are."""
        self._last_word = inf
        self._leaving = True
        self._last_stream = self.session.highest_inbound_stream_id
        self.session.say_goaway(self._last_stream)

    def _fail(self, code: ErrorCode, reason: str) -> None:
        """End the connection for what the client did."""
        if self.closing:
            return
        self.session.close_connection(code)
        log.info("http.connection_failed", peer=address_text(self.client), code=int(code), reason=reason)
        self._close()
        self._lose_streams()

    def _close(self) -> None:
        self._write()
        self.closing = True
        self._pace = Pace(self.context.bounds)
        self._deadline = self._pace.wait_for_the_rest(self.context.seconds(), self.transport)
        self._last_word = inf
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def _lose_streams(self) -> None:
        streams = list(self._streams.values())
        self._streams.clear()
        self._turns.clear()
        for stream in streams:
            stream.lose()
