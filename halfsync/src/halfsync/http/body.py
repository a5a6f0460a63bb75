"""A body in chunks (RFC 9112 section 7.1), read strictly.

Sizes are hexadecimal digits and nothing else, every line ends in CR LF, and extensions, which are dropped,
are bounded and well-formed all the same: another reader might not drop them.
"""

from __future__ import annotations

import re

from halfsync.http.head import FRAMING, Refused

CHUNK = "a chunk that is not framed as one"
"""A reason for more than one refusal."""

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
_TRAILER = re.compile(rb"(%b):([\t -~\x80-\xff]*)\Z" % _TOKEN)

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

NO_TRAILERS = FORBIDDEN_TRAILERS | frozenset(
    (
        "age",
        "cache-control",
        "content-encoding",
        "content-range",
        "content-type",
        "date",
        "expires",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "keep-alive",
        "location",
        "max-forwards",
        "pragma",
        "proxy-authenticate",
        "proxy-connection",
        "range",
        "retry-after",
        "set-cookie",
        "vary",
        "warning",
        "www-authenticate",
        "x-request-id",
    )
)
"""What means nothing there either: of a request it is dropped, and a response is not given it.

It frames, routes, allows, changes or describes what was read before it (the same section).
"""


def read_size(line: bytes) -> tuple[int, int]:
    """Read a line that begins a chunk; return the chunk's size, and the length of its extensions.

    :raises Refused: 400.
    """
    match = _SIZE_LINE.match(line)
    if match is None:
        raise Refused(400, CHUNK)
    return int(match[1], 16), len(match[2])


def read_trailer(line: bytes) -> tuple[str, str] | None:
    """Read a line behind the last chunk; None for one to be dropped.

    :raises Refused: 400.
    """
    match = _TRAILER.match(line)
    if match is None or is_forbidden(name := match[1].decode("ascii")):
        raise Refused(400, "a trailer that is none, or is forbidden there")
    return None if is_no_trailer(name) else (name, match[2].decode("latin-1").strip("\t "))


def is_forbidden(name: str) -> bool:
    """Say whether a request with such a trailer is refused."""
    return name.lower().replace("_", "-") in FORBIDDEN_TRAILERS


def is_no_trailer(name: str) -> bool:
    """Say whether nobody is given such a trailer."""
    return name.lower().replace("_", "-") in NO_TRAILERS
