"""The threads that wait for clients to take their responses: at most half of all, whatever clients do.

A thread waits only when the response finds neither memory nor disk. Beyond half, the slowest client is cut:
those that take nothing would else hold every thread, and nobody else would be answered.
"""

from __future__ import annotations

from contextlib import contextmanager
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


class Waiting(Protocol):
    """A response for whose client a thread waits."""

    passed: int
    """Bytes that it has handed on."""
    begun: float
    """When it began, on the monotonic clock."""

    def cut(self) -> None:
        """Have the client cut, soon; from any thread."""


class ClientWaits:
    """Of one pool; for any thread.

    :param threads: of the pool.
    """

    def __init__(self, threads: int) -> None:
        self.most = max(1, threads // 2)
        """Threads that may wait at a time."""
        self._waiting: set[Waiting] = set()
        self._lock = Lock()

    def __len__(self) -> int:
        """Return how many threads wait."""
        return len(self._waiting)

    @property
    def crowded(self) -> bool:
        """Whether one more would be too many."""
        return len(self._waiting) >= self.most

    @contextmanager
    def wait(self, response: Waiting) -> Iterator[None]:
        """Count the present thread as waiting, within the block; cut the slowest when it is one too many."""
        slowest = None
        with self._lock:
            self._waiting.add(response)
            if len(self._waiting) > self.most:
                now = monotonic()
                slowest = min(self._waiting, key=lambda each: each.passed / max(now - each.begun, 0.001))
                # It may take a moment to leave by itself; the next one too many is another's.
                self._waiting.discard(slowest)
        if slowest is not None:
            slowest.cut()
        try:
            yield
        finally:
            with self._lock:
                self._waiting.discard(response)
