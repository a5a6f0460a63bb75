"""A bounded pool of threads for code that blocks.

The reactor hands a call over through a `queue.SimpleQueue`, whose put and get are single C calls;
the threads hand results back through `in_reactor`, which wakes the reactor once for all that is ready.
Places are counted by a deque of tokens, because its `append` and `pop` are atomic without a lock of ours.

The threads are daemons, started when there is work for them.
Twisted's own pool joins its threads at exit, and a call that never returns hung the process there.
"""

from __future__ import annotations

from collections import deque
from contextvars import copy_context
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from time import time
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from halfsync.life.facts import WorkerThread, counter, gauge
from halfsync.life.parts import Part
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from halfsync.life.facts import Metric

    Label = str | Callable[[], str]

log = get_logger(__name__)

T = TypeVar("T")
Ps = ParamSpec("Ps")


class Busy(Exception):  # noqa: N818  a state of the pool, not an error of anybody's
    """Every thread is taken and every place in the queue, or the pool has stopped."""

    retry_after = 1
    """Seconds after which it is worth trying again."""

    def __init__(self) -> None:
        super().__init__("every worker thread and every place in the queue is taken")


class _Worker:
    """One thread; what it holds is written by itself alone and read by anyone."""

    __slots__ = ("held", "thread")

    def __init__(self) -> None:
        self.thread: Thread
        self.held: tuple[Label, float] | None = None


class _Call(Generic[T]):
    """A call in a thread whose result comes back as a Deferred."""

    __slots__ = ("deferred", "function", "pool")

    def __init__(self, pool: WorkerPool, function: Callable[[], T]) -> None:
        self.pool = pool
        self.function = function
        self.deferred: Deferred[T] = Deferred()

    def __call__(self) -> None:
        result: T | Failure
        try:
            result = self.function()
        except BaseException:  # noqa: BLE001  SystemExit, too, belongs to who asked for the call
            result = Failure()
        self.pool.in_reactor(self._fire, result)

    def _fire(self, result: T | Failure) -> None:
        # It may have been cancelled meanwhile.
        if not self.deferred.called:
            self.deferred.callback(result)

    def discard(self) -> None:
        """Tell who waits that the call will not be made."""
        if not self.deferred.called:
            self.deferred.errback(Failure(CancelledError("the workers stopped first")))


class WorkerPool(Part):
    """At most `threads` calls at a time, and `queue` more that wait; beyond that `Busy`."""

    def __init__(self, name: str, *, threads: int, queue: int, reactor: Any) -> None:
        super().__init__(name)
        self.threads = threads
        self.queue = queue
        self.refused = 0
        """How often `Busy` was raised."""
        self._reactor = reactor
        self._jobs: SimpleQueue[tuple[Callable[[], object], Label] | None] = SimpleQueue()
        self._places: deque[None] = deque([None] * (threads + queue))
        self._workers: list[_Worker] = []
        self._results: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()
        self._woken = False
        self._stopped = False
        self._empty: Deferred[None] | None = None

    @property
    def busy(self) -> int:
        """How many threads hold something."""
        return sum(worker.held is not None for worker in self._workers)

    @property
    def waiting(self) -> int:
        """How many calls wait for a thread."""
        return max(0, self._inside() - self.busy)

    def submit(self, call: Callable[[], object], label: Label) -> None:
        """Have a thread make the call; for the reactor's thread.

        An error that the call raises is logged; its result is dropped.
        A call with a method `discard` has it called when the pool stops before the call was made.
        :param label: what to show for the thread while it is held.
        :raises Busy: when there is no thread and no place to wait.
        """
        if self._stopped or not self._places:
            self.refused += 1
            raise Busy
        inside = self._inside()
        if inside >= len(self._workers) < self.threads and not self._hire():
            self.refused += 1
            raise Busy
        self._places.pop()
        self._jobs.put((call, label))

    def run(self, fn: Callable[Ps, T], *args: Ps.args, **kwargs: Ps.kwargs) -> Deferred[T]:
        """Make a call in a thread, in a copy of the caller's context; for the reactor's thread.

        :return: a Deferred of its result; it fails with what the call raised,
            or with CancelledError when the pool stops before the call was made.
        :raises Busy: when there is no thread and no place to wait.
        """
        call: _Call[T] = _Call(self, partial(copy_context().run, fn, *args, **kwargs))
        self.submit(call, getattr(fn, "__qualname__", repr(fn)))
        return call.deferred

    def in_reactor(self, function: Callable[..., object], *args: object) -> None:
        """Make a call in the reactor's thread, after those asked for before it; for any thread.

        Many may be asked for by the time the reactor wakes: it is woken once for all of them,
        because the wake-up is a system call at which the asking thread loses the interpreter's lock.
        """
        self._results.append((function, args))
        if not self._woken:
            self._woken = True
            self._reactor.callFromThread(self._deliver)

    def metrics(self) -> Iterator[Metric]:
        """Return how many threads and places there are, and how many are taken."""
        pool = self.label
        yield gauge("workers_limit", "Threads there may be.", self.threads, pool=pool)
        yield gauge("workers_busy", "Threads that hold something.", self.busy, pool=pool)
        yield gauge("workers_waiting", "Calls that wait for a thread.", self.waiting, pool=pool)
        yield gauge("workers_waiting_limit", "Calls that may wait.", self.queue, pool=pool)
        yield counter("workers_refused", "Calls for which there was no room.", self.refused, pool=pool)

    def workers(self) -> list[WorkerThread]:
        """Say of each thread what it runs since when."""
        found = []
        for worker in [each for each in self._workers if each.thread.is_alive()]:
            label, since = worker.held or (None, None)
            text = label() if callable(label) else label
            found.append(WorkerThread(worker.thread.name, worker.thread.ident or 0, text, since))
        return found

    async def drain(self) -> None:
        """Return when nothing runs and nothing waits.

        Work is still taken: the requests that a drain is for need threads.
        """
        if self._inside():
            empty = self._empty = Deferred()
            # A thread may have given back the last place before it could see that somebody waits.
            self._check_empty()
            await empty

    async def stop(self) -> None:
        """Take no more work, discard what waits, and let the threads end after what they run."""
        self._stopped = True
        while True:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                break
            if job is not None:
                self._places.append(None)
                discard = getattr(job[0], "discard", None)
                if discard is not None:
                    discard()
        for _ in self._workers:
            self._jobs.put(None)

    def _inside(self) -> int:
        return self.threads + self.queue - len(self._places)

    def _hire(self) -> bool:
        """Start one more thread; False when the system allows none and there is no other to do the work."""
        worker = _Worker()
        name = f"{self.label}-{len(self._workers) + 1}"
        worker.thread = Thread(target=self._work, args=(worker,), name=name, daemon=True)
        try:
            worker.thread.start()
        except RuntimeError:
            log.exception("workers.no_thread", pool=self.label, threads=len(self._workers))
            return bool(self._workers)
        self._workers.append(worker)
        return True

    def _work(self, worker: _Worker) -> None:
        jobs = self._jobs
        places = self._places
        while (job := jobs.get()) is not None:
            call, label = job
            worker.held = (label, time())
            try:
                # What one call leaves in context variables (the logs' fields) must not reach the next.
                copy_context().run(call)
            except BaseException:
                log.exception("workers.call_failed", label=label() if callable(label) else label)
            # A thread that waits must not keep the last request and its body alive.
            del job, call, label
            worker.held = None
            places.append(None)
            if self._empty is not None:
                self.in_reactor(self._check_empty)

    def _deliver(self) -> None:
        # In this order: a thread that still finds True has appended before the loop below ends.
        self._woken = False
        results = self._results
        while results:
            function, args = results.popleft()
            try:
                function(*args)
            except Exception:
                log.exception("workers.result_failed", function=getattr(function, "__qualname__", ""))

    def _check_empty(self) -> None:
        if self._empty is not None and not self._inside():
            empty, self._empty = self._empty, None
            empty.callback(None)
