"""How long the last answers took, to know when one is late."""

from __future__ import annotations

from collections import deque

KEPT = 200
"""Answers; fewer than a tenth of them say nothing about a quantile."""


class Latencies:
    """The latest answers' times, and their 95th percentile."""

    def __init__(self) -> None:
        self._seen: deque[float] = deque(maxlen=KEPT)
        self._p95: float | None = None
        self._fresh = 0

    def add(self, seconds: float) -> None:
        """Take note of an answer."""
        self._seen.append(seconds)
        self._fresh += 1

    def p95(self) -> float | None:
        """Return the time within which 95 of 100 answers came, in seconds; None while too few have."""
        if len(self._seen) < KEPT // 10:
            return None
        if self._p95 is None or self._fresh >= KEPT // 10:
            # Sorting 200 numbers once in 20 answers is cheaper than keeping them sorted.
            self._fresh = 0
            self._p95 = sorted(self._seen)[int(len(self._seen) * 0.95)]
        return self._p95
