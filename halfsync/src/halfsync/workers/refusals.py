"""Calls that were not made: counted by reason, and told to the log once a second at most."""

from __future__ import annotations

from collections import Counter
from threading import Lock
from time import monotonic
from typing import Literal, get_args

from halfsync.logs import get_logger

log = get_logger(__name__)

Reason = Literal["full", "displaced", "late", "timeout", "deadline", "left", "no_thread"]
"""`full`: no place to wait. `displaced`: its place went to a newer call, or to a critical one.
`late`: it waited too long in an overload.
`timeout`: it waited for longer than the queue allows. `deadline`: its client's own time was over.
`left`: its client had left. `no_thread`: the system allows no thread."""

REASONS: tuple[Reason, ...] = get_args(Reason)

INTERVAL = 1.0
"""Seconds between two lines of a pool."""


class Refusals:
    """Of one pool; for any thread."""

    def __init__(self, pool: str) -> None:
        self.counts: Counter[Reason] = Counter()
        """Since the start."""
        self._pool = pool
        self._untold: Counter[Reason] = Counter()
        self._told = -INTERVAL
        self._lock = Lock()

    @property
    def total(self) -> int:
        """How many calls were not made."""
        return sum(self.counts.values())

    def add(self, reason: Reason) -> None:
        """Count a call that is not made; the line of the log has all since the line before."""
        now = monotonic()
        with self._lock:
            self.counts[reason] += 1
            self._untold[reason] += 1
            if now - self._told < INTERVAL:
                return
            self._told = now
            untold, self._untold = self._untold, Counter()
        log.warning("workers.refused", pool=self._pool, reasons=dict(untold))
