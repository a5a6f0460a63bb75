"""HTTP/1.1 as a server reads it: bytes in, events out, and no IO.

    parser.feed(data)
    while (event := parser.next()) is not None: ...

A request is a `RequestHead`; unless its length is 0, pieces of its body follow as `bytes`, and then `END`.
None means that more bytes have to come first. Nothing is read ahead of `next`: the connection decides when it
takes the next request. However the bytes are cut, the events are the same, pieces of bodies apart.

    state      reads                    and goes to
    HEAD       a head                   HEAD (length 0), COUNTED (a length), SIZE (chunked)
    COUNTED    so many bytes            COUNTED, HEAD after the last
    SIZE       a line with a size       DATA, TRAILERS when it is 0
    DATA       so many bytes            DATA, DATA_END after the last
    DATA_END   CR LF                    SIZE
    TRAILERS   a line                   TRAILERS, HEAD after an empty one

What is wrong raises `Refused` with the status that says so; after that there is nothing more to be read.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from halfsync.http.body import CHUNK, MAX_EXTRA, MAX_LINE, read_size, read_trailer
from halfsync.http.head import CONTROL, LINE, MANY, PLAIN, Refused, read_request_line
from halfsync.http.head import read as read_head
from halfsync.http.stream import RequestHead

if TYPE_CHECKING:
    from collections.abc import Callable

    from halfsync.http.bounds import Bounds

CR = 13
_ALLOWED = PLAIN + b"\r\n"

BODY = "a body longer than max_body"

A_TRAILER = 200
"""Bytes of memory that one takes besides its own."""


class End(Enum):
    """What follows the last piece of a body."""

    END = "end"


END: Final = End.END

Event = RequestHead | bytes | End

HEAD, COUNTED, SIZE, DATA, DATA_END, TRAILERS = range(6)


class Parser:
    """What has come on one connection, and how far it has been read.

    :param bounds: `max_head` (414, 431), `max_headers` (431), `max_body` (413).
    """

    __slots__ = (
        "_at",
        "_blank",
        "_bounds",
        "_buffer",
        "_extra",
        "_line_read",
        "_received",
        "_seen",
        "_trailers",
        "left",
        "state",
    )

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self.state = HEAD
        self.left = 0
        """Bytes that are to come of a counted body, or of a chunk."""
        self._buffer = b""
        self._at = 0
        """How much of the buffer has been read: cutting it for every chunk would copy it for every chunk."""
        self._seen = 0
        """Up to where the buffer holds no end of a head, and no bare LF."""
        self._blank = False
        """Whether an empty line has come before the request line."""
        self._line_read = False
        """Whether the request line of a head that is not complete has been found right."""
        self._extra = 0
        """Bytes of extensions and trailers of the present body."""
        self._received = 0
        """Bytes of the present chunked body."""
        self._trailers: tuple[tuple[str, str], ...] = ()
        """Of the present chunked body, those that are handed on."""

    @property
    def waiting(self) -> bytes:
        """What has come and is not read yet."""
        return self._buffer[self._at :]

    @property
    def between(self) -> bool:
        """Whether no byte of a request has come since the last one."""
        return self.state == HEAD and self._at == len(self._buffer)

    @property
    def ahead(self) -> int:
        """How many bytes have come and are not read yet."""
        return len(self._buffer) - self._at

    @property
    def held(self) -> int:
        """Bytes of memory for what has come and is not handed on: trailers wait for the end."""
        waiting = len(self._buffer) - self._at
        return waiting + self._extra + A_TRAILER * len(self._trailers) if self._trailers else waiting

    def take_trailers(self) -> tuple[tuple[str, str], ...]:
        """Return the names and values behind the body that has just ended; they are not kept."""
        trailers, self._trailers = self._trailers, ()
        return trailers

    def feed(self, data: bytes) -> None:
        """Take what has arrived."""
        if self._at < len(self._buffer):
            data = self._buffer[self._at :] + data
            self._seen = max(self._seen - self._at, 0)
        else:
            self._seen = 0
        self._buffer, self._at = data, 0

    def next(self) -> Event | None:
        """Return what comes next, or None when more bytes have to come first.

        :raises Refused: when it cannot be read.
        """
        return _STEPS[self.state](self)

    def took(self, count: int) -> None:
        """Count bytes of a counted body that went by; after the last one, no END follows."""
        self.left -= count
        if not self.left:
            self.state = HEAD

    def rest(self) -> bytes:
        """Return the rest of a counted body, all of which has come; no END follows."""
        piece = self._piece() or b""
        self.state = HEAD
        return piece

    def _head(self) -> RequestHead | None:
        buffer, at = self._buffer, self._at
        if at == len(buffer):
            return None
        # The look at one byte comes first, as it costs less and nearly always suffices.
        if buffer[at] == CR and buffer.startswith(b"\r\n", at):
            # One such line after a body is a fault of old clients (RFC 9112 section 2.2).
            if self._blank:
                raise Refused(400, LINE)
            self._blank = True
            self._at = at = at + 2
        # Of what lies between `_seen` and `at` there is an empty line at most: no end of a head begins there.
        end = buffer.find(b"\r\n\r\n", self._seen or at)
        bounds = self._bounds
        if end < 0 or end - at > bounds.max_head:
            self._incomplete(buffer[at:])
            return None
        read = read_head(buffer[at:end], bounds.max_headers)
        length = read.length
        if length:
            if length > bounds.max_body:
                raise Refused(413, BODY)
            self.state, self.left = COUNTED, length
        elif length is None:
            self.state, self._extra, self._received, self._trailers = SIZE, 0, 0, ()
        self._at = end + 4
        if self._at == len(buffer):
            self._buffer, self._at = b"", 0
        self._seen = 0
        self._blank = self._line_read = False
        return read

    def _incomplete(self, start: bytes) -> None:
        """Wait for the rest of a head, unless it can already be seen that it will be refused."""
        most = self._bounds.max_head
        line_end = start.find(b"\r\n", 0, most + 2)
        if len(start) > most + 3:
            raise Refused(414 if line_end < 0 else 431, "longer than max_head")
        if _is_wrong(start, max(self._seen - self._at - 1, 0)):
            raise Refused(400, CONTROL)
        if line_end >= 0 and not self._line_read:
            read_request_line(start[:line_end].decode("latin-1"))
            self._line_read = True
        self._seen = max(len(self._buffer) - 3, 0)

    def _counted(self) -> bytes | End | None:
        if not self.left:
            self.state = HEAD
            return END
        return self._piece()

    def _piece(self) -> bytes | None:
        buffer, at = self._buffer, self._at
        piece = buffer[at : at + self.left]
        if not piece:
            return None
        self.left -= len(piece)
        self._at = at = at + len(piece)
        if at == len(buffer):
            self._buffer, self._at = b"", 0
        return piece

    def _data(self) -> bytes | End | None:
        piece = self._piece()
        if piece is not None:
            self._received += len(piece)
            if self._received > self._bounds.max_body:
                raise Refused(413, BODY)
            if not self.left:
                self.state = DATA_END
        return piece

    def _line(self) -> bytes | None:
        """Return the next line; None when it is not whole, and nothing is wrong with its start."""
        buffer, at, state = self._buffer, self._at, self.state
        end = buffer.find(b"\r\n", at, at + MAX_LINE + 2)
        if end < 0:
            start = buffer[at : at + MAX_LINE + 2]
            if state == DATA_END:
                if start not in {b"", b"\r"}:
                    raise Refused(400, CHUNK)
            elif b"\n" in start:
                raise Refused(400, CHUNK)
            elif len(start) >= MAX_LINE + 2:
                raise Refused(400 if state == SIZE else 431, CHUNK)
            return None
        self._at = end + 2
        return buffer[at:end]

    def _size(self) -> bytes | End | None:
        line = self._line()
        if line is None:
            return None
        self.left, extra = read_size(line)
        self._count(extra)
        self.state = DATA if self.left else TRAILERS
        return self._data() if self.left else self._trailer_lines()

    def _data_end(self) -> bytes | End | None:
        line = self._line()
        if line is None:
            return None
        if line:
            raise Refused(400, CHUNK)
        self.state = SIZE
        return self._size()

    def _trailer_lines(self) -> End | None:
        while (line := self._line()) is not None:
            if not line:
                self.state = HEAD
                return END
            trailer = read_trailer(line)
            self._count(len(line))
            if trailer is not None:
                self._trailers += (trailer,)
                if len(self._trailers) > self._bounds.max_headers:
                    raise Refused(431, MANY)
        return None

    def _count(self, size: int) -> None:
        self._extra += size
        if self._extra > MAX_EXTRA:
            raise Refused(431, "too much in extensions and trailers of chunks")


def _is_wrong(start: bytes, at: int) -> bool:
    """Say whether part of a head has a control character, a bare CR, or a bare LF, from a place on.

    A regular expression takes ten times as long: 0.3 ms for 15 KB, and thousands may send as much.
    """
    if at and start[at] == 10:
        at -= 1
    part = start[at:]
    lines = part.count(b"\r\n")
    # The LF after the last CR may be still to come.
    returns = part.count(b"\r") - part.endswith(b"\r")
    return returns != lines or part.count(b"\n") != lines or bool(part.translate(None, _ALLOWED))


_STEPS: tuple[Callable[[Parser], Event | None], ...] = (
    Parser._head,  # noqa: SLF001  its own
    Parser._counted,  # noqa: SLF001
    Parser._size,  # noqa: SLF001
    Parser._data,  # noqa: SLF001
    Parser._data_end,  # noqa: SLF001
    Parser._trailer_lines,  # noqa: SLF001
)
