"""The reactor's share of the interpreter's lock where calls compute, and do not wait for others.

A thread that computes gives the lock away once in 5 ms, and then to whichever thread waits for it.
The reactor needs it again after each of its system calls: with 16 threads that compute, and three times the
requests that a processor can do, it read too seldom to refuse any, and 2 of 100 were answered in time.
So where the reactor is starved, it and the threads take turns: it hands calls to one thread, lets that one
compute for a while, and then reads, refuses and sends, while none computes.
A call that waits for others leaves the lock, and the reactor goes on at once: it costs nobody a turn.
Tried and worse: a shorter switch interval, and fewer threads at once; at ten times the load they fail.
"""

from __future__ import annotations

from math import inf
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Lock

log = get_logger(__name__)

PERIOD = 0.05
"""Seconds between two looks."""

LATE = 0.05
"""Seconds by which a look is late, where the reactor does not get done what it has to."""

CONTENDED = 0.001
"""Seconds that the reactor waits for the interpreter's lock, from which on another thread computes."""

TURN = 0.005
"""Seconds in which a thread takes call after call before the reactor has its turn."""

LONGEST = 0.02
"""Seconds that the reactor waits for one call that computes."""

SLICE = 0.0005
"""Seconds after which the reactor finds out whether the call computes: else it goes on."""

CALM = 20
"""Looks at which no call waits, after which there are no turns any more."""


def wait_for_lock() -> float:
    """Give the interpreter's lock away, and return after how many seconds it is back."""
    began = monotonic()
    sleep(0)
    return monotonic() - began


class ReactorShare:
    """Whether the reactor and the threads of a pool take turns; in the reactor's thread.

    :param pool: whose threads they are, for the log.
    :param waits: says whether calls wait for a thread.
    """

    def __init__(
        self, pool: str, waits: Callable[[], bool], reactor: Any, lock: Callable[[], float] = wait_for_lock
    ) -> None:
        self.turns = False
        """Whether they do; for any thread."""
        self._until = inf
        """The end of the turn of the threads, on the monotonic clock."""
        self._pool = pool
        self._waits = waits
        self._reactor = reactor
        self._lock = lock
        self._timer: Any = None
        self._due = 0.0
        self._calm = 0

    @property
    def is_over(self) -> bool:
        """Whether threads take no more calls until the reactor hands some over; for any thread."""
        return self.turns and monotonic() >= self._until

    def watch(self) -> None:
        """Look soon: calls are about to run."""
        if self._timer is None:
            self._due = self._reactor.seconds() + PERIOD
            self._timer = self._reactor.callLater(PERIOD, self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.turns = False

    def begin(self) -> None:
        """Let the threads take calls for a while."""
        self._until = monotonic() + TURN

    def let_compute(self, done: Lock) -> bool:
        """Wait for a thread as long as it computes; say whether it is done, or waits for others.

        :param done: released by the thread when it takes no more calls.
        """
        began = now = monotonic()
        while now - began < LONGEST:
            if done.acquire(timeout=SLICE):
                return True
            before, now = now, monotonic()
            if now - before < SLICE + CONTENDED:
                # The lock was free.
                return True
        return False

    def _look(self) -> None:
        self._timer = None
        if not self.turns:
            if self._reactor.seconds() - self._due > LATE and self._lock() > CONTENDED:
                self.turns, self._calm = True, 0
                log.warning("workers.take_turns", pool=self._pool)
                self.watch()
            return
        self._calm = 0 if self._waits() else self._calm + 1
        if self._calm < CALM:
            self.watch()
        else:
            self.turns = False
            log.info("workers.turns_over", pool=self._pool)
