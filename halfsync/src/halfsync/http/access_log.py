"""What is known of requests afterwards: one structured event each, and counts.

Everything here runs in the reactor's thread, so the counts are plain numbers without a lock;
adding to them costs a fraction of what a metrics library's counters with labels do.
"""

from __future__ import annotations

import logging
import re
from bisect import bisect_left
from collections import Counter
from json.encoder import encode_basestring_ascii as _json
from time import time
from typing import TYPE_CHECKING, NamedTuple

from halfsync.endpoints.addresses import address_text
from halfsync.logs import emit, line_writer, timestamp

if TYPE_CHECKING:
    from halfsync.http.stream import Stream

_log = logging.getLogger(__name__)

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of durations, in seconds; what is longer has a bucket of its own after them."""

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE"))

AGENT_LENGTH = 200
PATH_LENGTH = 1000
"""Characters of a path that was refused."""

PLAIN_LENGTH = 500
"""Characters of a path up to which its event is no longer than any line may be."""

CLIENT_LEFT = 499
"""The status of a request whose client left before the response was complete, as nginx logs it."""

FAILED = 500
"""The status of a request whose response had begun, and could not be made to its end."""

_BEGUN = re.compile(rb"[\r\n]*([!#$%&'*+.^_`|~0-9A-Za-z-]{1,20}) ([^ \r\n]*)")


class Counts:
    """Sums since the site began."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, int], int] = {}
        """By method and status; methods that HTTP does not define are one, `other`."""
        self.durations = [0] * (len(BUCKETS) + 1)
        """Requests by duration: a number for each of BUCKETS, not cumulative, and one for what is longer."""
        self.latest: list[tuple[float, float, str] | None] = [None] * (len(BUCKETS) + 1)
        """Of each bucket the last request: its duration, when it ended (epoch), its id."""
        self.seconds = 0.0
        """Sum of the durations."""
        self.bytes = 0
        """Sum of the lengths of bodies sent."""
        self.aborted = 0
        """Requests whose client left, or was cut, before their response was complete."""
        self.cut: Counter[str] = Counter()
        """Connections that were cut, as they held most of an account that was empty: `memory` or `disk`."""
        self.refused: dict[int, int] = {}
        """What was no request, was too large or too slow, by status; not among the requests."""

    def add(self, method: str, code: int, seconds: float, size: int, request_id: str) -> None:
        """Count a response."""
        key = (method if method in METHODS else "other", code)
        self.requests[key] = self.requests.get(key, 0) + 1
        bucket = bisect_left(BUCKETS, seconds)
        self.durations[bucket] += 1
        self.latest[bucket] = (seconds, time(), request_id)
        self.seconds += seconds
        self.bytes += size


def log_answer(stream: Stream, seconds: float, *, aborted: bool = False) -> None:
    """Log a request that is answered, or whose response was not completed.

    The query is left out: it is where tokens travel.
    """
    head = stream.head
    path = head.target.partition("?")[0]
    # What the client has of a response that had begun with 200 is no response.
    status = stream.code if not aborted else FAILED if stream.failed else CLIENT_LEFT
    peer, agent = address_text(stream.client), head.variables.get("HTTP_USER_AGENT", "")
    write = None if aborted or len(path) > PLAIN_LENGTH else line_writer(_log)
    if write is not None:
        write(
            f'{{"timestamp": "{timestamp()}", "level": "info", "logger": "{__name__}", '
            f'"event": "http.request", "method": "{head.method}", "path": {_json(path)}, '
            f'"status": {status}, "bytes": {stream.sent}, '
            f'"seconds": {seconds:.6f}, "peer": "{peer}", "request_id": "{stream.request_id}", '
            f'"agent": {_json(printable(agent[:AGENT_LENGTH]))}}}\n'
        )
        return
    fields: dict[str, object] = {
        "method": head.method,
        "path": path,
        "status": status,
        "bytes": stream.sent,
        "seconds": round(seconds, 6),
        "peer": peer,
        "request_id": stream.request_id,
        "agent": printable(agent[:AGENT_LENGTH]),
    }
    if aborted:
        fields["aborted"] = True
    emit(_log, "http.request", fields)


def log_refusal(peer: str, code: int, request_id: str, asked: Asked, reason: str) -> None:
    """Log what was refused before there was a whole request."""
    fields: dict[str, object] = {"status": code, "peer": peer, "request_id": request_id}
    if reason:
        fields["reason"] = reason
    if asked.method:
        fields["method"] = asked.method
        fields["path"] = asked.path
    emit(_log, "http.refused", fields)


class Asked(NamedTuple):
    """What a request asks for, as far as it was read; empty where nothing was."""

    method: str = ""
    path: str = ""
    """Without its query, where tokens travel."""

    @classmethod
    def of(cls, method: str, target: str) -> Asked:
        """Return it of a request's method and target."""
        return cls(method, printable(target.partition("?")[0][:PATH_LENGTH]))

    @classmethod
    def begun(cls, data: bytes) -> Asked:
        """Return it of the bytes that a request begins with, be they one or not."""
        match = _BEGUN.match(data)
        return cls.of(match[1].decode("ascii"), match[2].decode("latin-1")) if match else cls()


def printable(text: str) -> str:
    """Return what a client sent as text of ASCII; the rest becomes escapes."""
    return text if text.isascii() else text.encode("latin-1").decode("ascii", "backslashreplace")
