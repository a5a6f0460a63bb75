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
from time import monotonic
from typing import TYPE_CHECKING, Any

from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Lock

log = get_logger(__name__)

LATE = 0.1
"""Seconds after which a result that the reactor has not taken says that it may be starved."""

CONTENDED = 0.001
"""Seconds that the reactor waits for the interpreter's lock, from which on a thread computes."""

TURN = 0.005
"""Seconds in which a thread takes call after call before the reactor has its turn."""

LONGEST = 0.02
"""Seconds that the reactor waits for one call that computes."""

SLICE = 0.0005
"""Seconds after which the reactor finds out whether the call computes: else it goes on."""

PERIOD = 0.05
"""Seconds between two looks whether turns are still of use."""

CALM = 5
"""Looks in a row at which no call waits, or none has computed, after which there are no turns any more.

Calls that wait for others cost the reactor a SLICE each, and a machine may just have hesitated.
"""


class ReactorShare:
    """Whether the reactor and the threads of a pool take turns.

    :param pool: whose threads they are, for the log.
    :param waits: says whether calls wait for a thread.
    """

    def __init__(self, pool: str, waits: Callable[[], bool], reactor: Any) -> None:
        self.turns = False
        """Whether they do; for any thread, which sets it when a result has waited for LATE."""
        self._until = inf
        """The end of the turn of the threads, on the monotonic clock."""
        self._pool = pool
        self._waits = waits
        self._reactor = reactor
        self._timer: Any = None
        self._calm = 0
        self._computed = False
        """Whether a call has, since the last look."""
        self._told = False
        """Whether the log says that turns are taken."""

    @property
    def is_over(self) -> bool:
        """Whether threads take no more calls until the reactor hands some over; for any thread."""
        return self.turns and monotonic() >= self._until

    def watch(self) -> None:
        """Look whether turns are still of use; in the reactor, as all that follows."""
        if self.turns and self._timer is None:
            self._timer = self._reactor.callLater(PERIOD, self._look)

    def stop(self) -> None:
        """Take no turns any more."""
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
            self._computed = True
        return False

    def _look(self) -> None:
        self._timer = None
        if self._computed and not self._told:
            self._told = True
            log.warning("workers.take_turns", pool=self._pool)
        of_use, self._computed = self._computed and self._waits(), False
        self._calm = 0 if of_use else self._calm + 1
        if self._calm < CALM:
            self.watch()
            return
        self.turns, self._calm = False, 0
        if self._told:
            self._told = False
            log.info("workers.turns_over", pool=self._pool)
