"""The pool of threads: bounded, honest about what holds it, and never in the way of the exit."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextvars import ContextVar
from math import inf
from pathlib import Path
from time import time
from unittest import mock

import pytest
from structlog.testing import capture_logs
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

import halfsync
from halfsync.workers import queue as worker_queue
from halfsync.workers import threads as worker_threads
from halfsync.workers.pool import Busy, WorkerPool

SOURCE = Path(halfsync.__file__).parent.parent


class Gate:
    """A call that has begun, and ends when it is told to."""

    def __init__(self):
        self.begun = threading.Event()
        self.go = threading.Event()

    def __call__(self):
        self.begun.set()
        self.go.wait(10)


class WorkersTest(TestCase):
    """The promises of WorkerPool."""

    timeout = 100

    def pool(self, threads=2, queue=1) -> WorkerPool:
        pool = WorkerPool("workers", threads=threads, queue=queue, reactor=reactor)
        self.addCleanup(lambda: Deferred.fromCoroutine(pool.stop()))
        return pool

    def hold(self, pool: WorkerPool, label="held") -> Gate:
        gate = Gate()
        self.addCleanup(gate.go.set)
        pool.submit(gate, label)
        return gate

    async def test_run_returns_what_the_function_returns(self):
        """A call's result comes back in the reactor's thread; the call was made in another one."""
        ident = await self.pool().run(threading.get_ident)
        assert ident != threading.get_ident()

    async def test_run_fails_with_what_the_function_raises(self):
        """An error of the call, SystemExit included, is the Deferred's failure."""
        pool = self.pool()
        with pytest.raises(ValueError, match="invalid literal"):
            await pool.run(int, "x")
        with pytest.raises(SystemExit):
            await pool.run(sys.exit, 1)
        assert await pool.run(int, "1") == 1

    async def test_answers_that_lead_to_new_calls_keep_the_reactor_from_nothing(self):
        """Pipelined requests do: the reactor does other things between two calls, once it has had enough."""
        self.patch(worker_threads, "LONGEST", 0)
        pool, ended, turns = self.pool(), Deferred(), 0

        def turn() -> None:
            nonlocal turns
            turns += 1
            if not ended.called:
                reactor.callLater(0, turn)

        def call(left: int) -> None:
            if left:
                pool.run(int).addCallback(lambda _: call(left - 1))
            else:
                ended.callback(None)

        turn()
        call(200)
        await ended
        assert turns >= 200

    async def test_a_thread_survives_what_a_job_raises(self):
        """An error of a submitted call is logged with its label, and its thread goes on."""
        pool = self.pool(threads=1)

        def fail():
            raise RuntimeError("broken")

        with capture_logs() as logs:
            pool.submit(fail, "the failing one")
            before = await pool.run(threading.get_ident)
        assert logs[0]["event"] == "workers.call_failed"
        assert logs[0]["label"] == "the failing one"
        assert await pool.run(threading.get_ident) == before

    async def test_threads_start_on_demand_and_are_daemons(self):
        """There is no thread before there is work, never one too many, and none that the exit waits for."""
        pool = self.pool(threads=2, queue=5)
        assert pool.workers() == []
        gates = [self.hold(pool) for _ in range(4)]
        await deferToThread(gates[1].begun.wait, 10)
        held = {holder.ident for holder in pool.workers()}
        assert len(held) == 2
        assert all(thread.daemon for thread in threading.enumerate() if thread.ident in held)

    async def test_busy_beyond_threads_and_queue(self):
        """What neither a thread nor the queue can take is refused at once, and taken again later."""
        pool = self.pool(threads=1, queue=1)
        first, second = self.hold(pool), self.hold(pool)
        with pytest.raises(Busy) as refusal:
            self.hold(pool)
        assert refusal.value.retry_after >= 1
        assert pool.refused == 1
        first.go.set()
        await deferToThread(second.begun.wait, 10)
        third = self.hold(pool)
        second.go.set()
        await deferToThread(third.begun.wait, 10)

    async def test_holders_say_who_holds_a_thread(self):
        """A held thread shows its label, made only when it is asked for, and since when; an idle one none."""
        pool = self.pool(threads=1, queue=1)
        gate = self.hold(pool, lambda: "GET /slow")
        self.hold(pool).go.set()
        await deferToThread(gate.begun.wait, 10)
        (holder,) = pool.workers()
        assert holder.label == "GET /slow"
        assert holder.since is not None
        assert holder.thread == "workers-1"
        assert (pool.busy, pool.waiting) == (1, 1)
        gate.go.set()
        await pool.drain()
        assert [(each.label, each.since) for each in pool.workers()] == [(None, None)]
        assert (pool.busy, pool.waiting) == (0, 0)

    async def test_drain_waits_for_what_runs_and_what_waits(self):
        """A drain is over when all that was accepted is done, and at once when there is nothing."""
        pool = self.pool(threads=1, queue=2)
        await pool.drain()
        first, second = self.hold(pool), self.hold(pool)
        drained = Deferred.fromCoroutine(pool.drain())
        first.go.set()
        await deferToThread(second.begun.wait, 10)
        assert not drained.called
        second.go.set()
        await drained

    async def test_drain_waits_for_a_call_behind_which_nothing_waits(self):
        """One that runs is enough."""
        pool = self.pool()
        gate = self.hold(pool)
        drained = Deferred.fromCoroutine(pool.drain())
        assert not drained.called
        gate.go.set()
        await drained
        assert not pool.busy

    def test_when_to_try_again(self):
        """As long as calls wait, 10 s at most, and up to 2 s more at random: not the same for all clients."""
        pool = self.pool()
        for waited, soonest in ((0.0, 1), (0.9, 1), (4.7, 5), (10.0, 11), (500.0, 11)):
            with mock.patch.object(worker_queue.CallQueue, "oldest", return_value=waited):
                told = {pool.retry_after() for _ in range(200)}
            assert told == {soonest, soonest + 1, soonest + 2}

    async def test_what_will_have_a_thread_takes_no_place_of_those_that_wait(self):
        """Whether the threads are there or not: beside two threads one waits, and the next is refused."""
        pool = self.pool(threads=2, queue=1)
        for _ in range(2):
            gates = [self.hold(pool) for _ in range(3)]
            with pytest.raises(Busy):
                self.hold(pool)
            for gate in gates:
                gate.go.set()
            await pool.drain()

    async def test_one_call_after_the_other_needs_no_queue(self):
        """Who has the result may ask for the next call at once: the thread was free before it came."""
        pool = self.pool(threads=1, queue=0)

        class SlowToEnd:
            def run(self, call):
                call()
                threading.Event().wait(0.05)

        with mock.patch.object(worker_threads, "copy_context", SlowToEnd):
            assert [await pool.run(abs, number) for number in range(3)] == [0, 1, 2]

    async def test_a_thread_that_has_not_come_to_its_call_yet_is_a_place(self):
        """Threads take a while to run: as many calls are taken as there are threads and places."""
        slow, go = threading.Event(), threading.Event()
        self.addCleanup(go.set)
        pool = self.pool(threads=2, queue=1)
        taking = pool._jobs.take

        def take(expired):
            slow.set()
            go.wait(10)
            return taking(expired)

        with mock.patch.object(pool._jobs, "take", take):
            first = pool.run(abs, -1)
            await deferToThread(slow.wait, 10)
            others = [pool.run(abs, -2), pool.run(abs, -3)]
            with pytest.raises(Busy):
                await pool.run(abs, -4)
            go.set()
            assert [await each for each in (first, *others)] == [1, 2, 3]

    async def test_a_drain_overlooks_no_call_that_a_thread_has_just_taken(self):
        """It waits no more in the queue, and the thread does not say yet that it holds it."""
        taken, go = threading.Event(), threading.Event()
        self.addCleanup(go.set)
        pool = self.pool(threads=1)
        taking = pool._jobs.take

        def take(expired):
            job = taking(expired)
            taken.set()
            go.wait(10)
            return job

        with mock.patch.object(pool._jobs, "take", take):
            result = pool.run(abs, -1)
            await deferToThread(taken.wait, 10)
            assert (pool.waiting, pool.busy) == (0, 0)
            drained = Deferred.fromCoroutine(pool.drain())
            assert not drained.called
            go.set()
            await drained
            assert await result == 1

    async def test_a_drain_ends_when_the_last_that_waits_is_not_made(self):
        """No call ends behind it, by which the end would be noticed."""
        pool = self.pool(threads=1)
        assert await pool.run(abs, -1) == 1
        await pool.drain()
        pool.submit(self.fail, "never", deadline=0.0)
        drained = Deferred.fromCoroutine(pool.drain())
        assert not drained.called
        await drained

    async def test_a_call_that_gets_on_may_get_stuck_all_the_same(self):
        """It has the time of its last step; only one that says that it waits for its client has none."""
        pool = self.pool(threads=1)

        def step(*, waiting: bool | None = None) -> float:
            pool.progress(**({} if waiting is None else {"waiting": waiting}))
            return pool._workers[0].progressed

        before = time()
        assert before <= await pool.run(step) <= time()
        assert await pool.run(step, waiting=True) == inf

    def test_what_need_not_be_done_any_more_is_counted(self):
        """A call whose client left while it waited is one that was not made."""
        pool = self.pool()
        pool.skipped()
        (counted,) = [each for each in pool.metrics() if each.name == "workers_refused"]
        told = {sample.labels["reason"]: sample.value for sample in counted.samples}
        assert (pool.refused, told["left"]) == (1, 1)

    def test_a_call_is_critical_only_when_it_is_said(self):
        """Others would go before it in vain."""
        for given, critical in (({}, False), ({"critical": True}, True)):
            with (
                mock.patch.object(worker_queue.CallQueue, "add", return_value=False) as add,
                pytest.raises(Busy),
            ):
                self.pool().submit(int, "a call", **given)
            assert add.call_args.args[0].critical is critical

    def test_each_thread_may_have_a_file_open(self):
        """So the pool's share of the open files is as large as it is."""
        assert self.pool(threads=3).open_files() == 3

    async def test_where_no_thread_can_be_had(self):
        """The system's refusal is Busy, and leaves no call behind that would be made later."""
        pool = self.pool()
        with mock.patch.object(worker_threads.Thread, "start", side_effect=RuntimeError("no more threads")):
            with pytest.raises(Busy), capture_logs():
                pool.submit(self.fail, "never")
            assert (pool.waiting, pool.refused) == (0, 1)
        assert await pool.run(lambda: "once there is one") == "once there is one"

    async def test_stop_discards_what_waits(self):
        """Stopping makes no more calls: their Deferreds fail, and new ones are refused."""
        pool = self.pool(threads=1, queue=2)
        gate = self.hold(pool)
        await deferToThread(gate.begun.wait, 10)
        waiting = pool.run(int)
        await pool.stop()
        with pytest.raises(CancelledError):
            await waiting
        with pytest.raises(Busy):
            pool.submit(int, "late")
        gate.go.set()

    async def test_results_arrive_in_order_with_one_wake_up(self):
        """What threads hand to the reactor keeps its order, and an error in one does not lose the next."""
        pool = self.pool()
        got: list[int] = []
        done: Deferred[None] = Deferred()

        def work():
            for number in range(3):
                pool.in_reactor(got.append, number)
            pool.in_reactor(int, "x")
            pool.in_reactor(done.callback, None)

        with capture_logs() as logs:
            pool.submit(work, "work")
            await done
        assert got == [0, 1, 2]
        assert [each["event"] for each in logs] == ["workers.result_failed"]

    async def test_context_variables_stay_with_their_call(self):
        """A call sees its caller's context, and leaves nothing of its own to the thread's next call."""
        pool = self.pool(threads=1)
        variable = ContextVar("variable", default="none")
        seen: list[str] = []
        pool.submit(lambda: variable.set("leaked"), "first")
        pool.submit(lambda: seen.append(variable.get()), "second")
        await pool.drain()
        token = variable.set("caller's")
        seen.append(await pool.run(variable.get))
        variable.reset(token)
        assert seen == ["none", "caller's"]


def test_a_blocked_thread_does_not_hold_up_the_exit():
    """A process ends although a call never returns."""
    program = """
import threading
from twisted.internet import reactor
from halfsync.workers.pool import WorkerPool
pool = WorkerPool("workers", threads=1, queue=0, reactor=reactor)
begun = threading.Event()
def block():
    begun.set()
    threading.Event().wait()
reactor.callWhenRunning(pool.submit, block, "for ever")
reactor.callWhenRunning(lambda: (begun.wait(10), reactor.stop()))
reactor.run()
print("over")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=SOURCE, capture_output=True, text=True, timeout=20, check=True
    )
    assert done.stdout == "over\n"
