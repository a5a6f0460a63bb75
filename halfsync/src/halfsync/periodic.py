"""A task that runs again and again, whatever happens to one run.

`twisted.internet.task.LoopingCall` beats: its beats lie on a grid from the start, and so do not drift,
and one that comes late is dropped.
It stops for good at the first error, though, and waits for a run before it beats again;
so a beat here only decides whether a run begins, and never fails.
"""

from __future__ import annotations

import math
import random
import time
from typing import TYPE_CHECKING, Any

from halfsync._later import later
from halfsync.life.facts import counter, gauge
from halfsync.life.parts import Part
from halfsync.logs import get_logger
from halfsync.workers.calls import is_coroutine_function, refusing_waitables
from halfsync.workers.pool import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twisted.internet import defer, task
    from twisted.python import failure as failures

    from halfsync.in_memory.exchange import InlineWorkers
    from halfsync.life.facts import Metric, WorkerThread
else:
    defer = later("twisted.internet.defer")
    failures = later("twisted.python.failure")
    task = later("twisted.internet.task")

log = get_logger(__name__)

LONGEST_BACKOFF = 300.0
"""Seconds; an interval above it is not lengthened at all."""

MOST_BACKOFF = 10
"""Times the interval."""

LATE = 3
"""Intervals that a run of a critical task may take before the process is not ready."""


class TaskStoppedError(Exception):
    """The task has stopped, or is about to, and is not run any more."""


class Periodic(Part):
    """A function that is called every `interval` seconds, one call at a time.

    A coroutine function runs in the reactor, a plain function in a thread.
    A run that raises is logged with its traceback, and the next waits 2, 4, 8, ... intervals, 10 at most,
    and no more than 5 minutes; a run that succeeds ends that.
    A beat that comes while a run goes on is skipped and counted.
    """

    def __init__(
        self,
        name: str,
        interval: float,
        fn: Callable[[], object],
        *,
        jitter: float = 0.1,
        now: bool = True,
        critical: bool = False,
        timeout: float | None = None,
        reactor: Any,
        pool: WorkerPool | InlineWorkers | None = None,
    ) -> None:
        """Prepare to run `fn`.

        :param interval: seconds from one beat to the next.
        :param jitter: each run but the first starts up to this part of the interval after its beat,
            so that many processes do not do the same thing at once.
        :param now: whether the first run is at the start, or an interval later.
        :param critical: the process is ready only after a run has succeeded, and while none has failed since.
            So a check of the service's own is a task: it raises when something is wrong.
        :param timeout: seconds after which a run counts as failed (`TimeoutError`);
            a coroutine is cancelled, and a call in a thread left to itself.
        :param pool: the threads for a plain function; None for one of its own.
            In tests, beside a `Clock` as reactor, `testing.InlineWorkers()`.
        :raises ValueError: when the interval or the jitter makes no sense.
        """
        if not 0 < interval < math.inf:
            raise ValueError(f"the interval of the task {name} is {interval} seconds; it must be above 0")
        if not 0 <= jitter < 1:
            raise ValueError(f"the jitter of the task {name} is {jitter}; it must be a part of 1")
        if timeout is not None and not timeout > 0:
            raise ValueError(f"the timeout of the task {name} is {timeout} seconds; it must be above 0")
        super().__init__(name)
        self.interval = interval
        self.critical = critical
        self.runs = 0
        """Runs that have ended, the failed ones too."""
        self.failures = 0
        self.skipped = 0
        """Beats at which the run before had not ended."""
        self.last_started: float | None = None
        """In seconds since the epoch."""
        self.last_duration: float | None = None
        """In seconds."""
        self.last_error: str | None = None
        """Of the last run; None when that succeeded."""
        self._fn = fn
        self._blocking = refusing_waitables(fn)
        self._timeout = timeout
        self._jitter = jitter
        self._now = now
        self._reactor = reactor
        self._own_pool: WorkerPool | None = None
        if pool is None and not is_coroutine_function(fn):
            # A place to wait: the thread may not be free yet when the reactor learns of the run before.
            self._own_pool = pool = WorkerPool(f"task-{name}", threads=1, queue=1, reactor=reactor)
        self._pool = None if is_coroutine_function(fn) else pool
        self._loop = task.LoopingCall(self._beat)
        self._loop.clock = reactor
        self._delayed: Any = None
        """The run that waits for its jitter to pass."""
        self._run: defer.Deferred[object] | None = None
        self._joined: list[defer.Deferred[object]] = []
        self._began = 0.0
        self._failed_in_a_row = 0
        self._not_before = 0.0
        self._stopping = False
        self._cancelled = False

    async def start(self) -> None:
        """Begin to beat."""
        self._loop.start(self.interval, now=self._now)

    async def drain(self) -> None:
        """Begin no run any more, and return when the one that goes on has ended."""
        self._cease()
        if self._run is None:
            return
        try:
            await self._join()
        except defer.CancelledError:
            # Of the drain, or of the run.
            if self.busy:
                raise
        except Exception:  # noqa: BLE001  logged as task.failed
            return

    async def stop(self) -> None:
        """Cancel the run that goes on; one in a thread cannot be, and is left to itself."""
        self._cease()
        if self._run is not None:
            self._cancelled = True
            self._run.cancel()
        if self._own_pool is not None:
            await self._own_pool.stop()

    @property
    def busy(self) -> bool:
        """Whether a run goes on."""
        return self._run is not None

    @property
    def next_at(self) -> float | None:
        """When the next run begins, before jitter, in the reactor's seconds; None when there will be none."""
        if self._delayed is not None:
            return float(self._delayed.getTime())
        if self._loop.call is None:
            return None
        beat = self._loop.call.getTime()
        while beat < self._not_before:
            beat += self.interval
        return beat

    def run_now(self) -> defer.Deferred[object]:
        """Run at once, or join the run that goes on; the beats stay where they are.

        :return: a Deferred of what the function returns; it fails with what the function raises,
            or with `TaskStoppedError`.
        """
        if self._stopping:
            return defer.fail(TaskStoppedError(f"the task {self.label} has stopped"))
        joined = self._join()
        if self._run is None:
            self._begin()
        return joined

    def problems(self) -> list[str]:
        """Say what is wrong with a critical task: it failed, was never done, or a run does not end."""
        if not self.critical:
            return []
        if self.last_error:
            return [f"{self.label}: the last run failed: {self.last_error}"]
        if not self.runs:
            return [f"{self.label}: no run has ended yet"]
        late = self._reactor.seconds() - self._began if self.busy else 0.0
        if late > LATE * self.interval:
            return [f"{self.label}: a run has gone on for {late:.0f} s"]
        return []

    def workers(self) -> list[WorkerThread]:
        """Return the thread of its own, if there is one, and what it runs."""
        return self._own_pool.workers() if self._own_pool else []

    def metrics(self) -> Iterator[Metric]:
        """Return what has become of the runs."""
        task = self.label
        yield counter("task_runs", "Runs that have ended.", self.runs, task=task)
        yield counter("task_failures", "Runs that have failed.", self.failures, task=task)
        yield counter("task_skipped", "Beats during a run.", self.skipped, task=task)
        yield gauge("task_running", "1 during a run.", self.busy, task=task)
        yield gauge("task_last_duration_seconds", "Of the last run.", self.last_duration, task=task)
        yield gauge("task_last_started_seconds", "Of the last run (epoch).", self.last_started, task=task)

    def snapshot(self) -> dict[str, Any]:
        """Return the state for people and machines; times in seconds since the epoch."""
        upcoming = self.next_at
        return {
            "interval": self.interval,
            "running": self.busy,
            "runs": self.runs,
            "failures": self.failures,
            "skipped": self.skipped,
            "last_started": self.last_started,
            "last_duration": self.last_duration,
            "last_error": self.last_error,
            "next_at": None if upcoming is None else time.time() + upcoming - self._reactor.seconds(),
        }

    def _beat(self) -> None:
        if self._run is not None or self._delayed is not None:
            self.skipped += 1
            log.debug("task.skipped", task=self.label, skipped=self.skipped)
        elif self._reactor.seconds() < self._not_before:
            return
        elif self.last_started is None and self._now:
            self._begin()
        else:
            delay = self._jitter * self.interval * random.random()  # noqa: S311  no secret
            self._delayed = self._reactor.callLater(delay, self._begin_delayed)

    def _begin_delayed(self) -> None:
        self._delayed = None
        if self._run is None:
            self._begin()
        else:
            self.skipped += 1

    def _begin(self) -> None:
        began = self._began = self._reactor.seconds()
        self.last_started = time.time()
        log.debug("task.started", task=self.label)
        # Assigned before its callbacks: a function that does not wait ends before the next line.
        run = self._run = defer.maybeDeferred(self._call)
        if self._timeout is not None:
            run.addTimeout(self._timeout, self._reactor, self._timed_out)
        run.addBoth(self._end, began)

    def _timed_out(self, result: object, timeout: float) -> object:
        if isinstance(result, failures.Failure) and result.check(defer.CancelledError):
            return failures.Failure(TimeoutError(f"the run took longer than {timeout:g} s"))
        return result

    def _call(self) -> defer.Deferred[Any]:
        if self._pool is None:
            return defer.Deferred.fromCoroutine(self._fn())  # type: ignore[arg-type]
        return self._pool.run(self._blocking)

    def _end(self, result: object, began: float) -> None:
        self._run = None
        self.runs += 1
        self.last_duration = self._reactor.seconds() - began
        if isinstance(result, failures.Failure):
            self._fail(result)
        else:
            self._failed_in_a_row = 0
            self._not_before = 0.0
            self.last_error = None
            log.debug("task.done", task=self.label, seconds=round(self.last_duration, 6))
        joined, self._joined = self._joined, []
        for deferred in joined:
            deferred.callback(result)

    def _fail(self, failure: failures.Failure) -> None:
        self.failures += 1
        self.last_error = (
            f"{failure.type.__name__}: {failure.getErrorMessage()}" if failure.type else "unknown"
        )
        if self._cancelled or (self._stopping and failure.check(defer.CancelledError)):
            # Not each is told as that: of a name that is looked up, Twisted says that there is none.
            log.warning("task.cancelled", task=self.label, error=self.last_error)
            return
        self._failed_in_a_row += 1
        most = max(self.interval, min(MOST_BACKOFF * self.interval, LONGEST_BACKOFF))
        pause = min(self.interval * 2 ** min(self._failed_in_a_row, 10), most)
        # Half an interval of grace: the beats lie on a grid, and the run has taken its time.
        self._not_before = self._reactor.seconds() + pause - self.interval / 2
        log.error("task.failed", task=self.label, in_a_row=self._failed_in_a_row, failure=failure)

    def _join(self) -> defer.Deferred[object]:
        """Return a Deferred of the present run, or of one about to begin; cancelling it leaves that alone."""
        joined: defer.Deferred[object] = defer.Deferred(self._joined.remove)
        self._joined.append(joined)
        return joined

    def _cease(self) -> None:
        self._stopping = True
        if self._loop.running:
            self._loop.stop()
        if self._delayed is not None:
            self._delayed.cancel()
            self._delayed = None
