"""The head of an HTTP/1.1 request, read strictly (RFC 9112 sections 2 to 6).

Whatever two readers could understand differently is refused rather than repaired:
a proxy in front and an application behind must see the same request,
with the same target, the same host, and the same end.

Where the RFC leaves room, this is what is done with it:

- Lines end in CR LF. A bare LF, a bare CR, a folded line, and a control character anywhere are refused.
- A method has no lower-case letters: methods are case-sensitive, and a reader that folds their case,
  as some do, would see another one.
- A target is printable ASCII without `#`: what follows it is a path for one reader and none for another.
  An absolute one has no user name or password (RFC 9110 section 4.2.4).
- `Transfer-Encoding` is exactly `chunked`: other codings are for no one here to undo.
- `Transfer_Encoding` and the like are refused: behind CGI-like variables they are what frames the body.
- A second `Content-Type` is refused: a reader takes the first of them, or the last, or both joined.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from twisted.web.http_headers import Headers

KNOWN_NAMES = 1000
"""How many header names are remembered; clients choose them, so there is a bound."""

LONGEST_NAME = 256
"""Bytes of a header's name; beyond it 431. twisted.web remembers 10,000 of them for good."""

LENGTH_DIGITS = 18
"""Of a Content-Length; more of them is no length of anything."""

_PLAIN = bytes([9, *range(32, 127), *range(128, 256)])
"""What a head is made of, apart from its line ends: tab, printable ASCII, and what is not ASCII."""

_REQUEST_LINE = re.compile(rb"([!$%&'*+.^_`|~0-9A-Z-]+) ([!-\"$-~]+) HTTP/(1\.[01])\Z")
_OTHER_VERSION = re.compile(rb"[^ ]+ [^ ]+ HTTP/[0-9]\.[0-9]\Z")
_ABSOLUTE = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?]+)(?:[/?]|\Z)")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_HOST = re.compile(
    rb"(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})+(?::[0-9]{0,5})?\Z"
    rb"|\[(?:[0-9A-Fa-f:.]+|v[0-9A-Fa-f]+\.[A-Za-z0-9._~!$&'()*+,;=:-]+)\](?::[0-9]{0,5})?\Z"
)

SINGLE = frozenset((b"Host", b"Content-Length", b"Transfer-Encoding", b"Content-Type"))
"""Headers of which there is at most one."""

FRAMING = frozenset((b"host", b"content-length", b"transfer-encoding"))
"""What decides where a request goes and where it ends."""

_names: dict[bytes, bytes] = {}


class Refused(Exception):  # noqa: N818  the request is, by us
    """A request that gets a status instead of being served; its connection is closed."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass(slots=True)
class Head:
    """What the head of a request says."""

    method: bytes
    target: bytes
    """Origin-form, absolute-form with http or https, or `*`."""
    version: bytes
    fields: dict[bytes, list[bytes]]
    """Values by names as twisted.web spells them."""
    length: int | None
    """The body's in bytes; None for a chunked one."""


def read(text: bytes, max_headers: int) -> Head:
    """Read a head: the request line and the header lines, without the empty line after them.

    :raises Refused: 400; 431 for too many headers; 501 for CONNECT and for transfer codings;
        505 for versions other than 1.0 and 1.1.
    """
    lines = text.split(b"\r\n")
    if text.translate(None, _PLAIN) != b"\r\n" * (len(lines) - 1):
        # Something that is neither plain nor one of the line ends just found.
        raise Refused(400)
    method, target, version = read_request_line(lines[0])
    if len(lines) > max_headers + 1:
        raise Refused(431)
    fields: dict[bytes, list[bytes]] = {}
    for line in lines[1:]:
        raw_name, colon, value = line.partition(b":")
        if not colon:
            raise Refused(400)
        name = _names.get(raw_name) or _name(raw_name)
        if name not in fields:
            fields[name] = [value.strip(b"\t ")]
        elif name in SINGLE:
            raise Refused(400)
        else:
            fields[name].append(value.strip(b"\t "))
    _check_host(fields, version)
    return Head(method, target, version, fields, _length(fields, version))


def is_host(value: bytes) -> bool:
    """Say whether a value is a host with or without a port (RFC 9110 section 7.2).

    A comma, which the RFC allows in names, is not: no name has one, two hosts made one by a proxy do.
    """
    return _HOST.match(value) is not None


def in_disguise(name: bytes) -> bool:
    """Say whether a name passes for one that frames a request, where underscores are dashes."""
    return b"_" in name and name.replace(b"_", b"-").lower() in FRAMING


def read_request_line(line: bytes) -> tuple[bytes, bytes, bytes]:
    """Return method, target and version.

    :raises Refused: 400; 501 for CONNECT; 505 for versions other than 1.0 and 1.1.
    """
    match = _REQUEST_LINE.match(line)
    if match is None:
        if _OTHER_VERSION.match(line) and not line.endswith((b"1.0", b"1.1")):
            raise Refused(505)
        raise Refused(400)
    method, target, version = match.groups()
    if not target.startswith(b"/"):
        _check_target(method, target)
    elif method == b"CONNECT":
        raise Refused(400)
    return method, target, b"HTTP/" + version


def _check_target(method: bytes, target: bytes) -> None:
    if method == b"CONNECT":
        raise Refused(501 if is_host(target) else 400)
    if target == b"*":
        if method != b"OPTIONS":
            raise Refused(400)
        return
    absolute = _ABSOLUTE.match(target)
    if absolute is None or not is_host(absolute[1]):
        raise Refused(400)


def _name(raw: bytes) -> bytes:
    # Whitespace before the colon, and at the start of a folded line, is no part of a token either.
    if _NAME.match(raw) is None:
        raise Refused(400)
    if in_disguise(raw):
        raise Refused(400)
    if len(raw) > LONGEST_NAME:
        raise Refused(431)
    name, _ = next(iter(Headers({raw: []}).getAllRawHeaders()))
    if len(_names) < KNOWN_NAMES:
        _names[raw] = name
    return name


def _check_host(fields: dict[bytes, list[bytes]], version: bytes) -> None:
    hosts = fields.get(b"Host")
    if hosts is None:
        if version == b"HTTP/1.1":
            raise Refused(400)
    # An empty one is what a client sends that has no name for us (RFC 9112 section 3.2).
    elif hosts[0] and not is_host(hosts[0]):
        raise Refused(400)


def _length(fields: dict[bytes, list[bytes]], version: bytes) -> int | None:
    lengths = fields.get(b"Content-Length")
    codings = fields.get(b"Transfer-Encoding")
    if codings is not None:
        if lengths is not None or version == b"HTTP/1.0":
            # RFC 9112 section 6.1: the two readings of it are how requests are smuggled.
            raise Refused(400)
        if codings[0].lower() == b"chunked":
            return None
        last = codings[0].lower().rpartition(b",")[2].strip(b"\t ")
        raise Refused(501 if last == b"chunked" else 400)
    if lengths is None:
        return 0
    digits = lengths[0]
    # bytes.isdigit, unlike that of str, knows 0 to 9 only.
    if not digits.isdigit() or len(digits) > LENGTH_DIGITS:
        raise Refused(400)
    return int(digits)
