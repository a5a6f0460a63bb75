"""Calls that wait for a thread: how many may, for how long, and which one is next.

Whatever decides over the order of calls, or that one is not to be made after all, belongs into
`CallQueue.take`: it is asked at the moment a thread is free.

A queue that is bounded only by its length has everyone wait for the same time and then fail:
with 2 threads and 20 ms a call, three times the load left 9 of 100 calls a second answered within 0.5 s.
So when the oldest call has waited for longer than TARGET all through an INTERVAL
(CoDel: Nichols and Jacobson, "Controlling Queue Delay"), the newest is made first,
and those that have waited for longer than TARGET are not made (Facebook's "Fail at Scale" does so, too).
It ends when the queue is empty.
Critical calls are made before all others, whatever the load.
Meanwhile no client gets more than its fair share (`worker_shares`), as long as others wait.
"""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any

from halfsync.worker_refusals import Refusals
from halfsync.worker_shares import Shares

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from halfsync.worker_refusals import Reason

    Label = str | Callable[[], str]

PATIENCE = 0.1
"""Seconds without any progress of the queue after which what it has no place for is refused.

Clients come in bursts: 256 connections on a queue of 64 are answered one after the other, none with 503.
"""

OVERFLOW = 1024
"""Calls that may wait so, at most."""


TARGET = 0.1
"""Seconds that a call may wait while there is more to do than can be done."""

INTERVAL = 0.5
"""Seconds for which the oldest must have waited so long: a burst of requests is no overload."""

AT_HAND = 8
"""Calls beyond their clients' shares that may wait until no other waits: no thread is to idle."""


class Job:
    """A call that waits.

    Its call may have the methods `expire`, `discard`, and `share`: by what its client's share is counted.

    :param deadline: on the monotonic clock; the answer is of no use after it.
    :param critical: whether it is made before others.
    """

    __slots__ = ("call", "client", "critical", "deadline", "label", "since")

    def __init__(
        self,
        call: Callable[[], object],
        label: Label,
        *,
        deadline: float | None = None,
        critical: bool = False,
    ) -> None:
        self.call = call
        self.label = label
        self.deadline = deadline
        self.critical = critical
        self.since = monotonic()
        self.client: Hashable = None
        """By what its client's share is counted; only known in an overload."""

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

    def __init__(
        self,
        *,
        least: int,
        room: Callable[[], int],
        timeout: float,
        reactor: Any,
        refusals: Refusals | None = None,
    ) -> None:
        self.refusals = refusals or Refusals("")
        self._shares = Shares()
        self._least = least
        self._room = room
        self._timeout = timeout
        self._reactor = reactor
        self._jobs: deque[Job] = deque()
        self._critical: deque[Job] = deque()
        self._beyond: deque[Job] = deque()
        """Beyond their clients' shares; made when nothing else waits."""
        self.shedding = False
        """Whether the newest is made first, and what has waited too long is not made."""
        self._late_since: float | None = None
        """Since when the oldest call has always waited for longer than TARGET."""
        self._timer: Any = None
        """Looks for progress while there is more than there is place for."""
        self._first: Job | None = None

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._jobs) + len(self._critical) + len(self._beyond)

    @property
    def refused(self) -> int:
        """How many calls were not made."""
        return self.refusals.total

    def oldest(self) -> float:
        """Return for how many seconds the oldest call has waited."""
        try:
            return monotonic() - self._jobs[0].since
        except IndexError:
            return 0.0

    # In the reactor.

    def add(self, job: Job, *, patient: bool) -> bool:
        """Let a call wait, if there is a place for it; a patient one also where there is soon."""
        # There is nearly always a place, and this tells so at next to no cost.
        if job.critical:
            return self._add_critical(job)
        excess = -1 if len(self._jobs) < self._least else len(self._jobs) - self._room()
        if self.shedding and not self._within_share(job):
            self._beyond.append(job)
            if len(self._beyond) > AT_HAND:
                self._drop(self._beyond, "share")
            return True
        if excess >= 0 and self.shedding and self._drop(self._jobs, "displaced"):
            # The newest has the best prospects.
            excess = -1
        if excess >= 0 and not (patient and excess < OVERFLOW):
            self.refusals.add("full")
            return False
        self._jobs.append(job)
        if excess >= 0 and self._timer is None:
            self._first = self._jobs[0]
            self._timer = self._reactor.callLater(PATIENCE, self._look_for_progress)
        return True

    def _within_share(self, job: Job) -> bool:
        """Say whether the client of a call may have it, while there is more to do than can be done."""
        share = getattr(job.call, "share", None)
        client = None if share is None else share()
        if client is None:
            return True
        job.client = client
        return self._shares.allows(client)

    def _add_critical(self, job: Job) -> bool:
        """Let a critical call wait: there are as many places for these alone, and those of others besides."""
        if len(self._critical) >= max(self._least, 1) and not self._drop(self._jobs, "displaced"):
            self.refusals.add("full")
            return False
        self._critical.append(job)
        return True

    def _drop(self, jobs: deque[Job], reason: Reason) -> bool:
        """Make a place by giving up the call that has waited longest; False when there is none."""
        try:
            job = jobs.popleft()
        except IndexError:
            return False
        self.refusals.add(reason)
        job.tell("expire")
        return True

    def empty(self) -> list[Job]:
        """Return all that waits, which waits no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        jobs = []
        for waiting in (self._critical, self._jobs, self._beyond):
            while waiting:
                jobs.append(waiting.pop())
        return jobs

    def _look_for_progress(self) -> None:
        """Refuse what there is no place for when the queue has not moved."""
        self._timer = None
        jobs = self._jobs
        if jobs and jobs[0] is self._first:
            while len(jobs) > self._room():
                self.refusals.add("full")
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
            now = monotonic()
            try:
                job = self._critical.popleft() if self._critical else self._next(now)
            except IndexError:
                # Another thread was faster, or nothing waits.
                if len(self):
                    continue
                self.shedding, self._late_since = False, None
                return None
            reason = self._reason_against(job, now)
            if reason is None:
                self._shares.made(job.client)
                return job
            self.refusals.add(reason)
            expired(job)

    def _reason_against(self, job: Job, now: float) -> Reason | None:
        waited = now - job.since
        if waited > self._timeout:
            return "timeout"
        if job.deadline is not None and now >= job.deadline:
            return "deadline"
        return "late" if self.shedding and not job.critical and waited > TARGET else None

    def _next(self, now: float) -> Job:
        """Take the call whose turn it is.

        :raises IndexError: when there is none.
        """
        jobs = self._jobs
        if not jobs:
            return self._beyond.pop()
        late = now - jobs[0].since > TARGET
        if not self.shedding:
            if not late:
                self._late_since = None
            elif self._late_since is None:
                self._late_since = now
            elif now - self._late_since >= INTERVAL:
                self.shedding = True
        # What has waited too long is taken first, to be told so.
        return jobs.pop() if self.shedding and not late else jobs.popleft()
