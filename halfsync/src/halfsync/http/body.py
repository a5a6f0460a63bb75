"""A body in chunks (RFC 9112 section 7.1), read strictly.

Sizes are hexadecimal digits and nothing else, every line ends in CR LF, and what is dropped, extensions and
trailers, is bounded and well-formed all the same: another reader might not drop it.
"""

from __future__ import annotations

import re

from halfsync.http.head import FRAMING, Refused

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
        "authorization",
        "connection",
        "cookie",
        "expect",
        "proxy-authorization",
        "te",
        "trailer",
        "upgrade",
    )
)
"""What comes too late there, and might be believed all the same (RFC 9110 section 6.5.1)."""


def read_size(line: bytes) -> tuple[int, int]:
    """Read a line that begins a chunk; return the chunk's size, and the length of its extensions.

    :raises Refused: 400.
    """
    match = _SIZE_LINE.match(line)
    if match is None:
        raise Refused(400)
    return int(match[1], 16), len(match[2])


def check_trailer(line: bytes) -> None:
    """Look at a line behind the last chunk.

    :raises Refused: 400.
    """
    match = _TRAILER.match(line)
    if match is None or match[1].decode("ascii").lower().replace("_", "-") in FORBIDDEN_TRAILERS:
        raise Refused(400)
