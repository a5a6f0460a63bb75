"""A form in the body of a request, for a resource of twisted.web; read in the reactor, so in linear time.

twisted.web reads `multipart/form-data` by Python's parser of mail: one of 48 KB, made for the purpose, took
half a second. RFC 7578 needs little of what mail has: parts, each with a name.
"""

from __future__ import annotations

import re
from binascii import a2b_base64, a2b_qp
from typing import TYPE_CHECKING

from twisted.web.http import parse_qs

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_FORM = 64 * 1024
"""Bytes of a form that is read into `request.args`; a larger one is left in `request.content`."""

MAX_FIELDS = 1000
"""Fields of one; so is one with more of them."""

MAX_HEADERS = 4096
"""Bytes of the headers of a part."""

URLENCODED, MULTIPART = b"application/x-www-form-urlencoded", b"multipart/form-data"

_VALUE = rb"(?:\"((?:[^\"\\\r\n]|\\.)*+)\"|([^\s\";]*+))"
_PARAMETER = re.compile(rb"[\t ]*;[\t ]*([!#$%%&'*+.^_`|~0-9A-Za-z-]++)=%b" % _VALUE)
_DISPOSITION = re.compile(rb"content-disposition:[\t ]*form-data", re.IGNORECASE)
_ENCODING = re.compile(rb"content-transfer-encoding:[\t ]*([a-z0-9-]+)[\t ]*\Z", re.IGNORECASE)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)

_DECODED: dict[bytes, Callable[[bytes], bytes]] = {b"base64": a2b_base64, b"quoted-printable": a2b_qp}
"""Of the encodings of mail, those that change the content; RFC 7578 section 4.7 has none of them any more."""


def read_form(content_type: bytes, body: bytes) -> dict[bytes, list[bytes]] | None:
    """Return the fields of a body, by name; None for what is no form, or has too many fields.

    :raises ValueError: for a form that is not well-formed.
    """
    if not content_type.isascii():
        raise ValueError("a media type is ASCII")
    kind = content_type.partition(b";")[0].strip(b" \t").lower()
    if kind == URLENCODED:
        if body.count(b"&") + body.count(b";") >= MAX_FIELDS:
            return None
        fields: dict[bytes, list[bytes]] = parse_qs(body, 1)
        return fields
    return _multipart(content_type, body) if kind == MULTIPART else None


def _multipart(content_type: bytes, body: bytes) -> dict[bytes, list[bytes]] | None:
    boundary = _parameter(content_type, content_type.find(b";"), b"boundary")
    # RFC 2046 section 5.1.1.
    if not 1 <= len(boundary) <= 70:
        raise ValueError("a form of parts has a boundary of 1 to 70 bytes")
    delimiter = b"\r\n--" + boundary
    body = b"\r\n" + body
    if body.count(delimiter) > MAX_FIELDS:
        return None
    _, *parts = body.split(delimiter)
    fields: dict[bytes, list[bytes]] = {}
    for part in parts:
        if part.startswith(b"--"):
            return fields
        line, end, rest = part.partition(b"\r\n")
        if not end or line.strip(b" \t"):
            raise ValueError("a boundary is a line of its own")
        name, value = _part(rest)
        if name:
            fields.setdefault(name, []).append(value)
    raise ValueError("a form of parts has an end")


def _part(part: bytes) -> tuple[bytes, bytes]:
    """Return name and content of a part; the name is empty when it has none."""
    if part.startswith(b"\r\n"):
        return b"", part[2:]
    head, end, content = part.partition(b"\r\n\r\n")
    if not end or len(head) > MAX_HEADERS:
        raise ValueError(f"a part has headers, of {MAX_HEADERS} bytes at most, and an empty line after them")
    name = b""
    for line in head.split(b"\r\n"):
        if (disposition := _DISPOSITION.match(line)) is not None:
            name = _parameter(line, disposition.end(), b"name")
        elif (encoding := _ENCODING.match(line)) is not None:
            decoded = _DECODED.get(encoding[1].lower())
            content = content if decoded is None else decoded(content)
    return name, content


def _parameter(line: bytes, at: int, name: bytes) -> bytes:
    """Return a parameter of a header, those of which begin at a place; nothing when it has none."""
    while at >= 0 and (found := _PARAMETER.match(line, at)) is not None:
        if found[1].lower() == name:
            quoted: bytes | None = found[2]
            return found[3] if quoted is None else _ESCAPED.sub(rb"\1", quoted)
        at = found.end()
    return b""
