"""What a listener has done, in plain numbers of the reactor's thread, and the log's event a call."""

from __future__ import annotations

import logging
from bisect import bisect_left
from typing import TYPE_CHECKING

from halfsync.logs import emit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from halfsync.thrift.call import Identity
    from halfsync.thrift.processor import Done

_log = logging.getLogger(__name__)

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of durations, in seconds; what is longer has a bucket of its own after them."""


class Counts:
    """Sums since the listener began."""

    def __init__(self) -> None:
        self.calls: dict[tuple[str, str], int] = {}
        """By method and outcome; methods that there are not are one, `other`."""
        self.durations = [0] * (len(BUCKETS) + 1)
        """Calls by duration: a number for each of BUCKETS, not cumulative, and one for what is longer."""
        self.seconds = 0.0
        """Sum of the durations."""
        self.bytes = 0
        """Sum of the lengths of answers."""
        self.connections = 0
        """Connections accepted."""
        self.refused: dict[str, int] = {}
        """Connections that were ended for what they did, or because there were too many; by reason."""
        self.logins = 0
        """Clients that got in."""

    def add(self, done: Iterable[Done]) -> None:
        """Count calls that have been answered."""
        for each in done:
            key = (each.label, each.outcome)
            self.calls[key] = self.calls.get(key, 0) + 1
            self.durations[bisect_left(BUCKETS, each.seconds)] += 1
            self.seconds += each.seconds
            self.bytes += len(each.answer)

    def refuse(self, reason: str) -> None:
        """Count a connection that is ended."""
        self.refused[reason] = self.refused.get(reason, 0) + 1


def log_call(done: Done, peer: str, identity: Identity | None) -> None:
    """Log a call that has been answered."""
    fields: dict[str, object] = {
        "method": done.label,
        "outcome": done.outcome,
        "bytes": len(done.answer),
        "seconds": round(done.seconds, 6),
        "peer": peer,
        "request_id": done.request_id,
    }
    if identity is not None:
        fields["user"] = identity.name
    emit(_log, "rpc.call", fields)
