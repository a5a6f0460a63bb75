"""What is known of requests afterwards: one structured event each, and counts.

Everything here runs in the reactor's thread, so the counts are plain numbers without a lock;
adding to them costs a fraction of what a metrics library's counters with labels do.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from typing import TYPE_CHECKING

from halfsync.logs import emit

if TYPE_CHECKING:
    from halfsync.http.request import Request
    from halfsync.http.stream import Stream

_log = logging.getLogger(__name__)

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of durations, in seconds; what is longer has a bucket of its own after them."""

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE"))

AGENT_LENGTH = 200


class Counts:
    """Sums since the site began."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, int], int] = {}
        """By method and status; methods that HTTP does not define are one, `other`."""
        self.durations = [0] * (len(BUCKETS) + 1)
        """Requests by duration: a number for each of BUCKETS, not cumulative, and one for what is longer."""
        self.seconds = 0.0
        """Sum of the durations."""
        self.bytes = 0
        """Sum of the lengths of bodies sent."""
        self.aborted = 0
        """Requests whose connection ended before their response."""
        self.connections = 0
        """Connections accepted."""
        self.refused: dict[int, int] = {}
        """What was no request, was too large or too slow, by status; not among the requests."""

    def add(self, method: bytes | str, code: int, seconds: float, size: int) -> None:
        """Count a response."""
        name = method.decode("ascii") if isinstance(method, bytes) else method
        key = (name if name in METHODS else "other", code)
        self.requests[key] = self.requests.get(key, 0) + 1
        self.durations[bisect_left(BUCKETS, seconds)] += 1
        self.seconds += seconds
        self.bytes += size


def log_request(request: Request, seconds: float, *, aborted: bool = False) -> None:
    """Log a request that is answered, or whose connection ended before that.

    The query is left out: it is where tokens travel.
    """
    agents = request.requestHeaders.getRawHeaders(b"User-Agent")
    fields: dict[str, object] = {
        "method": printable(request.method),
        "path": printable(request.path),
        "status": request.code,
        "bytes": request.sentLength,
        "seconds": round(seconds, 6),
        "peer": request.peer,
        "request_id": request.request_id,
        "agent": printable(agents[0][:AGENT_LENGTH]) if agents else "",
    }
    if aborted:
        fields["aborted"] = True
    emit(_log, "http.request", fields)


def log_answer(stream: Stream, seconds: float, *, aborted: bool = False) -> None:
    """Log a request that is answered, or whose connection ended before that.

    The query is left out: it is where tokens travel.
    """
    head = stream.head
    fields: dict[str, object] = {
        "method": head.method,
        "path": head.target.partition("?")[0],
        "status": stream.code,
        "bytes": stream.sent,
        "seconds": round(seconds, 6),
        "peer": str(stream.client),
        "request_id": stream.request_id,
        "agent": printable(head.variables.get("HTTP_USER_AGENT", "")[:AGENT_LENGTH].encode("latin-1")),
    }
    if aborted:
        fields["aborted"] = True
    emit(_log, "http.request", fields)


def log_refusal(peer: str, code: int) -> None:
    """Log what was refused before there was a whole request."""
    emit(_log, "http.refused", {"status": code, "peer": peer})


def printable(text: bytes) -> str:
    """Return what a client sent as text; what is not ASCII becomes escapes."""
    return text.decode("ascii", "backslashreplace")
