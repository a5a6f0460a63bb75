"""A bounded pool of threads for code that blocks, as a part of the process.

How calls reach the threads is `threads`, which of them is next `queue`.
"""

from __future__ import annotations

from contextlib import suppress
from contextvars import copy_context
from functools import partial
from math import inf
from random import randrange
from threading import current_thread
from time import time
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from halfsync._later import later
from halfsync.life.facts import Metric, Sample, WorkerThread, gauge
from halfsync.life.parts import Part
from halfsync.workers.calls import Busy, DeferredCall
from halfsync.workers.client_waits import ClientWaits
from halfsync.workers.lines import Job
from halfsync.workers.queue import CallQueue
from halfsync.workers.refusals import REASONS, Refusals
from halfsync.workers.stuck import StuckThreads
from halfsync.workers.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twisted.internet import defer
    from twisted.internet.defer import Deferred

    from halfsync.workers.lines import Label
else:
    defer = later("twisted.internet.defer")

__all__ = ["Busy", "WorkerPool"]

T = TypeVar("T")
Ps = ParamSpec("Ps")

STOPPING = 1.0
"""Seconds that the end waits for calls that have been told to give up: for their `finally` to run."""


class WorkerPool(Threads, Part):
    """At most `threads` calls at a time, and `queue` more that wait; beyond that `Busy`.

    :param queue_timeout: seconds; a call that has waited longer is not made.
    :param stuck_after: seconds; a call that holds its thread for longer is told to the log; 0 for none.
    :param exit_when_stuck: whether the process ends, to be started again, when every thread is held so.
    """

    def __init__(
        self,
        name: str,
        *,
        threads: int,
        queue: int,
        reactor: Any,
        queue_timeout: float = inf,
        stuck_after: float = 60.0,
        exit_when_stuck: bool = False,
    ) -> None:
        Part.__init__(self, name)
        self.queue = queue
        self._refusals = Refusals(name)
        self.client_waits = ClientWaits(threads)
        """Of all applications that the threads run."""
        jobs = CallQueue(
            least=queue,
            room=self._places,
            timeout=queue_timeout,
            reactor=reactor,
            refusals=self._refusals,
            at_hand=threads,
        )
        Threads.__init__(self, jobs, threads, reactor)
        self._stuck = StuckThreads(
            name,
            self._workers,
            threads,
            after=stuck_after,
            reactor=reactor,
            all_stuck=self._all_stuck,
        )
        self._exit_when_stuck = exit_when_stuck

    @property
    def refused(self) -> int:
        """How many calls were not made, for want of a place or of time."""
        return self._refusals.total

    @property
    def waiting(self) -> int:
        """How many calls wait for a thread."""
        return len(self._jobs)

    def submit(
        self,
        call: Callable[[], object],
        label: Label,
        *,
        patient: bool = False,
        deadline: float | None = None,
        critical: bool = False,
    ) -> None:
        """Have a thread make the call; for the reactor's thread.

        An error that the call raises is logged; its result is dropped.
        A call is told in the reactor what becomes of it, by the method that it may have: `deliver` when it
        has ended and its thread is free, and when it will not be made `discard`, as the pool stops,
        or `expire`, as it has waited for longer than `queue_timeout`.
        :param label: what to show for the thread while it is held.
        :param patient: whether to wait for a place for as long as the queue moves; then it has `expire`.
        :param deadline: on the monotonic clock; past it the call is not made, and told to `expire`.
        :param critical: whether it is made before all that are not, and has places of its own.
        :raises Busy: when there is no thread and no place to wait.
        """
        job = Job(call, label, deadline, critical)
        if self._stopped or not self._jobs.add(job, patient=patient):
            raise Busy(self.retry_after())
        if not self._workers and not self._hire():
            self._jobs.empty()
            self._refusals.add("no_thread")
            raise Busy
        if not self._handing_over:
            self._hand_over_later()

    def run(self, fn: Callable[Ps, T], *args: Ps.args, **kwargs: Ps.kwargs) -> Deferred[T]:
        """Make a call in a thread, in a copy of the caller's context; for the reactor's thread.

        :return: a Deferred of its result; it fails with what the call raised, with CancelledError
            when the pool stops before the call was made, with Busy when it waited too long.
        :raises Busy: when there is no thread and no place to wait.
        """
        call: DeferredCall[T] = DeferredCall(partial(copy_context().run, fn, *args, **kwargs))
        self.submit(call, getattr(fn, "__qualname__", repr(fn)))
        return call.deferred

    def retry_after(self) -> int:
        """Return after how many seconds to try again: as long as calls wait, and not all clients at once."""
        return 1 + min(10, int(self._jobs.oldest())) + randrange(3)  # noqa: S311  no secret

    def skipped(self) -> None:
        """Count a call that did nothing, as its client had left; for any thread."""
        self._refusals.add("left")

    def progress(self, *, waiting: bool = False) -> None:
        """Note that the present thread's call gets on, so that it is not stuck; for the pool's threads.

        :param waiting: whether it waits for somebody else until it says so again, however long that takes.
        """
        thread = current_thread()
        for worker in self._workers:
            if worker.thread is thread:
                worker.progressed = inf if waiting else time()

    def problems(self) -> list[str]:
        """Say so when every thread is held by a call that is stuck."""
        return self._stuck.problems()

    def metrics(self) -> Iterator[Metric]:
        """Return how many threads and places there are, and how many are taken."""
        pool = self.label
        yield gauge("workers_limit", "Threads there may be.", self.threads, pool=pool)
        yield gauge("workers_busy", "Threads that hold something.", self.busy, pool=pool)
        yield gauge("workers_waiting", "Calls that wait for a thread.", self.waiting, pool=pool)
        yield gauge("workers_waiting_limit", "Calls that may wait.", self.queue, pool=pool)
        yield gauge(
            "workers_shedding",
            "Whether calls that wait too long are not made.",
            int(self._jobs.shedding),
            pool=pool,
        )
        yield gauge(
            "workers_taking_turns",
            "Whether threads compute only in turns with the reactor.",
            int(self._share.turns),
            pool=pool,
        )
        yield Metric(
            "counter",
            "workers_refused",
            "Calls that were not made, by reason.",
            [Sample(self._refusals.counts[each], {"pool": pool, "reason": each}) for each in REASONS],
        )
        yield from self._stuck.metrics()

    def workers(self) -> list[WorkerThread]:
        """Say of each thread what it runs since when."""
        found = []
        for worker in [each for each in self._workers if each.thread.is_alive()]:
            label, since = worker.held or (None, None)
            text = label() if callable(label) else label
            found.append(WorkerThread(worker.thread.name, worker.thread.ident or 0, text, since))
        return found

    def open_files(self) -> int:
        """Return how many files the calls may have open: one each, as a guess."""
        return self.threads

    async def start(self) -> None:
        """Begin to look for threads that are stuck."""
        self._stuck.start()

    async def drain(self) -> None:
        """Return when nothing runs and nothing waits; may be awaited by several.

        Work is still taken: the requests that a drain is for need threads.
        """
        if self.unended:
            empty: defer.Deferred[None] = defer.Deferred(self._empty.remove)
            self._empty.append(empty)
            # A thread may have ended its call before it could see that somebody waits.
            self._check_empty()
            await empty

    async def stop(self) -> None:
        """Take no more work, discard what waits, and let the threads end after what they run.

        It returns when they have, or after STOPPING: what a listener has cut may still have to clean up.
        """
        self._stopped = True
        self._share.stop()
        self._stuck.stop()
        for job in self._jobs.empty():
            job.tell("discard")
        self._check_empty()
        while self._idle:
            self._idle.pop().wake.release()
        if self.unended:
            drained = defer.Deferred.fromCoroutine(self.drain())
            drained.addTimeout(STOPPING, self._reactor)
            with suppress(Exception):
                await drained

    def _places(self) -> int:
        """Return how many calls may be in the queue: those that will have a thread, and those that wait."""
        return self.queue + self.threads - (self._jobs.taken - self.ended)

    def _all_stuck(self, reason: str) -> None:
        if self._exit_when_stuck:
            self.give_up(f"{self.label}: {reason}")

    # In the reactor.
