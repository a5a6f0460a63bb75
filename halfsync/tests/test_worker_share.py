"""Where calls compute, the reactor and the threads take turns; where they wait for others, they do not."""

from __future__ import annotations

import threading
from math import ceil
from time import monotonic, sleep, thread_time

import pytest
from structlog.testing import capture_logs
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from halfsync.workers import share as worker_share
from halfsync.workers.pool import WorkerPool
from halfsync.workers.share import CALM, CONTENDED, LATE, LONGEST, PERIOD, SLICE, ReactorShare

CONTENTION = SLICE + 2 * CONTENDED
"""Seconds that a wait takes where a thread computes."""


class Lock:
    """A lock whose waits take as long as is said, and are in vain but for the last."""

    def __init__(self, monkeypatch, *waits: float, comes: bool = False):
        self.now = 0.0
        self.waits = list(waits)
        self.comes = comes
        monkeypatch.setattr(worker_share, "monotonic", lambda: self.now)

    def acquire(self, *, timeout: float) -> bool:
        assert timeout == SLICE
        self.now += self.waits.pop(0)
        return self.comes and not self.waits


@pytest.fixture
def clock() -> Clock:
    """A reactor's time."""
    return Clock()


def share(clock: Clock, *, waits: bool = True) -> ReactorShare:
    """Return one that takes turns."""
    each = ReactorShare("workers", lambda: waits, clock)
    each.turns = True
    each.watch()
    return each


def test_nobody_looks_where_no_turns_are_taken(clock):
    """A service is not woken for this."""
    ReactorShare("workers", lambda: True, clock).watch()
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize(("waits", "computes"), [(True, True), (False, True), (True, False)])
def test_there_are_turns_for_as_long_as_calls_that_compute_wait(clock, monkeypatch, waits, computes):
    """A quarter of a second after the last they end: calls that wait for others are better off without."""
    each = share(clock, waits=waits)
    with capture_logs() as logs:
        for _ in range(CALM):
            assert each.turns
            assert each.let_compute(Lock(monkeypatch, CONTENTION * computes, SLICE))
            clock.advance(PERIOD)
    assert each.turns is (waits and computes)
    assert len(clock.getDelayedCalls()) == (waits and computes)
    told = ["workers.take_turns"] * computes + ["workers.turns_over"] * (computes and not waits)
    assert [entry["event"] for entry in logs] == told


def test_the_end(clock):
    """Nothing is left of it in the reactor, and no thread heeds turns any more."""
    each = share(clock)
    each.stop()
    assert clock.getDelayedCalls() == []
    assert not each.turns
    assert not each.is_over


def test_only_where_turns_are_taken_they_end(clock, monkeypatch):
    """Threads take one call after the other else."""
    lock = Lock(monkeypatch)
    each = share(clock)
    each.turns = False
    each.begin()
    lock.now += 1
    assert not each.is_over
    each.turns = True
    assert each.is_over
    each.begin()
    assert not each.is_over


@pytest.mark.parametrize(
    ("waits", "comes", "done"),
    [
        ([SLICE / 2], True, True),
        ([CONTENTION] * 3, True, True),
        ([SLICE + CONTENDED / 2], False, True),
        ([CONTENTION, SLICE], False, True),
        ([CONTENTION] * ceil(LONGEST / CONTENTION), False, False),
    ],
    ids=["done at once", "done later", "waits for others", "waits for others later", "computes on and on"],
)
def test_the_reactor_waits_for_what_computes(clock, monkeypatch, waits, comes, done):
    """For LONGEST at most, and not at all for a call that has left the lock."""
    lock = Lock(monkeypatch, *waits, comes=comes)
    each = share(clock)
    assert each.let_compute(lock) is done
    assert lock.waits == []


class Turns(TestCase):
    """A pool whose threads take turns with the reactor."""

    timeout = 30

    def pool(self, threads: int) -> WorkerPool:
        pool = WorkerPool("workers", threads=threads, queue=100, reactor=reactor)
        pool._share.turns = True
        # They go on as long as the test does.
        pool._share.watch = lambda: None
        self.addCleanup(lambda: Deferred.fromCoroutine(pool.stop()))
        return pool

    async def test_calls_that_compute_run_one_after_the_other(self):
        """None gets in the way of another, or of the reactor, which has its turn in between."""
        running, most, turns, again = 0, 0, [], None

        def compute() -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            end = thread_time() + 2 * worker_share.TURN
            while thread_time() < end:
                sum(range(100))
            running -= 1

        def turn() -> None:
            turns.append(1)
            nonlocal again
            again = reactor.callLater(0, turn)

        pool = self.pool(threads=4)
        await pool.run(int)
        # However long the machine takes: how the reactor finds out that one computes is tested above.
        pool._share.let_compute = lambda done: done.acquire(timeout=20)
        reactor.callLater(0, turn)
        await gatherResults([pool.run(compute) for _ in range(10)])
        again.cancel()
        assert most == 1
        assert len(turns) >= 9, "one in each gap"

    async def test_calls_that_wait_for_others_run_beside_each_other(self):
        """As many as there are threads."""
        pool = self.pool(threads=4)
        together = threading.Barrier(4)
        await gatherResults([pool.run(together.wait, 20) for _ in range(8)])

    async def test_one_that_computes_for_long_holds_up_the_others_only(self):
        """The reactor reads and sends meanwhile; who comes next has the next turn."""
        seen = []

        def long() -> None:
            while not seen:
                sum(range(100))

        pool = self.pool(threads=2)
        first = pool.run(long)
        second = pool.run(int, "1")
        reactor.callLater(3 * LONGEST, seen.append, "the reactor")
        await first
        assert await second == 1

    async def test_they_are_taken_where_the_reactor_is_late(self):
        """A thread whose call has ended finds out that a result has not been taken for LATE."""
        pool = self.pool(threads=1)
        pool._share.turns = False
        # However long the machine takes: the first result is from the future.
        for late in (-1000, 2 * LATE):
            begun, go = threading.Event(), threading.Event()
            call = pool.run(lambda begun=begun, go=go: begun.set() or go.wait(20))
            await deferToThread(begun.wait, 20)
            # The reactor stands still from here on, as threads that compute have it do.
            pool.in_reactor(int)
            pool._since = monotonic() - late
            ended = pool.ended
            go.set()
            while pool.ended == ended or not pool._idle:
                sleep(0.001)  # noqa: ASYNC251  the reactor is to stand still
            assert pool._share.turns is (late > 0)
            await call

    async def test_who_computed_is_forgotten_with_the_turns(self):
        """Else the reactor would look for a free thread in every turn, while all wait for others."""
        pool = self.pool(threads=1)
        begun, go = threading.Event(), threading.Event()
        self.addCleanup(go.set)
        pool.submit(lambda: begun.set() or go.wait(20), "computes on and on")
        await deferToThread(begun.wait, 20)
        # The reactor has waited for it in vain, and then the turns ended.
        (pool._computing,) = pool._workers
        pool._share.turns = False
        waits = pool.run(int, "1")
        await deferLater(reactor, 0)
        assert not pool._handing_over
        go.set()
        assert await waits == 1

    async def test_all_that_waits_is_run_when_there_are_turns_no_more(self):
        """No call is forgotten at the change, either way."""
        pool = self.pool(threads=2)
        for each in (False, True, False):
            calls = [pool.run(int, str(number)) for number in range(40)]
            pool._share.turns = each
            assert await gatherResults(calls) == list(range(40))
