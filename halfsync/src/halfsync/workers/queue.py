"""Calls that wait for a thread: how many may, for how long, and which one is next.

Whatever decides over the order of calls, or that one is not to be made after all, belongs into
`CallQueue.take`: it is asked at the moment a thread is free.

A queue that is bounded only by its length has everyone wait for the same time and then fail:
with 2 threads and 20 ms a call, three times the load left 9 of 100 calls a second answered within 0.5 s.
So clients take turns, and calls that wait for too long are not made (`lines`).
Critical calls are made before all others, whatever the load.
"""

from __future__ import annotations

from collections import deque
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any

from halfsync.workers.lines import TARGET, Codel, Job, Lines
from halfsync.workers.refusals import Refusals

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from halfsync.workers.refusals import Reason

PATIENCE = 0.1
"""Seconds without any progress of the queue after which what it has no place for is refused.

Clients come in bursts: 256 connections on a queue of 64 are answered one after the other, none with 503.
"""

OVERFLOW = 1024
"""Calls that may wait so, at most."""

SOON = 0.005
"""Seconds of the oldest call's wait up to which clients are not told apart: whoever comes waits no longer."""


class CallQueue:
    """What waits, in order.

    :param least: how many may always be in the queue.
    :param room: says how many may be in the queue at the moment, those included that get a thread at once.
    :param timeout: seconds; a call that has waited longer is not made.
    :param at_hand: how many may wait for longer than SOON before their clients are told apart: that takes
        two microseconds, and threads take so many at once.
    """

    def __init__(
        self,
        *,
        least: int,
        room: Callable[[], int],
        timeout: float,
        reactor: Any,
        refusals: Refusals | None = None,
        at_hand: int = 1,
    ) -> None:
        self.refusals = refusals or Refusals("")
        self._least = least
        self._room = room
        self._timeout = timeout
        self._reactor = reactor
        self._at_hand = at_hand
        self._critical: deque[Job] = deque()
        self._first: deque[Job] = deque()
        """What came when none waited for long: made before the lines, in order."""
        self._codel = Codel()
        """Of these."""
        self._lines = Lines()
        self._lock = Lock()
        self.taken = 0
        """How many calls threads have taken to make; changed with the lock that they leave the queue with."""
        self._taken_before = 0
        """At the last look for progress."""
        self._timer: Any = None
        """Looks for progress while there is more than there is place for."""

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._first) + self._lines.size + len(self._critical)

    @property
    def shedding(self) -> bool:
        """Whether calls that wait too long are not made."""
        return self._codel.shedding or self._lines.shedding

    @property
    def refused(self) -> int:
        """How many calls were not made."""
        return self.refusals.total

    def oldest(self) -> float:
        """Return for how many seconds the oldest call has waited."""
        with self._lock:
            firsts = [*list(self._first)[:1], *(line.jobs[0] for line in self._lines)]
        return monotonic() - min(each.since for each in firsts) if firsts else 0.0

    # In the reactor.

    def add(self, job: Job, *, patient: bool) -> bool:
        """Let a call wait, if there is a place for it; a patient one also where there is soon."""
        first = self._first
        with self._lock:
            # There is nearly always a place, and this tells so at next to no cost.
            if len(first) < self._least and not (job.critical or self._lines.size) and self._keeps_up(job):
                first.append(job)
                return True
            dropped, reason = self._add_critical(job) if job.critical else self._add(job, patient=patient)
        if dropped is not None:
            self.refusals.add(reason)
            if dropped is job:
                return False
            dropped.tell("expire")
        return True

    def _add(self, job: Job, *, patient: bool) -> tuple[Job | None, Reason]:
        """Put a call in its place; return what has none, be it another one."""
        first, lines = self._first, self._lines
        waiting = len(first) + lines.size
        excess = -1 if waiting < self._least else waiting - self._room()
        if excess < 0 and not lines.size and self._keeps_up(job):
            first.append(job)
            return None, "full"
        self._tell_apart()
        client = _client(job)
        dropped = None
        if excess >= 0:
            waits = patient and excess < OVERFLOW
            dropped = self._make_place(client, by_force=not waits)
            if dropped is None and not waits:
                return job, "full"
            if self._timer is None:
                self._taken_before = self.taken
                self._timer = self._reactor.callLater(PATIENCE, self._look_for_progress)
        lines.add(job, client)
        return dropped, "displaced"

    def _keeps_up(self, job: Job) -> bool:
        """Say whether it makes no difference yet whose call is made first, for one that comes now."""
        first = self._first
        if len(first) >= self._at_hand and job.since - first[0].since > SOON:
            return False
        return self._codel.late_since is None and self._lines.all.late_since is None

    def _tell_apart(self) -> None:
        """Have what came in order wait in the lines of the clients."""
        while self._first:
            job = self._first.popleft()
            self._lines.add(job, _client(job))

    def _make_place(self, client: Hashable, *, by_force: bool) -> Job | None:
        """Give up a call: the oldest under overload, as a newcomer has the better prospects.

        :param by_force: whether it may be one of a client that has more waiting than the newcomer's.
        """
        lines = self._lines
        line = lines.longest()
        if line is None:
            return None
        if lines.all.shedding or line.codel.shedding:
            return lines.drop(line, newest=False)
        if by_force and len(line.jobs) > lines.waiting(client) + 1:
            return lines.drop(line, newest=True)
        return None

    def _add_critical(self, job: Job) -> tuple[Job | None, Reason]:
        """Let a critical call wait: there are as many places for these alone, and those of others besides."""
        if len(self._critical) < max(self._least, 1):
            self._critical.append(job)
            return None, "full"
        line = self._lines.longest()
        if self._first:
            dropped = self._first.popleft()
        elif line is not None:
            dropped = self._lines.drop(line, newest=False)
        else:
            return job, "full"
        self._critical.append(job)
        return dropped, "displaced"

    def empty(self) -> list[Job]:
        """Return all that waits, which waits no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        with self._lock:
            jobs = [*self._critical, *self._first, *self._lines.clear()]
            self._critical.clear()
            self._first.clear()
        return jobs

    def _look_for_progress(self) -> None:
        """Refuse what there is no place for when the queue has not moved."""
        self._timer = None
        dropped = []
        with self._lock:
            while self.taken == self._taken_before and len(self) - len(self._critical) > self._room():
                line = self._lines.longest()
                if line is None:
                    break
                dropped.append(self._lines.drop(line, newest=True))
            self._taken_before = self.taken
            if self._lines.size + len(self._first) > self._room():
                self._timer = self._reactor.callLater(PATIENCE, self._look_for_progress)
        for job in dropped:
            self.refusals.add("full")
            job.tell("expire")

    # In any thread.

    def unended(self, ended: int) -> int:
        """Return how many calls wait or have been taken, but for so many; none is overlooked on its way."""
        with self._lock:
            return len(self) + self.taken - ended

    def take(self, expired: Callable[[Job], None]) -> Job | None:
        """Return the call that is to be made next, for a thread that is free; None when none waits.

        :param expired: told of each that has waited too long.
        """
        while self._critical or self._first or self._lines.size:
            now = monotonic()
            with self._lock:
                try:
                    job, late = self._next(now)
                except IndexError:
                    # Another thread was faster.
                    continue
                reason = self._reason_against(job, now, late=late)
                self.taken += reason is None
            if reason is None:
                return job
            self.refusals.add(reason)
            expired(job)
        if self._codel.late_since is not None or self._lines.all.late_since is not None:
            # It keeps up again.
            self._codel, self._lines.all = Codel(), Codel()
        return None

    def _next(self, now: float) -> tuple[Job, bool]:
        """Take the call whose turn it is; say whether it has waited too long to be made.

        :raises IndexError: when there is none.
        """
        if self._critical:
            return self._critical.popleft(), False
        first = self._first
        if not first:
            return self._lines.take(now)
        job = first.popleft()
        waited = now - job.since
        if waited > SOON and len(first) > self._at_hand:
            self._tell_apart()
        codel = self._codel
        if waited <= TARGET and codel.late_since is None:
            return job, False
        codel.look(waited, now)
        return job, codel.shedding and waited > TARGET

    def _reason_against(self, job: Job, now: float, *, late: bool) -> Reason | None:
        if now - job.since > self._timeout:
            return "timeout"
        if job.deadline is not None and now >= job.deadline:
            return "deadline"
        return "late" if late else None


def _client(job: Job) -> Hashable:
    share = getattr(job.call, "share", None)
    return None if share is None else share()
