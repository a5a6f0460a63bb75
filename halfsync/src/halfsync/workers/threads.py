"""Threads for code that blocks, and how calls get to them and results back.

The reactor holds the queue. What is submitted in a turn of the reactor is handed over at its end:
a thread is woken, and takes calls until none is left; the reactor waits up to a millisecond until it runs.
Calls that do not block so run behind each other in one thread, and each that blocks gets one of its own:
to wake a thread for every call takes 3 futex(2) calls a request, and the reactor loses the interpreter's lock
to it at its next system call (hello: 0.7 of the requests a second).
The thread that was idle last is woken first: its stack is in the processor's cache.
Where calls compute more than a processor can do, that would starve the reactor: it and the threads take turns
then (`share`).
Tried and worse: to spin until the thread runs or before it sleeps, to wake several, to send from the thread.

The threads are daemons, started when there is work for them.
Twisted's own pool joins its threads at exit, and a call that never returns hung the process there.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from contextvars import copy_context
from threading import Lock, Thread
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from halfsync.logs import get_logger
from halfsync.workers.share import LATE, ReactorShare

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet import defer

    from halfsync.workers.lines import Job, Label
    from halfsync.workers.queue import CallQueue

log = get_logger(__name__)

HANDSHAKE = 0.001
"""Seconds that the reactor waits for a thread it has woken: until that one has the interpreter's lock."""

LONGEST = 0.005
"""Seconds after which the reactor goes on with other things, whatever waits by then."""


class Worker:
    """One thread; what it holds is written by itself alone and read by anyone."""

    __slots__ = ("done", "ended", "held", "progressed", "thread", "wake")

    def __init__(self) -> None:
        self.thread: Thread
        self.held: tuple[Label, float] | None = None
        self.ended = 0
        """How many of the calls that it took have ended."""
        self.progressed = 0.0
        """When its call last got on; `inf` while it waits for somebody else."""
        self.wake = Lock()
        """Released to wake the thread."""
        self.wake.acquire()
        self.done = Lock()
        """Released by the thread when it is idle again, where it takes turns with the reactor."""
        self.done.acquire()


class Threads:
    """Threads that take calls from a queue, and hand results to the reactor."""

    label: str
    """The name of the pool; each thread has a number after it."""

    def __init__(self, jobs: CallQueue, threads: int, reactor: Any) -> None:
        """Begin with no thread.

        :param threads: how many there may be.
        """
        self.threads = threads
        self._jobs = jobs
        self._reactor = reactor
        self._idle: list[Worker] = []
        self._workers: list[Worker] = []
        self._results: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()
        self._since = 0.0
        """When the reactor last began to deliver, or the first result came behind it; monotonic."""
        self._woken = False
        """Whether the reactor will deliver results without being told."""
        self._handing_over = False
        """Whether it will hand over what is in the queue."""
        self._ran = Lock()
        """Released by a thread that was woken and runs."""
        self._ran.acquire()
        self._stopped = False
        self._share = ReactorShare(self.label, lambda: bool(jobs), reactor)
        self._turn: Worker | None = None
        """Whose turn it is."""
        self._computing: Worker | None = None
        """Who has computed for longer than the reactor waited, where turns are taken."""
        self._empty: list[defer.Deferred[None]] = []
        """Each fires when nothing runs and nothing waits."""

    @property
    def busy(self) -> int:
        """How many threads hold something."""
        return sum(worker.held is not None for worker in self._workers)

    @property
    def ended(self) -> int:
        """How many calls have been made."""
        return sum(worker.ended for worker in self._workers)

    @property
    def unended(self) -> int:
        """How many calls wait or are made: `busy` overlooks one that a thread is about to make."""
        return self._jobs.unended(self.ended)

    def in_reactor(self, function: Callable[..., object], *args: object) -> None:
        """Make a call in the reactor's thread, after those asked for before it; for any thread.

        Many may be asked for by the time the reactor wakes: it is woken once for all of them,
        because the wake-up is a system call at which the asking thread loses the interpreter's lock.
        """
        if not self._results:
            self._since = monotonic()
        self._results.append((function, args))
        if not (self._woken or self._handing_over):
            self._woken = True
            self._reactor.callFromThread(self._deliver)

    # In the reactor.

    def _hand_over(self) -> None:
        """Wake a thread for what waits, and one more for as long as each is held up by what it took."""
        ends = monotonic() + LONGEST
        self._deliver()
        share = self._share
        if share.turns:
            self._take_turns()
        else:
            self._computing = None
            while self._jobs and self._wake_one():
                # Truly wait: whoever only looks again and again takes the interpreter's lock from the thread.
                # It runs when the one before it, or the last one behind that, blocks.
                ran = self._ran.acquire(timeout=HANDSHAKE)
                self._deliver()
                if not ran or monotonic() > ends:
                    # Nothing blocks, or answers lead to new calls, as pipelined requests do.
                    # The reactor has other things to do, and comes back.
                    break
        self._handing_over = False
        if self._jobs and (self._computing or self._idle or len(self._workers) < self.threads):
            self._hand_over_later()
        elif self._results:
            self._deliver()

    def _take_turns(self) -> None:
        """Let threads have their turn: one after the other, as far as they compute."""
        share = self._share
        share.begin()
        worker = self._computing or self._wake_one()
        while worker is not None:
            self._turn = worker
            done = share.let_compute(worker.done)
            self._deliver()
            self._computing = None if done else worker
            go_on = done and self._jobs and not share.is_over
            worker = self._wake_one() if go_on else None

    def _wake_one(self) -> Worker | None:
        """Have one more thread take calls; return it, or None when there is none."""
        if self._idle:
            worker = self._idle.pop()
            # It may have been idle in between without being asked.
            worker.done.acquire(blocking=False)
            worker.wake.release()
            return worker
        started = len(self._workers)
        if started < self.threads and self._hire() and len(self._workers) > started:
            return self._workers[-1]
        return None

    def _hand_over_later(self) -> None:
        """Hand over what waits, after the present turn of the reactor."""
        if not self._handing_over:
            self._handing_over = True
            self._reactor.callLater(0, self._hand_over)

    def _deliver(self) -> None:
        # In this order: a thread that still finds True has appended before the loop below ends.
        self._woken = False
        self._since = monotonic()
        results = self._results
        # Not until none is left: threads that go on making more must not keep the reactor here.
        for _ in range(len(results)):
            function, args = results.popleft()
            try:
                function(*args)
            except Exception:
                log.exception("workers.result_failed", function=getattr(function, "__qualname__", ""))
        if results and not (self._woken or self._handing_over):
            self._woken = True
            self._reactor.callLater(0, self._deliver)

    def _hire(self) -> bool:
        """Start one more thread; False when the system allows none and there is no other to do the work."""
        worker = Worker()
        name = f"{self.label}-{len(self._workers) + 1}"
        worker.thread = Thread(target=self._work, args=(worker,), name=name, daemon=True)
        # Before it starts, as it may be idle as soon as it has.
        self._workers.append(worker)
        try:
            worker.thread.start()
        except RuntimeError:
            self._workers.remove(worker)
            log.exception("workers.no_thread", pool=self.label, threads=len(self._workers))
            return bool(self._workers)
        return True

    def _check_empty(self) -> None:
        if not self.unended:
            waiting, self._empty = self._empty, []
            for each in waiting:
                each.callback(None)

    # In the threads.

    def _next(self, worker: Worker, *, woken: bool) -> Job | None:
        """Wait for a call; None is the end.

        :param woken: whether the thread was woken for one: then it takes one, however late it is.
        """
        share = self._share
        while not self._stopped:
            over = share.turns and not woken and (worker is not self._turn or share.is_over)
            woken = True
            job = None if over else self._jobs.take(self._expired)
            if job is not None:
                return job
            self._idle.append(worker)
            if (self._jobs and not over) or self._stopped:
                # It came between the two looks.
                try:
                    self._idle.remove(worker)
                except ValueError:
                    # The reactor has taken this thread from there, and releases its lock.
                    pass
                else:
                    continue
            if share.turns:
                _release(worker.done)
                if self._jobs:
                    self.in_reactor(self._hand_over_later)
            worker.wake.acquire()
            if not share.turns:
                _release(self._ran)
        return None

    def _expired(self, job: Job) -> None:
        self.in_reactor(job.tell, "expire")
        if self._empty:
            self.in_reactor(self._check_empty)

    def _work(self, worker: Worker) -> None:
        share = self._share
        if not share.turns:
            _release(self._ran)
        woken = True
        while (job := self._next(worker, woken=woken)) is not None:
            woken = False
            worker.held = (job.label, time())
            worker.progressed = 0.0
            try:
                # What one call leaves in context variables (the logs' fields) must not reach the next.
                copy_context().run(job.call)
            except BaseException:
                label = job.label() if callable(job.label) else job.label
                log.exception("workers.call_failed", label=label)
            deliver = getattr(job.call, "deliver", None)
            # A thread that waits must not keep the last request and its body alive.
            del job
            worker.held = None
            worker.ended += 1
            if deliver is not None:
                # Not before this thread is free: who gets the result may ask for the next call at once.
                self.in_reactor(deliver)
                del deliver
            if self._empty:
                self.in_reactor(self._check_empty)
            if self._results and monotonic() - self._since > LATE and not (share.turns or self._stopped):
                share.turns = True
                self.in_reactor(share.watch)


def _release(lock: Lock) -> None:
    with suppress(RuntimeError):
        # It is released already where the reactor did not wait so long.
        lock.release()
