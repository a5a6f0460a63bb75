"""Calls that wait, in a line for each client; the lines take turns.

So a client that asks for a hundred things at once waits for its own, and another one for one of them at most;
and when more is asked for than can be done, each gets the same, or as much as it asks for when that is less.

When the oldest call of a line has waited for longer than TARGET all through an INTERVAL
(CoDel: Nichols and Jacobson, "Controlling Queue Delay"), the newest of it is made first,
and those that have waited for longer than TARGET are not made (Facebook's "Fail at Scale" does so, too).
The same holds for all lines together, as clients may be many and each ask only once.
It ends when the line is empty, or a thread finds the queue so.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    Label = str | Callable[[], str]

TARGET = 0.1
"""Seconds that a call may wait while there is more to do than can be done."""

LOOKED_AT = 64
"""Lines of which the longest is found; where there are more, none is long."""

INTERVAL = 0.5
"""Seconds for which the oldest must have waited so long: a burst of requests is no overload."""


class Job:
    """A call that waits.

    Its call may have the methods `expire`, `discard`, `deliver`: to be told in the reactor that it has ended,
    and `share`: by what its client is told from others.

    :param deadline: on the monotonic clock; the answer is of no use after it.
    :param critical: whether it is made before others.
    """

    __slots__ = ("call", "critical", "deadline", "label", "since")

    def __init__(
        self,
        call: Callable[[], object],
        label: Label,
        deadline: float | None = None,
        critical: bool = False,  # noqa: FBT001, FBT002  by name it took 300 ns to make one, not 180
    ) -> None:
        self.call = call
        self.label = label
        self.deadline = deadline
        self.critical = critical
        self.since = monotonic()

    def tell(self, what: str) -> None:
        """Call a method of the call's, if it has that, to say that it will not be made."""
        method = getattr(self.call, what, None)
        if method is not None:
            method()


class Codel:
    """Whether calls have waited for too long, for too long."""

    __slots__ = ("late_since", "shedding")

    def __init__(self) -> None:
        self.late_since: float | None = None
        """Since when the oldest call has always waited for longer than TARGET."""
        self.shedding = False
        """Whether the newest is made first, and what has waited too long is not made."""

    def look(self, waited: float, now: float) -> None:
        """Hear how long the oldest call has waited."""
        if self.shedding:
            return
        if waited <= TARGET:
            self.late_since = None
        elif self.late_since is None:
            self.late_since = now
        else:
            self.shedding = now - self.late_since >= INTERVAL


class Line:
    """The calls of one client."""

    __slots__ = ("client", "codel", "jobs")

    def __init__(self, client: Hashable) -> None:
        self.client = client
        self.jobs: deque[Job] = deque()
        self.codel = Codel()


class Lines:
    """All lines; whoever calls has a lock."""

    def __init__(self) -> None:
        self.size = 0
        """Calls that wait."""
        self.all = Codel()
        """Of all lines together."""
        self._lines: dict[Hashable, Line] = {}
        self._turns: deque[Line] = deque()
        """The lines, each with at least one call; that whose turn it is first."""

    def __len__(self) -> int:
        """Return how many clients wait."""
        return len(self._lines)

    def __iter__(self) -> Iterator[Line]:
        return iter(self._turns)

    @property
    def shedding(self) -> bool:
        """Whether any calls that wait too long are not made."""
        return self.all.shedding or any(each.codel.shedding for each in list(self._turns))

    def add(self, job: Job, client: Hashable) -> None:
        """Put a call behind the others of its client."""
        line = self._lines.get(client)
        if line is None:
            line = self._lines[client] = Line(client)
            self._turns.append(line)
        line.jobs.append(job)
        self.size += 1

    def take(self, now: float) -> tuple[Job, bool]:
        """Take the call whose turn it is; say whether it has waited too long to be made.

        :raises IndexError: when there is none.
        """
        both = self.all
        both.look(now - self._turns[0].jobs[0].since, now)
        # Under overload a client that comes new is before those who have had a turn.
        line = self._turns.pop() if both.shedding else self._turns.popleft()
        jobs, codel = line.jobs, line.codel
        waited = now - jobs[0].since
        codel.look(waited, now)
        shedding = both.shedding or codel.shedding
        # What has waited too long is taken first, to be told so: it costs its client no turn.
        late = shedding and waited > TARGET
        job = jobs.pop() if shedding and not late else jobs.popleft()
        self._taken(line, front=late is not both.shedding)
        return job, late

    def waiting(self, client: Hashable) -> int:
        """Return how many calls of a client wait."""
        line = self._lines.get(client)
        return 0 if line is None else len(line.jobs)

    def longest(self) -> Line | None:
        """Return the line in which most wait, of those whose turn is next."""
        return max(islice(self._turns, LOOKED_AT), key=_length, default=None)

    def drop(self, line: Line, *, newest: bool) -> Job:
        """Give up a call of a line."""
        job = line.jobs.pop() if newest else line.jobs.popleft()
        self.size -= 1
        if not line.jobs:
            self._turns.remove(line)
            del self._lines[line.client]
        return job

    def clear(self) -> list[Job]:
        """Return all that wait, which wait no more."""
        jobs = [job for line in self._turns for job in line.jobs]
        self._lines.clear()
        self._turns.clear()
        self.size = 0
        return jobs

    def _taken(self, line: Line, *, front: bool) -> None:
        """Put a line where it has its next turn, or forget it when nobody waits in it."""
        self.size -= 1
        if not line.jobs:
            del self._lines[line.client]
        elif front:
            self._turns.appendleft(line)
        else:
            self._turns.append(line)


def _length(line: Line) -> int:
    return len(line.jobs)
