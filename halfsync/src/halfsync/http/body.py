"""Where a body ends: after so many bytes, or after its last chunk.

Chunks are read strictly (RFC 9112 section 7.1): sizes are hexadecimal digits and nothing else,
every line ends in CR LF, and what is dropped, extensions and trailers, is bounded
and well-formed all the same: another reader might not drop it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from halfsync.http.head import FRAMING, Refused

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_LINE = 1024
"""Bytes of a line that gives a chunk's size."""

MAX_EXTRA = 16 * 1024
"""Bytes of a body's extensions and trailers together.

Without it, chunks of a byte with a line of extensions each send a thousand times what they count for.
"""

MAX_DIGITS = 16
"""Of a chunk's size, leading zeros included."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = rb"\"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+\""
_EXTENSION = rb"[\t ]*+;[\t ]*+%b(?:[\t ]*+=[\t ]*+(?:%b|%b))?" % (_TOKEN, _TOKEN, _QUOTED)
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,%d})((?:%b)*+)\Z" % (MAX_DIGITS, _EXTENSION))
_TRAILER = re.compile(rb"(%b):[\t -~\x80-\xff]*\Z" % _TOKEN)

FORBIDDEN_TRAILERS = FRAMING | frozenset(
    (
        b"authorization",
        b"connection",
        b"cookie",
        b"expect",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"upgrade",
    )
)
"""What comes too late there, and might be believed all the same (RFC 9110 section 6.5.1)."""

_SIZE, _DATA, _DATA_END, _TRAILERS, _DONE = range(5)


class Counted:
    """A body of so many bytes, at least one.

    :param deliver: takes each piece of the body.
    :param finish: takes, after the last piece, what arrived behind the body.
    """

    def __init__(
        self, length: int, deliver: Callable[[bytes], None], finish: Callable[[bytes], None]
    ) -> None:
        self._left = length
        self._deliver = deliver
        self._finish = finish

    def dataReceived(self, data: bytes) -> None:
        """Pass on what has arrived."""
        left = self._left
        if len(data) < left:
            self._left = left - len(data)
            self._deliver(data)
        else:
            self._deliver(data[:left])
            self._finish(data[left:])


class Chunks:
    """A body in chunks.

    :param deliver: takes each piece of the body.
    :param finish: takes, after the last piece, what arrived behind the body.
    """

    def __init__(self, deliver: Callable[[bytes], None], finish: Callable[[bytes], None]) -> None:
        self._deliver = deliver
        self._finish = finish
        self._buffer = b""
        self._state = _SIZE
        self._left = 0
        self._extra = 0

    def dataReceived(self, data: bytes) -> None:
        """Decode what has arrived.

        :raises Refused: 400 when it is ill-formed; 431 when extensions and trailers are too large.
        """
        data = self._buffer + data
        self._buffer = b""
        at = 0
        while at < len(data) and self._state != _DONE:
            if self._state == _DATA:
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._state = _DATA_END
                self._deliver(piece)
            else:
                end = data.find(b"\r\n", at, at + MAX_LINE + 2)
                if end < 0:
                    self._keep(data[at:])
                    return
                line, at = data[at:end], end + 2
                if self._state == _DATA_END:
                    if line:
                        raise Refused(400)
                    self._state = _SIZE
                elif self._state == _SIZE:
                    self._size(line)
                elif line:
                    self._trailer(line)
                else:
                    self._state = _DONE
                    self._finish(data[at:])

    def _keep(self, start: bytes) -> None:
        """Keep the start of a line, unless it can already be seen that it will be refused."""
        if self._state == _DATA_END:
            if start != b"\r":
                raise Refused(400)
        elif len(start) >= MAX_LINE + 2 or b"\n" in start:
            raise Refused(400 if self._state == _SIZE else 431)
        self._buffer = start

    def _size(self, line: bytes) -> None:
        match = _SIZE_LINE.match(line)
        if match is None:
            raise Refused(400)
        self._count(len(match[2]))
        self._left = int(match[1], 16)
        self._state = _DATA if self._left else _TRAILERS

    def _trailer(self, line: bytes) -> None:
        match = _TRAILER.match(line)
        if match is None or match[1].lower().replace(b"_", b"-") in FORBIDDEN_TRAILERS:
            raise Refused(400)
        self._count(len(line))

    def _count(self, size: int) -> None:
        self._extra += size
        if self._extra > MAX_EXTRA:
            raise Refused(431)
