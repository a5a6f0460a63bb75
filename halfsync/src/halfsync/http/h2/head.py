"""What an HTTP/2 request begins with, checked (RFC 9113 sections 8.2 and 8.3).

It is as strict as on HTTP/1.1: methods have no lower-case letters, a target is printable ASCII without `#`,
what must be there once is there once, and no name passes for one that frames a body.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from halfsync.http.body import is_forbidden, is_no_trailer
from halfsync.http.head import LENGTH_DIGITS, in_disguise, is_host, variable_of
from halfsync.http.stream import RequestHead

if TYPE_CHECKING:
    from collections.abc import Iterable

CONNECTION_SPECIFIC = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
"""Headers that have no place in HTTP/2 (section 8.2.2)."""

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+\Z")
_METHOD = re.compile(rb"[!$%&'*+.^_`|~0-9A-Z-]+\Z")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_ALLOWED = bytes(each for each in range(256) if not _CONTROL.match(bytes([each])))
_LONG = 64
"""Bytes of a value from which on it is looked through without a pattern: 4 KB in 4 microseconds, not 90."""
_PATH = re.compile(rb"/[!-\"$-~]*\Z")

SINGLE = frozenset((b"host", b"content-length", b"content-type"))
"""Headers of which there is at most one."""


class Malformed(ValueError):  # noqa: N818  the word of section 8.1.1
    """A head that HTTP/2 does not allow; its argument is the name of a header."""


class NoAuthority(Malformed):
    """A head that does not say which host it asks; HTTP/1.1 answers that with 400, too."""


@dataclass(slots=True)
class H2Head:
    """What a request begins with; requests of the same bytes share one: nothing here is changed."""

    method: bytes
    target: bytes
    """As in a request line: a path with its query, `*`, or the authority of CONNECT."""
    fields: list[tuple[bytes, bytes]]
    """Headers; `host` is among them."""
    length: int | None
    """The body's, as declared."""
    size: int = field(init=False)
    """How long it is in HTTP/1.1, where a header has four bytes more: a colon, a space, CR and LF."""
    longest_name: int = field(init=False)
    """Bytes of the longest name of a header."""
    _texts: tuple[str, str, dict[str, str], dict[str, str], list[tuple[str, str]]] | None = field(
        init=False, default=None
    )
    """What all requests have in common that it is the beginning of."""

    def __post_init__(self) -> None:
        """Measure it."""
        self.size = len(self.target) + sum([len(name) + len(value) + 4 for name, value in self.fields])
        self.longest_name = max([len(name) for name, _ in self.fields], default=0)

    @classmethod
    def read(cls, headers: Iterable[tuple[bytes, bytes]]) -> H2Head:
        """Check a list of headers.

        :raises Malformed: when it is none of a request.
        """
        pseudo: dict[bytes, bytes] = {}
        fields: list[tuple[bytes, bytes]] = []
        known: dict[bytes, bytes] = {}
        for name, value in headers:
            if _is_bad(value):
                raise Malformed(name)
            if name.startswith(b":"):
                if fields or name in pseudo:
                    raise Malformed(name)
                pseudo[name] = value
            else:
                _check_field(name, value)
                if name in SINGLE and name in known:
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
        _check_authority(authority, known.get(b"host", authority))
        length = known.get(b"content-length")
        if length is not None and not (length.isdigit() and len(length) <= LENGTH_DIGITS):
            raise Malformed(b"content-length")
        return cls(method, target, fields, None if length is None else int(length))

    def request(self, length: int | None) -> RequestHead:
        """Return it as handlers get it.

        :param length: of the body; None when that is not known.
        """
        if self._texts is None:
            self._texts = self._as_text()
        method, target, variables, special, fields = self._texts
        return RequestHead(method, target, "HTTP/2", variables, special, length, fields.copy)

    def _as_text(self) -> tuple[str, str, dict[str, str], dict[str, str], list[tuple[str, str]]]:
        fields = [(name.decode("ascii"), value.decode("latin-1")) for name, value in self.fields]
        variables: dict[str, str] = {}
        special: dict[str, str] = {}
        for name, value in fields:
            variable, kind = variable_of(name)
            joint = "; " if kind == "cookie" else ", "
            for found, key in ((variables, variable), (special, kind)):
                if key is not None:
                    found[key] = f"{found[key]}{joint}{value}" if key in found else value
        return self.method.decode("ascii"), self.target.decode("ascii"), variables, special, fields


def read_trailers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Return the names and values behind a body, without those that have no place there.

    :raises Malformed: for a name or value that is none, a pseudo-header, and what might be believed.
    """
    found: list[tuple[str, str]] = []
    for name, value in headers:
        if _is_bad(value):
            raise Malformed(name)
        _check_field(name, value)
        text = name.decode("ascii")
        if is_forbidden(text):
            raise Malformed(name)
        if not is_no_trailer(text):
            found.append((text, value.decode("latin-1")))
    return found


def _is_bad(value: bytes) -> bool:
    """Say whether a value has control characters, or a space or tab at its ends."""
    if not value:
        return False
    if value[0] in b" \t" or value[-1] in b" \t":
        return True
    if len(value) > _LONG:
        return bool(value.translate(None, _ALLOWED))
    return _CONTROL.search(value) is not None


def _check_authority(authority: bytes, host: bytes) -> None:
    if not authority:
        raise NoAuthority(b":authority")
    if not is_host(authority.decode("latin-1")) or host != authority:
        raise Malformed(b":authority")


def _check_field(name: bytes, value: bytes) -> None:
    if not _NAME.match(name) or name in CONNECTION_SPECIFIC:
        raise Malformed(name)
    if in_disguise(name.decode("ascii")) or (name == b"te" and value.lower() != b"trailers"):
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
