"""The first bytes of a connection to a TLS port: a ClientHello, a request in plain HTTP, or something else.

They are looked at before OpenSSL reads them, for two things that the standard library's `ssl` leaves out:
a client none of whose protocols (ALPN) is spoken here must be told so by an alert (RFC 7301, section 3.2),
and one that speaks HTTP without TLS should read in HTTP what is wrong.
A connection that has not sent its whole ClientHello costs no memory of OpenSSL's, too.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

LOOKED_AT = 16 * 1024
"""Bytes that are looked at; a ClientHello has 200 to 2,000. A longer one is OpenSSL's alone."""

_HANDSHAKE, _CLIENT_HELLO, _ALPN = 22, 1, 16
_REQUEST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32} [^ \r\n]+ HTTP/[0-9]\.[0-9]\r?\n")
_LONGEST_LINE = 8192


class Kind(Enum):
    """What a connection begins with."""

    UNFINISHED = "unfinished"
    """Not known before more has arrived."""
    HELLO = "hello"
    HTTP = "http"
    OTHER = "other"
    """OpenSSL finds out what is wrong with it."""


class FirstBytes(NamedTuple):
    """What a connection begins with."""

    kind: Kind
    protocols: tuple[bytes, ...] = ()
    """What the client offers by ALPN; nothing when it does without."""


_UNFINISHED, _OTHER = FirstBytes(Kind.UNFINISHED), FirstBytes(Kind.OTHER)


def read_first_bytes(data: bytes) -> FirstBytes:
    """Judge what has arrived so far."""
    if not data:
        return _UNFINISHED
    if data[0] == _HANDSHAKE:
        return _read_records(data)
    line, end, _ = data[:_LONGEST_LINE].partition(b"\n")
    if end:
        return FirstBytes(Kind.HTTP) if _REQUEST_LINE.match(line + end) else _OTHER
    # The letters of a method, and no end of the line yet.
    unfinished = data[:1].isalpha() and len(data) < _LONGEST_LINE and data.isascii()
    return _UNFINISHED if unfinished else _OTHER


def _read_records(data: bytes) -> FirstBytes:
    """Put the handshake message together from its records (RFC 8446, section 5.1)."""
    message, at = b"", 0
    while len(data) >= at + 5:
        length = int.from_bytes(data[at + 3 : at + 5], "big")
        if data[at] != _HANDSHAKE or data[at + 1] != 3 or not length:
            return _OTHER
        message += data[at + 5 : at + 5 + length]
        at += 5 + length
        if len(message) >= 4:
            if message[0] != _CLIENT_HELLO:
                return _OTHER
            end = 4 + int.from_bytes(message[1:4], "big")
            if len(message) >= end:
                return FirstBytes(Kind.HELLO, _protocols(message[4:end]))
    return _UNFINISHED if len(data) < LOOKED_AT else _OTHER


def _protocols(hello: bytes) -> tuple[bytes, ...]:
    """Find the protocols in a ClientHello (RFC 8446, section 4.1.2).

    None are found in one that is malformed, and OpenSSL says what is wrong with it.
    """
    # Version and random; then session id, cipher suites, compression methods, each after its length.
    at = 34
    for width in (1, 2, 1):
        at += width + int.from_bytes(hello[at : at + width], "big")
    at += 2
    while at + 4 <= len(hello):
        kind = int.from_bytes(hello[at : at + 2], "big")
        length = int.from_bytes(hello[at + 2 : at + 4], "big")
        at += 4
        if kind == _ALPN:
            return _names(hello[at + 2 : at + length])
        at += length
    return ()


def _names(data: bytes) -> tuple[bytes, ...]:
    names = []
    while data:
        names.append(data[1 : 1 + data[0]])
        data = data[1 + data[0] :]
    return tuple(names)
