"""What an HTTP/2 request begins with, checked (RFC 9113 sections 8.2 and 8.3)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

CONNECTION_SPECIFIC = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
"""Headers that have no place in HTTP/2 (section 8.2.2)."""

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+\Z")
_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_BAD_VALUE = re.compile(rb"\A[ \t]|[\x00-\x08\x0a-\x1f\x7f]|[ \t]\Z")
_PATH = re.compile(rb"/[^\x00-\x20\x7f#]*\Z")
_AUTHORITY = re.compile(rb"[^\x00-\x20\x7f/?#@\\]+\Z")


class Malformed(ValueError):  # noqa: N818  the word of section 8.1.1
    """A head that HTTP/2 does not allow; its argument is the name of a header."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a request begins with."""

    method: bytes
    target: bytes
    """As in a request line: a path with its query, `*`, or the authority of CONNECT."""
    fields: list[tuple[bytes, bytes]]
    """Headers; `host` is among them."""
    length: int | None
    """The body's, as declared."""

    @property
    def size(self) -> int:
        """How long it is in HTTP/1.1, where a header has four bytes more: a colon, a space, CR and LF."""
        return len(self.target) + sum(len(name) + len(value) + 4 for name, value in self.fields)

    @classmethod
    def read(cls, headers: Iterable[tuple[bytes, bytes]]) -> Head:
        """Check a list of headers.

        :raises Malformed: when it is none of a request.
        """
        pseudo: dict[bytes, bytes] = {}
        fields: list[tuple[bytes, bytes]] = []
        known: dict[bytes, bytes] = {}
        for name, value in headers:
            if _BAD_VALUE.search(value):
                raise Malformed(name)
            if name.startswith(b":"):
                if fields or name in pseudo:
                    raise Malformed(name)
                pseudo[name] = value
            else:
                _check_field(name, value)
                if name == b"host" and name in known:
                    raise Malformed(name)
                known[name] = value
                fields.append((name, value))
        method = pseudo.pop(b":method", b"")
        authority = pseudo.pop(b":authority", None)
        target = _target(method, authority, pseudo)
        if authority is None:
            authority = known.get(b"host", b"")
        elif b"host" not in known:
            fields.append((b"host", authority))
        if not _AUTHORITY.match(authority) or known.get(b"host", authority) != authority:
            raise Malformed(b":authority")
        # hyper-h2 has refused what is no number, and two that differ.
        length = int(known[b"content-length"]) if b"content-length" in known else None
        return cls(method, target, fields, length)


def _check_field(name: bytes, value: bytes) -> None:
    if not _NAME.match(name) or name in CONNECTION_SPECIFIC:
        raise Malformed(name)
    if name == b"te" and value.lower() != b"trailers":
        raise Malformed(name)


def _target(method: bytes, authority: bytes | None, pseudo: dict[bytes, bytes]) -> bytes:
    if method == b"CONNECT":
        # Not with a `:protocol`, either: the setting that allows it (RFC 8441) is not sent.
        if pseudo or authority is None:
            raise Malformed(b":method")
        return authority
    path = pseudo.pop(b":path", b"")
    scheme = pseudo.pop(b":scheme", b"")
    if pseudo or not _METHOD.match(method):
        raise Malformed(next(iter(pseudo), b":method"))
    if scheme not in {b"http", b"https"}:
        raise Malformed(b":scheme")
    if not _PATH.match(path) and (method, path) != (b"OPTIONS", b"*"):
        raise Malformed(b":path")
    return path
