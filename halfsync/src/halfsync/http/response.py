"""What an application says in `start_response`, checked before any of it reaches the wire."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from wsgiref.util import is_hop_by_hop

if TYPE_CHECKING:
    from collections.abc import Iterable

KNOWN_NAMES = 1000
"""How many header names are remembered."""

LENGTH = 1
DATE = 2
REQUEST_ID = 3

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_STATUS = re.compile(r"([1-9][0-9][0-9])(?: (.*))?\Z")

_names: dict[str, tuple[bytes, int]] = {}


class Head:
    """Status and headers of a response, as bytes for the wire.

    :raises ValueError: for a status, name or value that HTTP does not allow,
        or a header that is the server's alone: hop-by-hop ones (PEP 3333).
    """

    __slots__ = ("code", "has_date", "has_request_id", "headers", "length", "reason")

    def __init__(self, status: str, headers: Iterable[tuple[str, str]]) -> None:
        self.code, self.reason = _statuses.get(status) or _status(status)
        self.length: int | None = None
        """The body's, as the application declares it."""
        self.has_date = False
        self.has_request_id = False
        self.headers: list[tuple[bytes, bytes]] = []
        for name, value in headers:
            wire, kind = _names.get(name) or _name(name)
            # isprintable is the fast way to see that there are no control characters.
            if not value.isprintable() and _CONTROL.search(value):
                raise ValueError(f"the header {name} has a control character in its value {value!r}")
            if kind == LENGTH:
                self._declare(value)
                continue
            if kind == DATE:
                self.has_date = True
            elif kind == REQUEST_ID:
                self.has_request_id = True
            self.headers.append((wire, value.encode("latin-1")))

    def _declare(self, value: str) -> None:
        if not (value.isascii() and value.isdigit()) or self.length not in {None, int(value)}:
            raise ValueError(f"Content-Length: {value!r} is no length, or a second one")
        self.length = int(value)


_statuses: dict[str, tuple[int, bytes]] = {}


def _status(status: str) -> tuple[int, bytes]:
    match = _STATUS.match(status)
    if match is None or _CONTROL.search(status):
        raise ValueError(f"the status {status!r} is not three digits, a space and a reason")
    parsed = (int(match[1]), (match[2] or "").encode("latin-1"))
    if len(_statuses) < KNOWN_NAMES:
        _statuses[status] = parsed
    return parsed


def _name(name: str) -> tuple[bytes, int]:
    if _TOKEN.match(name) is None:
        raise ValueError(f"{name!r} is no name of a header")
    if is_hop_by_hop(name):
        raise ValueError(f"the header {name} is between server and client, not the application's")
    kind = {"content-length": LENGTH, "date": DATE, "x-request-id": REQUEST_ID}.get(name.lower(), 0)
    known = (name.encode("ascii"), kind)
    if len(_names) < KNOWN_NAMES:
        _names[name] = known
    return known
