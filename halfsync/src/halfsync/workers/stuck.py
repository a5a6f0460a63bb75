"""Threads that are stuck: they have run one call for too long, without handing on anything of its response.

Python cannot kill a thread. What can be done is to say which code holds it, once, to count it,
and to let the process be replaced when no thread is left that is not stuck.
"""

from __future__ import annotations

import sys
from math import inf
from time import time
from typing import TYPE_CHECKING, Any, Protocol

from halfsync.life.facts import counter, gauge
from halfsync.life.stacks import frames_of
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from threading import Thread

    from halfsync.life.facts import Metric

log = get_logger(__name__)

LOOKS = 4
"""How often threads are looked at in the time after which one is stuck."""

LONGEST_PAUSE = 5.0
"""Seconds between two looks at most."""


class Held(Protocol):
    """A thread of a pool, as it says itself."""

    thread: Thread
    held: tuple[Any, float] | None
    """What it runs, and since when; None when it is idle."""
    progressed: float
    """When its call last handed on something of a response; `inf` while it waits for the client."""


class StuckThreads:
    """Looks at the threads of a pool, again and again.

    :param threads: those that there are; there may be `most`.
    :param after: seconds; 0 turns it off.
    :param all_stuck: called once when every thread that there may be is stuck, with the reason.
    """

    def __init__(
        self,
        pool: str,
        threads: Sequence[Held],
        most: int,
        *,
        after: float,
        reactor: Any,
        all_stuck: Callable[[str], object],
    ) -> None:
        self.after = after
        self.count = 0
        """Calls that got stuck, since the start."""
        self._pool = pool
        self._threads = threads
        self._most = most
        self._reactor = reactor
        self._all_stuck = all_stuck
        self._told: set[tuple[str, float]] = set()
        """The calls that were logged and still run: by thread and start."""
        self._timer: Any = None
        self._given_up = False

    def start(self) -> None:
        """Begin to look."""
        if self.after and self._timer is None:
            self._timer = self._reactor.callLater(min(self.after / LOOKS, LONGEST_PAUSE), self._look)

    def stop(self) -> None:
        """End it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def problems(self) -> list[str]:
        """Say so when no thread is free of stuck calls."""
        stuck = self._stuck()
        if len(stuck) < self._most:
            return []
        least = time() - max(since for _, since in stuck)
        return [
            f"all {self._most} threads are stuck, each for {least:.0f} s or more; a thread cannot be killed"
        ]

    def metrics(self) -> Iterator[Metric]:
        """Return how many threads are stuck, and how many calls have got stuck."""
        name = {"pool": self._pool}
        yield gauge("workers_stuck", "Threads held by a call for too long.", len(self._stuck()), **name)
        yield counter("workers_stuck_calls", "Calls that held a thread for too long.", self.count, **name)

    def _stuck(self) -> list[tuple[Held, float]]:
        """Return the threads that are stuck, with the time of their last progress."""
        if not self.after:
            return []
        now, found = time(), []
        for each in self._threads:
            held = each.held
            since = inf if held is None else max(held[1], each.progressed)
            if now - since >= self.after:
                found.append((each, since))
        return found

    def _look(self) -> None:
        self._timer = None
        self.start()
        stuck = self._stuck()
        told = set()
        for each, _ in stuck:
            held = each.held
            if held is None:
                continue
            call = (each.thread.name, held[1])
            if call not in self._told:
                self.count += 1
                self._tell(each, *held)
            told.add(call)
        self._told = told
        if len(stuck) >= self._most and not self._given_up and (problems := self.problems()):
            self._given_up = True
            log.error("workers.all_stuck", pool=self._pool, threads=self._most)
            self._all_stuck(problems[0])
        elif len(stuck) < self._most:
            self._given_up = False

    def _tell(self, each: Held, label: Any, since: float) -> None:
        frame = sys._current_frames().get(each.thread.ident or 0)  # noqa: SLF001  the documented way
        log.error(
            "workers.stuck",
            pool=self._pool,
            thread=each.thread.name,
            work=label() if callable(label) else label,
            seconds=round(time() - since, 1),
            stack=frames_of(frame) if frame else [],
        )
