"""The name of a request, from the headers that twisted.web has read; see `halfsync.request_id`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from halfsync.request_id import HEADER as _NAME
from halfsync.request_id import LONGEST, TRACEPARENT, bind, made, named

if TYPE_CHECKING:
    from twisted.web.http_headers import Headers

__all__ = ["HEADER", "LONGEST", "bind", "made", "named", "of"]

HEADER = b"X-Request-Id"


def of(headers: Headers) -> str:
    """Return the client's own, or a new one."""
    special = {}
    for name in (_NAME, TRACEPARENT):
        given = headers.getRawHeaders(name.encode("ascii"))
        if given is not None and len(given) == 1:
            special[name] = given[0].decode("latin-1")
    return named(special) or made()
