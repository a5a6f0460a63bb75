"""A circuit breaker by failure rate (Nygard, Release It!): a failing peer is left alone for a while.

closed --(half of at least 20 calls in 10 s failed)--> open --(5 s, then 10, 20 ...)--> half-open
half-open --(its one trial call succeeded)--> closed;  --(it failed)--> open, for twice as long
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW = 10.0
"""Seconds over which calls are judged."""

LONGEST = 60.0
"""Seconds for which the circuit stays open at most."""


class Breaker:
    """The circuit to one peer."""

    def __init__(
        self,
        *,
        seconds: Callable[[], float],
        failure_rate: float = 0.5,
        calls: int = 20,
        open_for: float = 5.0,
    ) -> None:
        """Judge a peer.

        :param failure_rate: the share of failed calls at which the circuit opens.
        :param calls: how many there must be in ten seconds before they are judged.
        :param open_for: seconds before the first trial.
        """
        self.state: Literal["closed", "open", "half-open"] = "closed"
        self._seconds = seconds
        self._failure_rate = failure_rate
        self._calls = calls
        self._open_for = open_for
        self._wait = open_for
        self._until = 0.0
        self._seen: deque[tuple[float, bool]] = deque()
        self._failures = 0
        """Of those seen: counted as they come and go, for there may be a hundred thousand."""

    def allows(self) -> bool:
        """Say whether a call may be made now; in the half-open state one is, the trial."""
        if self.state == "open" and self._seconds() >= self._until:
            self.state = "half-open"
            return True
        return self.state == "closed"

    def record(self, *, ok: bool) -> None:
        """Take note of how a call ended."""
        now = self._seconds()
        if self.state == "half-open":
            if ok:
                self._close()
            else:
                self._wait = min(LONGEST, self._wait * 2)
                self._open(now)
            return
        seen = self._seen
        seen.append((now, ok))
        self._failures += not ok
        while seen[0][0] <= now - WINDOW:
            self._failures -= not seen.popleft()[1]
        much = self._failures >= self._failure_rate * len(seen)
        if self.state == "closed" and len(seen) >= self._calls and much:
            self._open(now)

    def abandon(self) -> None:
        """Take note that a call ended without a verdict: its caller cancelled it."""
        if self.state == "half-open":
            self.state = "open"

    def _open(self, now: float) -> None:
        self.state = "open"
        self._until = now + self._wait
        self._forget()

    def _close(self) -> None:
        self.state = "closed"
        self._wait = self._open_for
        self._forget()

    def _forget(self) -> None:
        self._seen.clear()
        self._failures = 0
