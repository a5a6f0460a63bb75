"""How many retries a client may add to its calls: a share of them, and a few a second for quiet times.

After Finagle's RetryBudget: without one, a peer that fails under load gets several times the load.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW = 10.0
"""Seconds for which a call counts."""


class RetryBudget:
    """Of the calls in the last ten seconds, `share` may be retried, and `minimum` retries a second always."""

    def __init__(self, *, seconds: Callable[[], float], share: float = 0.2, minimum: float = 10.0) -> None:
        self.share = share
        self.minimum = minimum
        self._seconds = seconds
        self._slots: deque[list[float]] = deque()
        """One a second: when it began, calls in it, retries in it."""

    def called(self) -> None:
        """Count a call (its first try)."""
        self._slot()[1] += 1

    def retry(self) -> bool:
        """Take one retry from the budget; False when it is used up."""
        slot = self._slot()
        calls = sum(each[1] for each in self._slots)
        retries = sum(each[2] for each in self._slots)
        if retries + 1 > calls * self.share + self.minimum * WINDOW:
            return False
        slot[2] += 1
        return True

    def _slot(self) -> list[float]:
        now = self._seconds()
        while self._slots and self._slots[0][0] <= now - WINDOW:
            self._slots.popleft()
        if not self._slots or self._slots[-1][0] <= now - 1:
            self._slots.append([now, 0, 0])
        return self._slots[-1]
