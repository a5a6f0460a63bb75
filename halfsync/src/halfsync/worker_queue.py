"""Calls that wait for a thread: how many may, for how long, and which one is next.

Whatever decides over the order of calls, or that one is not to be made after all, belongs into
`CallQueue.take`: it is asked at the moment a thread is free.
"""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Label = str | Callable[[], str]

PATIENCE = 0.01
"""Seconds without any progress of the queue after which what it has no place for is refused.

Clients come in bursts: 256 connections on a queue of 64 are answered one after the other, none with 503.
"""

OVERFLOW = 1024
"""Calls that may wait so, at most."""


class Job:
    """A call that waits."""

    __slots__ = ("call", "label", "since")

    def __init__(self, call: Callable[[], object], label: Label) -> None:
        self.call = call
        self.label = label
        self.since = monotonic()

    def tell(self, what: str) -> None:
        """Call a method of the call's, if it has that, to say that it will not be made."""
        method = getattr(self.call, what, None)
        if method is not None:
            method()


class CallQueue:
    """What waits, in order.

    :param least: how many may always be in the queue.
    :param room: says how many may be in the queue at the moment, those included that get a thread at once.
    :param timeout: seconds; a call that has waited longer is not made.
    """

    def __init__(self, *, least: int, room: Callable[[], int], timeout: float, reactor: Any) -> None:
        self.refused = 0
        """Calls that were not made, for want of a place or of time."""
        self._least = least
        self._room = room
        self._timeout = timeout
        self._reactor = reactor
        self._jobs: deque[Job] = deque()
        self._timer: Any = None
        """Looks for progress while there is more than there is place for."""
        self._first: Job | None = None

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._jobs)

    # In the reactor.

    def add(self, job: Job, *, patient: bool) -> bool:
        """Let a call wait, if there is a place for it; a patient one also where there is soon."""
        # There is nearly always a place, and this tells so at next to no cost.
        excess = -1 if len(self._jobs) < self._least else len(self._jobs) - self._room()
        if excess >= 0 and not (patient and excess < OVERFLOW):
            self.refused += 1
            return False
        self._jobs.append(job)
        if excess >= 0 and self._timer is None:
            self._first = self._jobs[0]
            self._timer = self._reactor.callLater(PATIENCE, self._look_for_progress)
        return True

    def empty(self) -> list[Job]:
        """Return all that waits, which waits no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        jobs = []
        while self._jobs:
            jobs.append(self._jobs.pop())
        return jobs

    def _look_for_progress(self) -> None:
        """Refuse what there is no place for when the queue has not moved."""
        self._timer = None
        jobs = self._jobs
        if jobs and jobs[0] is self._first:
            while len(jobs) > self._room():
                self.refused += 1
                jobs.pop().tell("expire")
        self._first = jobs[0] if jobs else None
        if len(jobs) > self._room():
            self._timer = self._reactor.callLater(PATIENCE, self._look_for_progress)

    # In any thread.

    def take(self, expired: Callable[[Job], None]) -> Job | None:
        """Return the call that is to be made next, for a thread that is free; None when none waits.

        :param expired: told of each that has waited too long.
        """
        while True:
            try:
                job = self._jobs.popleft()
            except IndexError:
                return None
            if monotonic() - job.since <= self._timeout:
                return job
            self.refused += 1
            expired(job)
