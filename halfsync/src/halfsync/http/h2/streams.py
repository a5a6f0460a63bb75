"""The streams of an HTTP/2 connection as a server sees them, and what it sends on them (RFC 9113)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from halfsync.http.h2.fields import NO_TABLE
from halfsync.http.h2.frames import (
    END_HEADERS,
    END_STREAM,
    MAX_FRAME,
    ErrorCode,
    H2Error,
    Kind,
    Setting,
    frame,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from halfsync.http.bounds import Bounds

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


class OpenStream:
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


class Streams:
    """What is sent, what may be sent, and what the client has to its credit."""

    def __init__(self, bounds: Bounds, seconds: Callable[[], float]) -> None:
        self.highest_inbound_stream_id = 0
        self.max_outbound_frame_size = MAX_FRAME
        self.closed = False
        """Whether a GOAWAY for an error of the client's has been sent."""
        # The client counts 32 for each header (section 6.5.2).
        self.list_size = bounds.max_head + 32 * (bounds.max_headers + 5)
        self._streams: dict[int, OpenStream] = {}
        self._out: list[bytes] = []
        self._size = 0
        self._outgoing = DEFAULT_WINDOW
        self._incoming = CONNECTION_WINDOW
        self._initial_window = DEFAULT_WINDOW
        self._wrote_fields = False
        self._resets: tuple[int, ...] = ()
        """Streams that we ended before the client did: it may not know yet.

        To a client those are open for as long, and of open ones it has no more.
        """
        self._taken: dict[int, int] = {}
        """Bytes taken, by stream, of which the client does not know yet; 0 is the connection."""
        self._seconds = seconds
        self._credit: float = CREDIT
        self._credited = seconds()

    def open(self) -> None:
        """Send the settings, and open the window of the connection."""
        settings = {
            Setting.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
            Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            Setting.MAX_HEADER_LIST_SIZE: self.list_size,
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

    def send_headers(self, number: int, block: bytes, *, end_stream: bool = False) -> None:
        """Send a head, or what comes before it (1xx) or behind the body, as `h2_fields` writes it."""
        if not self._wrote_fields:
            self._wrote_fields = True
            block = NO_TABLE + block
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
        stream = self._streams.pop(number, None)
        if stream is None or not stream.ended:
            self._resets = (*self._resets[1 - MAX_STREAMS :], number)
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
