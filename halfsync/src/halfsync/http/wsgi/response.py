"""What an application says in `start_response`, checked before any of it reaches the wire."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from wsgiref.util import is_hop_by_hop

from halfsync.http.stream import ResponseHead
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable

log = get_logger(__name__)

KNOWN_NAMES = 1000
"""How many header names are remembered."""

KNOWN_HEADS = 256
KNOWN_SIZE = 1024
"""How many whole heads are remembered, and how long they are at most."""

LENGTH = 1
DATE = 2
REQUEST_ID = 3
CONNECTION = 4

_KINDS = {
    "content-length": LENGTH,
    "date": DATE,
    "x-request-id": REQUEST_ID,
    "connection": CONNECTION,
    "keep-alive": CONNECTION,
}

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_STATUS = re.compile(r"([2-9][0-9][0-9])(?: (.*))?\Z")

_names: dict[str, int] = {}
_statuses: dict[str, tuple[int, str]] = {}
_heads: dict[tuple[Any, ...], ResponseHead] = {}
_warned: set[str] = set()
"""Headers that a warning has been logged of: one a process is enough."""


def read(status: str, headers: list[tuple[str, str]]) -> ResponseHead:
    """Read status and headers of a response; those that say the same share what is returned.

    `Connection` and `Keep-Alive`, which applications set for other servers, are dropped with one warning.
    :raises ValueError: for a status, name or value that HTTP does not allow as a final one,
        or a header that is the server's alone: hop-by-hop ones (PEP 3333).
    """
    # Most applications say the same few heads again and again.
    key = (status, *headers)
    try:
        known = _heads.get(key)
    except TypeError:
        known = None
    if known is not None:
        return known
    head = _read(status, headers)
    if len(head.block()) < KNOWN_SIZE and type(status) is str and not head.close:
        if len(_heads) >= KNOWN_HEADS:
            _heads.clear()
        _heads[key] = head
    return head


def read_fields(fields: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Check fields that come before or after a response, and return them; see `read`."""
    return _read("200 OK", fields).fields


def _read(status: str, headers: Iterable[tuple[str, str]]) -> ResponseHead:
    code, reason = _statuses.get(status) or _status(status)
    head = ResponseHead(code, reason)
    fields = head.fields
    for name, value in headers:
        kind = _names.get(name)
        if kind is None:
            kind = _name(name)
        # isprintable is the fast way to see that there are no control characters.
        if not value.isprintable() and _CONTROL.search(value):
            raise ValueError(f"the header {name} has a control character in its value {value!r}")
        if not value.isascii():
            # Here the application sees what is no Latin-1.
            value.encode("latin-1")
        if kind:
            if kind == LENGTH:
                _declare(head, value)
                continue
            if kind == CONNECTION:
                _connection(head, name, value)
                continue
            if kind == DATE:
                head.has_date = True
            else:
                head.has_request_id = True
        fields.append((name, value))
    return head


def _declare(head: ResponseHead, value: str) -> None:
    if not (value.isascii() and value.isdigit()) or head.length not in {None, int(value)}:
        raise ValueError(f"Content-Length: {value!r} is no length, or a second one")
    head.length = int(value)


def _connection(head: ResponseHead, name: str, value: str) -> None:
    """Heed `close`; the rest is between server and client, not the application's."""
    lower = name.lower()
    if lower == "connection" and "close" in {option.strip().lower() for option in value.split(",")}:
        head.close = True
    if lower not in _warned:
        _warned.add(lower)
        log.warning("wsgi.header_dropped", header=name, value=value)


def _status(status: str) -> tuple[int, str]:
    match = _STATUS.match(status)
    if match is None or _CONTROL.search(status):
        raise ValueError(f"the status {status!r} is not three digits of a final one, a space and a reason")
    reason = match[2] or ""
    reason.encode("latin-1")
    parsed = (int(match[1]), reason)
    if len(_statuses) < KNOWN_NAMES:
        _statuses[status] = parsed
    return parsed


def _name(name: str) -> int:
    if _TOKEN.match(name) is None:
        raise ValueError(f"{name!r} is no name of a header")
    kind = _KINDS.get(name.lower(), 0)
    if not kind and is_hop_by_hop(name):
        raise ValueError(f"the header {name} is between server and client, not the application's")
    if len(_names) < KNOWN_NAMES:
        _names[name] = kind
    return kind
