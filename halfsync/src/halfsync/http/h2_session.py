"""The state of an HTTP/2 connection and its streams (RFC 9113): bytes in, calls and bytes out, no Twisted.

hyper-h2 does the same in 3 to 5 times the time: an object and two state machines for every frame.

A stream is idle --HEADERS--> open --END_STREAM of the client--> half-closed --ours--> closed
(section 5.1; ours may be first).
Only the streams that are not closed are known; idle ones have greater numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from halfsync.http.h2_fields import FieldReader, FieldWriter
from halfsync.http.h2_frames import (
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
    Setting,
    frame,
    unpadded,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from halfsync.http.bounds import Bounds
    from halfsync.http.h2_fields import Fields

MAX_STREAMS = 100
"""Requests at a time on a connection. Fewer than 100 is discouraged (section 6.5.2)."""

DEFAULT_WINDOW = 65_535
MAX_WINDOW = 2**31 - 1
STREAM_WINDOW = 256 * 1024
CONNECTION_WINDOW = 1024 * 1024
"""Bytes of bodies that a client may send ahead. They cost no memory: what has come is spooled at once."""

MAX_HEADER_BLOCK = 64 * 1024
"""Bytes of a head, compressed, over all its CONTINUATION frames."""

MAX_CONTINUATIONS = 64
"""Frames of a head."""

CREDIT = 2000
CREDIT_RATE = 200
"""What a connection may spend on frames that bring no request and no data, at once and more each second."""

RESET_COST = 5
"""A stream that comes to nothing: 400 at once, 40 a second (CVE-2023-44487 and CVE-2025-8671)."""

RESPONSE_CREDIT = 4
DATA_CREDIT = 2
"""What a whole response, or a piece of one, earns: a client may well confirm each of them."""

SETTINGS_A_CREDIT = 30
"""Settings of a frame that cost as much as the frame."""

_WRITER = FieldWriter()


class Actor(Protocol):
    """What happens to a connection, as its session tells it."""

    def request_came(self, number: int, fields: Fields, *, ended: bool) -> None:
        """Begin a stream with a head."""

    def data_came(self, number: int, data: bytes, cost: int) -> None:
        """Take a piece of a body; `cost` is what it takes of the windows."""

    def trailers_came(self, number: int, fields: Fields) -> None:
        """Headers after a body."""

    def end_came(self, number: int) -> None:
        """Answer a request that is whole."""

    def reset_came(self, number: int, *, ours: bool) -> None:
        """End a stream with an error, the client's or one that the client has made."""

    def window_opened(self, number: int) -> None:
        """More may be sent: on a stream, or on all when the number is 0."""

    def goodbye_came(self) -> None:
        """Expect no more requests."""


class _Stream:
    """A stream that is not closed."""

    __slots__ = ("ended", "finished", "incoming", "outgoing")

    def __init__(self, outgoing: int, *, ended: bool) -> None:
        self.outgoing = outgoing
        """Bytes that we may send."""
        self.incoming = STREAM_WINDOW
        """Bytes that the client may send."""
        self.ended = ended
        """Whether the client has sent all."""
        self.finished = False
        """Whether we have."""


class Session:
    """A server's end."""

    def __init__(self, bounds: Bounds, seconds: Callable[[], float], actor: Actor) -> None:
        self.highest_inbound_stream_id = 0
        self.max_outbound_frame_size = MAX_FRAME
        self.closed = False
        """Whether a GOAWAY for an error of the client's has been sent."""
        # The client counts 32 for each header (section 6.5.2).
        self._list_size = bounds.max_head + 32 * (bounds.max_headers + 5)
        # Up to here 431; what is larger is not even decoded, and so the end of the connection.
        self._reader = FieldReader(4 * self._list_size)
        self._actor: Actor | None = actor
        self._streams: dict[int, _Stream] = {}
        self._out: list[bytes] = []
        self._size = 0
        self._buffer = b""
        self._preface = False
        """Whether the client's has come."""
        self._settled = False
        """Whether its first SETTINGS have."""
        self._block: tuple[int, int, list[bytes]] | None = None
        """Of a head that goes on: its stream, the flags of its HEADERS, what has come."""
        self._block_size = 0
        self._outgoing = DEFAULT_WINDOW
        self._incoming = CONNECTION_WINDOW
        self._initial_window = DEFAULT_WINDOW
        self._wrote_fields = False
        self._taken: dict[int, int] = {}
        """Bytes taken, by stream, of which the client does not know yet; 0 is the connection."""
        self._seconds = seconds
        self._credit: float = CREDIT
        self._credited = seconds()

    # Out.

    def open(self) -> None:
        """Send the settings, and open the window of the connection."""
        settings = {
            Setting.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
            Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            Setting.MAX_HEADER_LIST_SIZE: self._list_size,
        }
        payload = b"".join(key.to_bytes(2) + value.to_bytes(4) for key, value in settings.items())
        self._send(frame(Kind.SETTINGS, 0, 0, payload))
        more = CONNECTION_WINDOW - DEFAULT_WINDOW
        self._send(frame(Kind.WINDOW_UPDATE, 0, 0, more.to_bytes(4)))

    @property
    def waiting(self) -> int:
        """Bytes that wait to be taken by `data_to_send`."""
        return self._size

    def _open_windows(self) -> None:
        """Let the client send as much again as has been taken from it; all of a turn in a frame each."""
        taken, self._taken = self._taken, {}
        for number, count in taken.items():
            stream = self._streams.get(number)
            if not number:
                self._incoming += count
            elif stream is None or stream.ended:
                continue
            else:
                stream.incoming += count
            self._send(frame(Kind.WINDOW_UPDATE, 0, number, count.to_bytes(4)))

    def data_to_send(self) -> bytes:
        """Return what is to be sent."""
        if self._taken:
            self._open_windows()
        data, self._out, self._size = b"".join(self._out), [], 0
        return data

    def send_headers(
        self, number: int, fields: Iterable[tuple[bytes, bytes]], *, end_stream: bool = False
    ) -> None:
        """Send a head, or what comes before it (1xx)."""
        block = _WRITER.write(fields, first=not self._wrote_fields)
        self._wrote_fields = True
        ending = END_STREAM if end_stream else 0
        most = self.max_outbound_frame_size
        if len(block) <= most:
            self._send(frame(Kind.HEADERS, END_HEADERS | ending, number, block))
        else:
            self._send(frame(Kind.HEADERS, ending, number, block[:most]))
            for at in range(most, len(block), most):
                last = END_HEADERS if at + most >= len(block) else 0
                self._send(frame(Kind.CONTINUATION, last, number, block[at : at + most]))
        if end_stream:
            self._finish(number)

    def send_data(self, number: int, data: bytes, *, end_stream: bool = False) -> None:
        """Send a piece of a body, no longer than a frame and the window allow."""
        stream = self._streams.get(number)
        if stream is not None:
            stream.outgoing -= len(data)
            self._outgoing -= len(data)
            self._send(frame(Kind.DATA, END_STREAM if end_stream else 0, number, data))
            if end_stream:
                self._finish(number)

    def end_stream(self, number: int) -> None:
        """End a response whose body is sent."""
        self.send_data(number, b"", end_stream=True)

    def reset_stream(self, number: int, code: ErrorCode) -> None:
        """End a stream with an error."""
        self._streams.pop(number, None)
        self._send(frame(Kind.RST_STREAM, 0, number, code.to_bytes(4)))

    def local_flow_control_window(self, number: int) -> int:
        """Return how many bytes of a body may be sent now."""
        stream = self._streams.get(number)
        return 0 if stream is None else min(stream.outgoing, self._outgoing)

    def knows(self, number: int) -> bool:
        """Say whether a stream is not closed."""
        return number in self._streams

    def acknowledge_received_data(self, count: int, number: int) -> None:
        """Let the client send as much again."""
        for each in {0, number}:
            self._taken[each] = self._taken.get(each, 0) + count

    def say_goaway(self, last_stream_id: int, code: ErrorCode = ErrorCode.NO_ERROR) -> None:
        """Announce that later streams will not be answered (section 6.8)."""
        self._send(frame(Kind.GOAWAY, 0, 0, last_stream_id.to_bytes(4) + code.to_bytes(4)))

    def close_connection(self, code: ErrorCode) -> None:
        """Say why the connection ends."""
        if not self.closed:
            self.closed = True
            self.say_goaway(self.highest_inbound_stream_id, code)

    def dissolve(self) -> None:
        """Let go of the connection, which has this."""
        self._actor = None

    def earn(self, credit: int) -> None:
        """Have the client do something in return for what it got."""
        self._credit = min(CREDIT, self._credit + credit)

    def spend(self, cost: int) -> None:
        """Have the client pay for what brings nothing.

        :raises H2Error: when it has spent all.
        """
        self._credit -= cost
        if self._credit < 0:
            now = self._seconds()
            self._credit = min(CREDIT, self._credit + CREDIT_RATE * (now - self._credited))
            self._credited = now
            if self._credit < 0:
                raise H2Error(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that bring nothing")

    def _send(self, data: bytes) -> None:
        self._out.append(data)
        self._size += len(data)

    def _finish(self, number: int) -> None:
        stream = self._streams.get(number)
        if stream is not None:
            stream.finished = True
            if stream.ended:
                del self._streams[number]

    # In.

    def receive_data(self, data: bytes) -> None:
        """Read frames, and tell the actor what they bring.

        :raises H2Error: when the connection cannot go on.
        """
        data = self._buffer + data if self._buffer else data
        at, end = 0, len(data)
        if not self._preface:
            if not data.startswith(PREFACE[:end]):
                raise H2Error(ErrorCode.PROTOCOL_ERROR, "no HTTP/2")
            if end < len(PREFACE):
                self._buffer = data
                return
            self._preface = True
            at = len(PREFACE)
        while end - at >= HEAD and self._actor is not None:
            length = int.from_bytes(data[at : at + 3])
            if length > MAX_FRAME:
                raise H2Error(ErrorCode.FRAME_SIZE_ERROR, "a frame is longer than it may be")
            if end - at < HEAD + length:
                break
            kind, flags = data[at + 3], data[at + 4]
            number = int.from_bytes(data[at + 5 : at + HEAD]) & MAX_WINDOW
            at += HEAD
            payload, at = data[at : at + length], at + length
            self._receive(kind, flags, number, payload)
        self._buffer = data[at:]

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
            self._head(number, flags, b"".join(pieces))

    def _head(self, number: int, flags: int, block: bytes) -> None:
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
            # It was closed, perhaps by us a moment ago; the client pays for what it makes us read.
            self.spend(RESET_COST)
            return
        self.highest_inbound_stream_id = number
        if len(self._streams) >= MAX_STREAMS:
            # An error of that stream only (section 5.1.2): the client may not have read our settings yet.
            self.spend(RESET_COST)
            self.reset_stream(number, ErrorCode.REFUSED_STREAM)
            return
        self._streams[number] = _Stream(self._initial_window, ended=ended)
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
        actor = self._actor
        if flags & END_STREAM:
            self._end(number, stream)
        if actor is not None:
            actor.data_came(number, data, cost)
            if flags & END_STREAM:
                actor.end_came(number)

    def _end(self, number: int, stream: _Stream) -> None:
        stream.ended = True
        if stream.finished:
            del self._streams[number]

    def _fail_stream(self, number: int, code: ErrorCode) -> None:
        self.reset_stream(number, code)
        if self._actor is not None:
            self._actor.reset_came(number, ours=True)

    def _check_not_idle(self, number: int) -> None:
        if not number % 2 or number > self.highest_inbound_stream_id:
            raise H2Error(ErrorCode.PROTOCOL_ERROR, "a frame of a stream that has not begun")

    def _priority(self, flags: int, number: int, payload: bytes) -> None:
        del flags
        self.spend(1)
        if not number:
            raise H2Error(ErrorCode.PROTOCOL_ERROR, "PRIORITY of no stream")
        if len(payload) != 5:
            raise H2Error(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY is of five bytes")

    def _rst_stream(self, flags: int, number: int, payload: bytes) -> None:
        del flags
        self.spend(RESET_COST)
        if len(payload) != 4:
            raise H2Error(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM is of four bytes")
        self._check_not_idle(number)
        if self._streams.pop(number, None) is not None and self._actor is not None:
            self._actor.reset_came(number, ours=False)

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        self.spend(1 + len(payload) // (6 * SETTINGS_A_CREDIT))
        if number:
            raise H2Error(ErrorCode.PROTOCOL_ERROR, "SETTINGS of a stream")
        if len(payload) % 6 or (flags & ACK and payload):
            raise H2Error(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS of a wrong length")
        if flags & ACK:
            return
        for at in range(0, len(payload), 6):
            act = _SETTINGS.get(int.from_bytes(payload[at : at + 2]))
            if act is not None:
                act(self, int.from_bytes(payload[at + 2 : at + 6]))
        self._send(frame(Kind.SETTINGS, ACK, 0))
        if self._actor is not None:
            self._actor.window_opened(0)

    def _set_initial_window(self, value: int) -> None:
        if value > MAX_WINDOW:
            raise H2Error(ErrorCode.FLOW_CONTROL_ERROR, "a window that is too large")
        change, self._initial_window = value - self._initial_window, value
        for stream in self._streams.values():
            stream.outgoing += change
            if stream.outgoing > MAX_WINDOW:
                raise H2Error(ErrorCode.FLOW_CONTROL_ERROR, "a window that is too large")

    def _set_frame_size(self, value: int) -> None:
        if not MAX_FRAME <= value < 2**24:
            raise H2Error(ErrorCode.PROTOCOL_ERROR, "a size of frames that may not be")
        self.max_outbound_frame_size = min(value, 4 * MAX_FRAME)

    def _set_push(self, value: int) -> None:
        if value > 1:
            raise H2Error(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        self.spend(1)
        if number:
            raise H2Error(ErrorCode.PROTOCOL_ERROR, "PING of a stream")
        if len(payload) != 8:
            raise H2Error(ErrorCode.FRAME_SIZE_ERROR, "PING is of eight bytes")
        if not flags & ACK:
            self._send(frame(Kind.PING, ACK, 0, payload))

    def _goaway(self, flags: int, number: int, payload: bytes) -> None:
        del flags
        self.spend(1)
        if number:
            raise H2Error(ErrorCode.PROTOCOL_ERROR, "GOAWAY of a stream")
        if len(payload) < 8:
            raise H2Error(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY of a wrong length")
        if self._actor is not None:
            self._actor.goodbye_came()

    def _window_update(self, flags: int, number: int, payload: bytes) -> None:
        del flags
        self.spend(1)
        if len(payload) != 4:
            raise H2Error(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE is of four bytes")
        more = int.from_bytes(payload) & MAX_WINDOW
        if not number:
            self._outgoing += more
            if not more:
                raise H2Error(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
            if self._outgoing > MAX_WINDOW:
                raise H2Error(ErrorCode.FLOW_CONTROL_ERROR, "a window that is too large")
        else:
            stream = self._streams.get(number)
            if stream is None:
                self._check_not_idle(number)
                return
            stream.outgoing += more
            if not more or stream.outgoing > MAX_WINDOW:
                self._fail_stream(number, ErrorCode.FLOW_CONTROL_ERROR if more else ErrorCode.PROTOCOL_ERROR)
                return
        if self._actor is not None:
            self._actor.window_opened(number)

    def _push_promise(self, flags: int, number: int, payload: bytes) -> None:
        del flags, number, payload
        raise H2Error(ErrorCode.PROTOCOL_ERROR, "a client promises nothing")


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
_SETTINGS: dict[int, Callable[[Session, int], None]] = {
    # Not HEADER_TABLE_SIZE: our encoder has no table. MAX_HEADER_LIST_SIZE is advice only.
    Setting.ENABLE_PUSH: Session._set_push,  # noqa: SLF001
    Setting.INITIAL_WINDOW_SIZE: Session._set_initial_window,  # noqa: SLF001
    Setting.MAX_FRAME_SIZE: Session._set_frame_size,  # noqa: SLF001
}
