"""Undoes the coding of a body, as much at a time as its reader takes: 600 bytes may stand for 500 MB."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twisted.web.http_headers import Headers

GZIP = "gzip"
"""The only coding that is asked for, unless a caller's own `Accept-Encoding` asks for others."""

A_PIECE = 64 * 1024
"""Bytes that are made at a time."""

_MEMBER = 16 + zlib.MAX_WBITS
_NAME, _LENGTH = b"Content-Encoding", b"Content-Length"


class Gunzip:
    """Undoes gzip (RFC 1952): `feed` it what has come, and `take` pieces until there is none."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(_MEMBER)
        self._rest = b""
        self._full = False
        """Whether the last piece was as long as one may be: more may be left in zlib itself."""
        self.whole = True
        """Whether what has come ends where a member of the file does, as nothing at all does."""

    def feed(self, data: bytes) -> None:
        """Take what has come; when all was taken of what came before."""
        self._rest += data

    def take(self) -> bytes:
        """Return the next piece; nothing when more has to come first.

        :raises zlib.error: when it is no gzip.
        """
        while self._rest or self._full:
            if self._inflate.eof:
                # A file may have several members.
                self._inflate = zlib.decompressobj(_MEMBER)
            piece = self._inflate.decompress(self._rest, A_PIECE)
            self.whole = self._inflate.eof
            self._rest = self._inflate.unused_data if self.whole else self._inflate.unconsumed_tail
            self._full = len(piece) == A_PIECE and not self.whole
            if piece:
                return piece
        return b""


def undone(headers: Headers) -> Gunzip | None:
    """Return what undoes the last coding of a body, which is then no longer named; None where there is none.

    One only: what is coded twice was not asked for, and reaches its reader coded once.
    """
    codings = b",".join(headers.getRawHeaders(_NAME, [])).split(b",")
    if codings.pop().strip().lower() != GZIP.encode():
        return None
    if codings:
        headers.setRawHeaders(_NAME, [b",".join(codings)])
    else:
        headers.removeHeader(_NAME)
    # Of a HEAD, it is the length of what is coded; of others, twisted.web has taken it out.
    headers.removeHeader(_LENGTH)
    return Gunzip()
