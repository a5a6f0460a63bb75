"""The state of an HTTP/2 connection (RFC 9113): bytes in, calls and bytes out, no Twisted.

hyper-h2 does the same in 3 to 5 times the time: an object and two state machines for every frame.

A stream is idle --HEADERS--> open --END_STREAM of the client--> half-closed --ours--> closed
(section 5.1; ours may be first).
Only the streams that are not closed are known; idle ones have greater numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from halfsync.http.h2.control import Control
from halfsync.http.h2.fields import FieldReader
from halfsync.http.h2.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    HEAD,
    MAX_FRAME,
    PADDED,
    PREFACE,
    PRIORITISED,
    ErrorCode,
    H2Error,
    Kind,
    unpadded,
)
from halfsync.http.h2.streams import (
    MAX_CONTINUATIONS,
    MAX_HEADER_BLOCK,
    MAX_STREAMS,
    MAX_WINDOW,
    RESET_COST,
    OpenStream,
)
from halfsync.http.reading_on import HEADS

if TYPE_CHECKING:
    from collections.abc import Callable

    from halfsync.http.bounds import Bounds
    from halfsync.http.h2.control import Actor

GAPS = 16
"""Of the numbers that a client passes over, so many ranges are remembered, for the code of an error."""

A_PIECE = 1024
"""Bytes of a frame of data, at least, that are taken before its end."""


class Session(Control):
    """A server's end: what arrives."""

    def __init__(self, bounds: Bounds, seconds: Callable[[], float], actor: Actor) -> None:
        super().__init__(bounds, seconds, actor)
        # Up to here 431; what is larger is not even decoded, and so the end of the connection.
        self._reader = FieldReader(4 * self.list_size)
        self._buffer = b""
        self._preface = False
        """Whether the client's has come."""
        self._settled = False
        """Whether its first SETTINGS have."""
        self._block: tuple[int, int, list[bytes]] | None = None
        """Of a head that goes on: its stream, the flags of its HEADERS, what has come."""
        self._block_size = 0
        self._heads = 0
        """That may still be read at present."""
        self.unread = False
        """Whether a whole head is left that `receive_data` might not read."""
        self._left = 0
        """Bytes that are to come of a frame of data that is taken in pieces."""
        self._taking = (0, 0, 0)
        """Of that frame: flags, stream, and what it takes of the windows."""

    @property
    def kept(self) -> int:
        """Bytes of frames and heads that came in part, or wait, and of what is known of heads."""
        return len(self._buffer) + self._block_size + self._reader.size

    def receive_data(self, data: bytes, heads: int = HEADS) -> int:
        """Read frames, and tell the actor what they bring; return how many heads there were.

        :param heads: that may be read at most; what follows the next one is `unread`.
        :raises H2Error: when the connection cannot go on.
        """
        data = self._buffer + data if self._buffer else data
        at, end = 0, len(data)
        if not self._preface:
            if not data.startswith(PREFACE[:end]):
                raise H2Error(ErrorCode.PROTOCOL_ERROR, "no HTTP/2")
            if end < len(PREFACE):
                self._buffer = data
                return 0
            self._preface = True
            at = len(PREFACE)
        self._heads = heads
        self.unread = False
        if self._left:
            at = self._take_more(memoryview(data))
        while end - at >= HEAD and self._actor is not None:
            length = int.from_bytes(data[at : at + 3])
            if length > MAX_FRAME:
                raise H2Error(ErrorCode.FRAME_SIZE_ERROR, "a frame is longer than it may be")
            kind, flags = data[at + 3], data[at + 4]
            number = int.from_bytes(data[at + 5 : at + HEAD]) & MAX_WINDOW
            if end - at < HEAD + length:
                if kind == _DATA and end - at >= A_PIECE and self._take_part(flags, number, length):
                    at += HEAD + self._take_more(memoryview(data)[at + HEAD :])
                break
            if self._heads <= 0 and kind in _HEADS:
                self.unread = True
                break
            at += HEAD
            payload, at = data[at : at + length], at + length
            self._receive(kind, flags, number, payload)
        self._buffer = data[at:]
        return heads - self._heads

    def _receive(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if not self._settled:
            if kind != Kind.SETTINGS or flags & ACK:
                raise H2Error(ErrorCode.PROTOCOL_ERROR, "the first frame is no SETTINGS")
            self._settled = True
        if self._block is not None and (kind != Kind.CONTINUATION or number != self._block[0]):
            raise H2Error(ErrorCode.PROTOCOL_ERROR, "a head was broken off")
        read = _READ.get(kind)
        if read is None:
            # To be ignored (section 4.1).
            self.spend(1)
        else:
            read(self, flags, number, payload)

    def _headers(self, flags: int, number: int, payload: bytes) -> None:
        if not number % 2:
            raise H2Error(ErrorCode.PROTOCOL_ERROR, "no number of a stream of a client's")
        block = unpadded(flags, payload)
        if flags & PRIORITISED:
            if len(block) < 5:
                raise H2Error(ErrorCode.FRAME_SIZE_ERROR, "HEADERS without its priority")
            block = block[5:]
        if flags & END_HEADERS:
            self._head(number, flags, block)
        else:
            self._block = (number, flags, [block])
            self._block_size = len(block)

    def _continuation(self, flags: int, number: int, payload: bytes) -> None:
        if self._block is None:
            raise H2Error(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of nothing")
        self.spend(1)
        self._block[2].append(payload)
        self._block_size += len(payload)
        if len(self._block[2]) > MAX_CONTINUATIONS:
            raise H2Error(ErrorCode.PROTOCOL_ERROR, "a head of too many frames")
        if self._block_size > MAX_HEADER_BLOCK:
            raise H2Error(ErrorCode.ENHANCE_YOUR_CALM, "a head does not end")
        if flags & END_HEADERS:
            _, flags, pieces = self._block
            self._block = None
            self._block_size = 0
            self._head(number, flags, b"".join(pieces))

    def _head(self, number: int, flags: int, block: bytes) -> None:
        self._heads -= 1
        # Also of one that is refused: the table of the connection must stay the same at both ends.
        fields = self._reader.read(block)
        ended = bool(flags & END_STREAM)
        stream = self._streams.get(number)
        actor = self._actor
        if actor is None:
            return
        if stream is not None:
            if stream.ended:
                self._fail_stream(number, ErrorCode.STREAM_CLOSED)
            elif not ended:
                # Of trailers, that is how a stream ends (section 8.1).
                self._fail_stream(number, ErrorCode.PROTOCOL_ERROR)
            else:
                self._end(number, stream)
                actor.trailers_came(number, fields)
                actor.end_came(number)
            return
        if number <= self.highest_inbound_stream_id:
            self._check_reset(number)
            return
        if number > self.highest_inbound_stream_id + 2:
            passed = range(self.highest_inbound_stream_id + 1, number)
            self._passed_over = (*self._passed_over[1 - GAPS :], passed)
        self.highest_inbound_stream_id = number
        if len(self._streams) >= MAX_STREAMS:
            # An error of that stream only (section 5.1.2): the client may not have read our settings yet.
            self.spend(RESET_COST)
            self.reset_stream(number, ErrorCode.REFUSED_STREAM)
            return
        self._streams[number] = OpenStream(self._initial_window, ended=ended)
        actor.request_came(number, fields, ended=ended)
        if ended:
            actor.end_came(number)

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        cost = len(payload)
        data = unpadded(flags, payload) if flags & PADDED else payload
        self._incoming -= cost
        if self._incoming < 0:
            raise H2Error(ErrorCode.FLOW_CONTROL_ERROR, "more data than the connection's window allows")
        stream = self._streams.get(number)
        if stream is None or stream.ended:
            self._check_not_idle(number)
            self.spend(1)
            if cost:
                self.acknowledge_received_data(cost, 0)
            if stream is not None:
                self._fail_stream(number, ErrorCode.STREAM_CLOSED)
            return
        stream.incoming -= cost
        if stream.incoming < 0:
            raise H2Error(ErrorCode.FLOW_CONTROL_ERROR, "more data than the stream's window allows")
        if not (data or flags & END_STREAM):
            self.spend(1)
        self._hand_on(flags, number, stream, data, cost)

    def _hand_on(
        self, flags: int, number: int, stream: OpenStream, data: bytes | memoryview, cost: int
    ) -> None:
        actor = self._actor
        if flags & END_STREAM:
            self._end(number, stream)
        if actor is not None:
            actor.data_came(number, data, cost)
            if flags & END_STREAM:
                actor.end_came(number)

    def _take_part(self, flags: int, number: int, length: int) -> bool:
        """Begin to take a frame of data before its end; say whether that can be.

        A thousand connections might keep 16 KiB each of what has to be copied again and again meanwhile.
        The windows know the whole frame from here on; the client may send as much again after its end.
        """
        stream = self._streams.get(number)
        if (
            stream is None
            or stream.ended
            or flags & PADDED
            or self._block is not None
            or length > min(stream.incoming, self._incoming)
        ):
            return False
        stream.incoming -= length
        self._incoming -= length
        self._left = length
        self._taking = (flags, number, length)
        return True

    def _take_more(self, data: memoryview) -> int:
        """Take the next piece of a frame of data; return how long it is."""
        piece = data[: self._left]
        if piece:
            self._left -= len(piece)
            flags, number, length = self._taking
            stream = self._streams.get(number)
            if self._left:
                if stream is not None:
                    self._hand_on(0, number, stream, piece, 0)
            elif stream is not None:
                self._hand_on(flags, number, stream, piece, length)
            else:
                # It was closed meanwhile.
                self.spend(1)
                self.acknowledge_received_data(length, 0)
        return len(piece)

    def _end(self, number: int, stream: OpenStream) -> None:
        stream.ended = True
        if stream.finished:
            del self._streams[number]


_DATA = int(Kind.DATA)
_HEADS = (int(Kind.HEADERS), int(Kind.CONTINUATION))

_READ: dict[int, Callable[[Session, int, int, bytes], None]] = {
    Kind.DATA: Session._data,  # noqa: SLF001  its own
    Kind.HEADERS: Session._headers,  # noqa: SLF001
    Kind.PRIORITY: Session._priority,  # noqa: SLF001
    Kind.RST_STREAM: Session._rst_stream,  # noqa: SLF001
    Kind.SETTINGS: Session._settings,  # noqa: SLF001
    Kind.PUSH_PROMISE: Session._push_promise,  # noqa: SLF001
    Kind.PING: Session._ping,  # noqa: SLF001
    Kind.GOAWAY: Session._goaway,  # noqa: SLF001
    Kind.WINDOW_UPDATE: Session._window_update,  # noqa: SLF001
    Kind.CONTINUATION: Session._continuation,  # noqa: SLF001
}
