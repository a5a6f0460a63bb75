"""The response to one request of an HTTP/2 connection: kept until the client takes it, a frame a turn."""

from __future__ import annotations

from abc import abstractmethod
from math import inf
from typing import TYPE_CHECKING

from halfsync.endpoints.addresses import address_text
from halfsync.http.h2.fields import WRITER
from halfsync.http.h2.frames import ErrorCode
from halfsync.http.h2.head import CONNECTION_SPECIFIC
from halfsync.http.h2.streams import DATA_CREDIT
from halfsync.http.rate import LINGER, Pace
from halfsync.http.stream import RequestHead, Stream
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from halfsync.http.account import Holder
    from halfsync.http.context import Context
    from halfsync.http.h2.parts import H2
    from halfsync.http.stream import ResponseHead

log = get_logger(__name__)

BUFFER = 64 * 1024
"""Bytes that wait for the client before whoever makes them is paused."""

FRAME = 16 * 1024
"""Bytes of a body that a stream sends when it is its turn."""

A_STREAM = 6 * 1024
"""Bytes of the objects of a request that is not answered, its head apart."""

NO_HEAD = RequestHead("", "", "HTTP/2", {}, {}, 0, list)
"""Of a stream whose head has not been read."""


class H2Response(Stream):
    """A stream, as far as it sends.

    Nothing is sent here before the connection gives the stream its turn: `send`.
    """

    context: Context
    # What is not set for each request costs none of its time, and instances with more than 30 attributes
    # three times the memory.
    closing = False
    """Nothing more of the request is read."""
    handled = False
    """Whether the request has arrived and is not answered."""
    queued = False
    """Whether it waits for its turn."""
    _whole = False
    """Whether the request has arrived to its end."""
    _lingering = False
    """Whether the response is sent to its end before that."""
    _continue = False
    _hints: Sequence[bytes] = ()
    """Interim responses ahead of the final one."""
    _block = b""
    """The head of the response, before it is sent."""
    _buffer = bytearray()
    """While it is empty it is the one of all: what is written makes another."""
    _rest = memoryview(b"")
    """What follows the buffer, of a body that was made in one piece."""
    _trailers = b""
    """What follows the body, once that has ended."""
    _ended = False
    _reset: ErrorCode | None = None
    _paused = False
    _release: Callable[[], None] | None = None
    _held = 0
    """Bytes of the memory that are accounted for: of a head without its body, of an answer untaken."""
    _refused = False
    """Whether it came to nothing by the client's fault, who has paid for it and earns nothing back."""

    def __init__(self, connection: H2, number: int) -> None:
        context = connection.context
        now = context.seconds()
        Stream.__init__(
            self,
            context,
            NO_HEAD,
            connection.client,
            connection.local,
            connection.secure,
            now,
        )
        self.connection = connection
        self.number = number
        self.deadline = now + context.bounds.request_timeout
        self._pace = Pace(context.bounds)
        """How the client takes what has found its window shut."""

    @property
    def holder(self) -> Holder:
        """The connection."""
        return self.connection

    # The connection calls these.

    def send(self) -> bool:
        """Send what the client will take, up to one frame of data; say whether another turn is wanted."""
        session = self.connection.session
        if self._reset is not None:
            self.connection.forget(self)
            session.reset_stream(self.number, self._reset)
            return False
        if self._continue:
            self._continue = False
            session.send_headers(self.number, WRITER.write([(b":status", b"100")]))
        while self._hints:
            hint, *self._hints = self._hints
            session.send_headers(self.number, hint)
        if self._block:
            block, self._block = self._block, b""
            whole = self._ended and not (self._buffer or self._trailers)
            session.send_headers(self.number, block, end_stream=whole)
            if whole:
                self._close()
                return False
        if self._buffer:
            return self._send_data()
        if self._trailers:
            session.send_headers(self.number, self._trailers, end_stream=True)
        elif self._ended:
            session.end_stream(self.number)
        if self._ended:
            self._close()
        return False

    def lose(self) -> None:
        """Tell whatever is at the request that there is no client."""
        self.closing = True
        self.deadline = inf
        self._buffer.clear()
        self._rest = memoryview(b"")
        self._drop_body()
        self._let_go()
        self._hold(0)
        responder, self.responder = self.responder, None
        if self.handled:
            self.handled = False
            self.context.answered(self, aborted=True)
            if responder is not None:
                responder.gone()

    # The handler calls these.

    def answer(
        self, head: ResponseHead, body: bytes = b"", release: Callable[[], None] | None = None
    ) -> None:
        """Send a whole response."""
        self._release = release
        # What is in our hands whole goes into the buffer as the client takes it.
        if len(body) > BUFFER:
            # Not of a short one: an empty view keeps all of it alive.
            self._rest = memoryview(body)[BUFFER:]
        self.begin(head, body[:BUFFER])
        self.sent = len(body)
        self.finish()

    def hint(self, fields: Iterable[tuple[str, str]]) -> None:
        """Send 103 Early Hints."""
        if not self.code:
            told = [_lower(*each) for each in fields]
            self._hints = [*self._hints, WRITER.write([(b":status", b"103"), *told])]
            self.connection.ready(self)

    def begin(self, head: ResponseHead, data: bytes = b"") -> None:
        """Send the head of a response and the first bytes of its body."""
        if self._reset is not None:
            return
        self.code = head.code
        own = []
        if not head.has_date:
            own.append((b"date", self.context.date().encode("ascii")))
        if not head.has_request_id and self.request_id:
            own.append((b"x-request-id", self.request_id.encode("ascii")))
        self._block = _written(head) + WRITER.write(own)
        self.write(data)

    @property
    def buffered(self) -> int:
        """Bytes that wait, and for which no room was taken."""
        return len(self._buffer)

    def write(self, data: bytes) -> None:
        """Send a piece of a body."""
        if self._reset is None:
            self.sent += len(data)
            if self._buffer:
                self._buffer += data
            else:
                # One that grows has an eighth to spare.
                self._buffer = bytearray(data)
            self.connection.ready(self)
            if self.responder is not None and not self._paused and len(self._buffer) >= BUFFER:
                self._paused = True
                self.responder.pause()

    def finish(self, trailers: Sequence[tuple[str, str]] = ()) -> None:
        """End the response."""
        if trailers and self._reset is None:
            self._trailers = WRITER.write([_lower(*each) for each in trailers])
        self.responder = None
        self._ended = True
        self.connection.ready(self)

    def abort(self) -> None:
        """Break the response off so that the client can tell."""
        self.reset(ErrorCode.INTERNAL_ERROR)

    def reset(self, code: ErrorCode, *, costly: bool = False) -> None:
        """End the stream with an error.

        :param costly: whether it is the client's fault, and the client pays.
        """
        if self._reset is None:
            self._reset = code
            self.connection.ready(self)
            self.lose()
            if costly:
                self.connection.spend_on_reset()

    # Our own.

    def _send_data(self) -> bool:
        session, buffer = self.connection.session, self._buffer
        window = session.local_flow_control_window(self.number)
        if window <= 0:
            self.deadline = self._pace.wait(self.context.seconds())
            if self._release is None and not self._hold(len(buffer) + A_STREAM):
                log.info("http.stalled", peer=address_text(self.client), unsent=len(buffer))
                self.reset(ErrorCode.CANCEL)
            return False
        data = bytes(buffer[: min(window, session.max_outbound_frame_size, FRAME)])
        del buffer[: len(data)]
        if self._rest and len(buffer) < FRAME:
            buffer += self._rest[: BUFFER - FRAME]
            self._rest = self._rest[BUFFER - FRAME :]
        end = self._ended and not (buffer or self._trailers)
        session.send_data(self.number, data, end_stream=end)
        if not self._refused:
            session.earn(DATA_CREDIT)
        if self._pace.waiting:
            self._pace.taken += len(data)
            if not buffer:
                self._pace.go_on(self.context.seconds())
                self.deadline = inf
                self._hold(A_STREAM)
        if end:
            self._close()
            return False
        if self._paused and len(buffer) < BUFFER:
            self._paused = False
            if self.responder is not None:
                self.responder.resume()
        return bool(buffer or self._trailers)

    def _close(self) -> None:
        """Be done with a response that is sent to its end."""
        self._let_go()
        self._hold(0)
        if self.handled:
            self.handled = False
            self.context.answered(self)
        if self._whole:
            self.connection.forget(self, answered=not self._refused)
        else:
            # The client need not send the rest (RFC 9113 section 8.1), but curl 7.88, told so by a reset
            # at once, drops the answer.
            self._lingering = True
            self.deadline = self.context.seconds() + LINGER

    def _hold(self, size: int) -> bool:
        """Account for so many bytes instead of those before; say whether there is room for them."""
        more, memory = size - self._held, self.context.memory
        if more > 0 and not memory.take(more, self.connection):
            return False
        if more < 0:
            memory.give_back(-more, self.connection)
        self._held = size
        return True

    def _let_go(self) -> None:
        release, self._release = self._release, None
        if release is not None:
            release()

    @abstractmethod
    def _drop_body(self) -> None:
        """Let go of what has arrived of the request's body."""


def _written(head: ResponseHead) -> bytes:
    """Return what all responses with a head have in common; responses share heads, which keep it."""
    if not head.on_h2:
        fields = [(b":status", b"%d" % head.code)]
        fields += [
            each for each in (_lower(*each) for each in head.fields) if each[0] not in CONNECTION_SPECIFIC
        ]
        if head.length is not None and head.code != 204:
            fields.append((b"content-length", b"%d" % (0 if head.code == 205 else head.length)))
        head.on_h2 = WRITER.write(fields)
    return head.on_h2


def _lower(name: str, value: str) -> tuple[bytes, bytes]:
    return name.lower().encode("ascii"), value.strip(" \t").encode("latin-1")
