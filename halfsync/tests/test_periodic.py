from __future__ import annotations

import threading

import pytest
from structlog.testing import capture_logs
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, DeferredList, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from halfsync import periodic
from halfsync.periodic import Periodic, TaskStoppedError
from halfsync.tasks import Tasks
from halfsync.testing import InlineWorkers
from halfsync.workers.pool import Busy


class Pool:
    """Threads that do what they are told when the test says so."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, Deferred[object]]] = []
        self.busy = False

    def run(self, fn):
        if self.busy:
            raise Busy
        deferred: Deferred[object] = Deferred()
        self.calls.append((fn, deferred))
        return deferred


class Work:
    """A coroutine function whose runs the test ends."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.began: list[float] = []
        self.open: list[Deferred[object]] = []
        self.at_once: object = None

    async def __call__(self) -> object:
        self.began.append(self.clock.seconds())
        if self.at_once is not None:
            return await self.at_once()
        self.open.append(Deferred())
        return await self.open[-1]


def started(clock, fn, interval=10.0, **options):
    task = Periodic("t", interval, fn, reactor=clock, **{"jitter": 0.0, **options})
    Deferred.fromCoroutine(task.start())
    return task


def test_a_blocking_task_beside_a_clock():
    """With workers that are inline it has run when the clock has gone on, in the test's own thread."""
    clock, ran = Clock(), []

    def report() -> None:
        ran.append(threading.get_ident())
        if len(ran) == 2:
            raise LookupError("no data")

    tasks = Tasks(Periodic("report", 60, report, reactor=clock, pool=InlineWorkers()))
    Deferred.fromCoroutine(tasks.start())
    task = tasks["report"]
    assert (task.runs, task.failures, task.last_error) == (1, 0, None)
    with capture_logs():
        clock.pump([60, 6])
    assert (task.runs, task.failures, task.last_error) == (2, 1, "LookupError: no data")
    assert set(ran) == {threading.get_ident()}


def failing(clock, errors=(True,) * 100):
    outcomes = iter(errors)
    work = Work(clock)

    async def run():
        if next(outcomes):
            raise ValueError("no luck")

    work.at_once = run
    return work


def quick(clock):
    work = Work(clock)
    work.at_once = lambda: succeed("done")
    return work


def advance(clock, seconds, step=0.25):
    clock.pump([step] * round(seconds / step))


def test_runs_lie_on_a_grid():
    """However long a run takes, the beats do not drift."""
    clock = Clock()
    work = Work(clock)
    task = started(clock, work)
    for length in (1.0, 3.0, 9.5, 0.25):
        clock.advance(length)
        work.open[-1].callback(None)
        advance(clock, 10 - length)
    assert work.began == [0, 10, 20, 30, 40]
    assert (task.runs, task.failures, task.skipped, task.busy) == (4, 0, 0, True)


def test_first_run_may_wait():
    """With now=False nothing runs before an interval has passed."""
    clock = Clock()
    work = quick(clock)
    task = started(clock, work, now=False)
    assert task.next_at == 10
    advance(clock, 21)
    assert work.began == [10, 20]


def test_slow_run_is_not_overlapped():
    """Beats during a run are counted and dropped, and the next run is on the grid again."""
    clock = Clock()
    work = Work(clock)
    task = started(clock, work)
    advance(clock, 35)
    assert (work.began, task.skipped) == ([0], 3)
    work.open[0].callback(None)
    advance(clock, 6)
    assert work.began == [0, 40]
    assert task.last_duration == 35


def test_errors_are_survived_with_backoff():
    """After n failures in a row 2**n intervals pass, 10 at most; a success ends that."""
    clock = Clock()
    work = failing(clock, [True] * 6 + [False] * 10)
    with capture_logs() as events:
        task = started(clock, work)
        advance(clock, 470)
    assert work.began == [0, 20, 60, 140, 240, 340, 440, 450, 460, 470]
    assert (task.runs, task.failures, task.skipped, task.last_error) == (10, 6, 0, None)
    failed = [event for event in events if event["event"] == "task.failed"]
    assert [event["in_a_row"] for event in failed] == [1, 2, 3, 4, 5, 6]
    assert failed[0]["failure"].check(ValueError)


@pytest.mark.parametrize(("interval", "longest"), [(100.0, 300.0), (400.0, 400.0)])
def test_backoff_is_bounded(interval, longest):
    """No pause is longer than 5 minutes, unless the interval is."""
    clock = Clock()
    work = failing(clock)
    started(clock, work, interval)
    advance(clock, interval * 40, 5)
    pauses = [after - before for before, after in zip(work.began, work.began[1:], strict=False)]
    assert max(pauses) == longest
    assert pauses[-1] == longest


def test_state_tells_the_next_run_in_backoff():
    """What is shown as the next run is the one that comes."""
    clock = Clock()
    work = failing(clock)
    task = started(clock, work)
    assert task.next_at == 20
    assert task.last_error == "ValueError: no luck"
    advance(clock, 20)
    assert work.began == [0, 20]
    assert task.next_at == 60


def test_jitter_is_bounded_and_does_not_add_up(monkeypatch):
    """Each run begins within its part of the interval after its beat; the first at once."""
    clock = Clock()
    work = quick(clock)
    draws = iter([0.0, 0.5, 0.99, 0.25])
    monkeypatch.setattr("random.random", lambda: next(draws))
    task = started(clock, work, jitter=0.2)
    advance(clock, 12, 0.01)
    advance(clock, 30, 0.01)
    assert work.began == pytest.approx([0, 10, 21, 31.98, 40.5], abs=0.02)
    assert task.skipped == 0


def test_next_run_is_the_delayed_one(monkeypatch):
    """While a run waits for its jitter, that is the next one."""
    clock = Clock()
    monkeypatch.setattr("random.random", lambda: 0.8)
    task = started(clock, quick(clock), jitter=0.5)
    clock.advance(10)
    assert task.next_at == 14


def test_plain_functions_run_in_the_pool():
    """A function that is no coroutine function is never called in the reactor's thread."""
    clock, pool = Clock(), Pool()
    called: list[str] = []

    def fn():
        called.append("yes")

    task = started(clock, fn, pool=pool)
    assert called == []
    [(call, deferred)] = pool.calls
    call()
    assert (called, call.__name__) == (["yes"], "fn")
    deferred.callback(None)
    assert (task.runs, task.failures) == (1, 0)


def test_a_full_pool_is_a_failure_like_another():
    """When no thread is free, the task tries again later."""
    clock, pool = Clock(), Pool()
    pool.busy = True
    task = started(clock, lambda: None, pool=pool)
    assert task.failures == 1
    pool.busy = False
    advance(clock, 20)
    assert len(pool.calls) == 1


def test_function_with_a_deferred_is_told_apart():
    """A function that returns something to wait for must be a coroutine function."""
    clock, pool = Clock(), Pool()
    started(clock, Deferred, pool=pool)
    with pytest.raises(TypeError, match="async def"):
        pool.calls[0][0]()


def test_run_now_joins_a_run():
    """Asking for a run while one goes on waits for that one."""
    clock = Clock()
    work = Work(clock)
    task = started(clock, work)
    results: list[object] = []
    task.run_now().addCallback(results.append)
    task.run_now().addCallback(results.append)
    assert work.began == [0]
    work.open[0].callback("answer")
    assert results == ["answer", "answer"]


def test_run_now_runs_between_the_beats():
    """It runs at once, in backoff too, and the beats stay where they were."""
    clock = Clock()
    work = failing(clock, [True, False, False])
    task = started(clock, work)
    clock.advance(3)
    done = task.run_now()
    assert done.called
    assert work.began == [0, 3]
    advance(clock, 7)
    assert work.began == [0, 3, 10]


def test_run_now_tells_the_error():
    """Who asked for the run gets what it raised; the task goes on."""
    clock = Clock()
    task = started(clock, failing(clock), now=False)
    errors: list[object] = []
    task.run_now().addErrback(errors.append)
    assert errors[0].check(ValueError)
    assert task.failures == 1


def test_giving_up_on_run_now_leaves_the_run():
    """Cancelling what run_now returned does not cancel the run."""
    clock = Clock()
    work = Work(clock)
    task = started(clock, work)
    asked = task.run_now()
    errors: list[object] = []
    asked.addErrback(errors.append)
    asked.cancel()
    assert errors[0].check(CancelledError)
    assert task.busy
    work.open[0].callback(None)
    assert (task.runs, task.failures) == (1, 0)


def test_drain_waits_for_the_run():
    """No run begins any more, and the drain ends with the one that goes on."""
    clock = Clock()
    work = Work(clock)
    task = started(clock, work)
    drained = Deferred.fromCoroutine(task.drain())
    assert not drained.called
    advance(clock, 30)
    assert work.began == [0]
    work.open[0].callback(None)
    assert drained.called
    assert task.next_at is None
    assert clock.getDelayedCalls() == []
    errors: list[object] = []
    task.run_now().addErrback(errors.append)
    assert errors[0].check(TaskStoppedError)


def test_drain_outlives_a_failing_run():
    """A run that fails ends the drain as well as one that does not."""
    clock = Clock()
    work = Work(clock)
    task = started(clock, work)
    drained = Deferred.fromCoroutine(task.drain())
    work.open[0].errback(ValueError("late"))
    assert drained.called
    assert task.failures == 1


def test_a_drain_that_is_cut_says_so():
    """At the deadline the drain fails, the run goes on until stop cancels it, and nothing is left."""
    clock = Clock()
    work = Work(clock)
    task = started(clock, work)
    tasks = Tasks(task)
    errors: list[object] = []
    drained = Deferred.fromCoroutine(tasks.drain()).addErrback(errors.append)
    drained.cancel()
    assert errors[0].check(CancelledError)
    assert task.busy
    with capture_logs() as events:
        assert Deferred.fromCoroutine(tasks.stop()).called
    assert [event["event"] for event in events] == ["task.cancelled"]
    assert (task.busy, clock.getDelayedCalls()) == (False, [])


def test_a_run_that_is_cancelled_is_told_as_that_whatever_it_says():
    """What it awaits may have its own error for that, as a look-up of a name has."""
    clock = Clock()

    async def look_up():
        try:
            await Deferred()
        except CancelledError:
            raise LookupError("there is no such name") from None

    task = started(clock, look_up)
    assert task.busy
    with capture_logs() as events:
        assert Deferred.fromCoroutine(task.stop()).called
    (event,) = events
    assert (event["event"], event["log_level"]) == ("task.cancelled", "warning")
    assert event["error"] == "LookupError: there is no such name"


def test_stop_drops_a_run_that_waits_for_its_jitter(monkeypatch):
    """A run that has not begun does not begin."""
    clock = Clock()
    work = quick(clock)
    monkeypatch.setattr("random.random", lambda: 0.9)
    task = started(clock, work, jitter=0.5)
    clock.advance(10)
    Deferred.fromCoroutine(task.stop())
    assert clock.getDelayedCalls() == []
    assert work.began == [0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"interval": 0}, "above 0"),
        ({"interval": float("inf")}, "above 0"),
        ({"jitter": 1.5}, "part of 1"),
        ({"jitter": -1}, "part"),
    ],
)
def test_nonsense_is_refused(options, said):
    """An interval that is none, or a jitter beyond the interval, is an error where it is written."""
    with pytest.raises(ValueError, match=said):
        started(Clock(), lambda: None, **options)


def test_container_finds_and_refuses():
    """Tasks are found by name, and no two have the same."""
    clock = Clock()
    one = Periodic("one", 1, quick(clock), reactor=clock)
    tasks = Tasks(one, Periodic("two", 1, quick(clock), reactor=clock))
    assert tasks["one"] is one
    assert [task.label for task in tasks] == ["one", "two"]
    assert tasks.label == "tasks"
    assert tasks.tasks() == [one, tasks["two"]]
    with pytest.raises(ValueError, match="one name"):
        Tasks(one, one)


def test_snapshot_is_for_people():
    """Times are those of the calendar, whatever the reactor's clock counts from."""
    clock = Clock()
    task = started(clock, quick(clock))
    state = task.snapshot()
    assert state["next_at"] - state["last_started"] == pytest.approx(10, abs=1)
    assert state["runs"] == 1
    assert state["running"] is False


class ThreadTests(TestCase):
    """The blocking variant with real threads."""

    async def test_thread_of_its_own(self):
        """Without a pool a plain function gets one thread, which is gone after the stop."""
        names: list[str] = []

        def fn():
            names.append(threading.current_thread().name)
            return len(names)

        task = Periodic("disk", 60, fn, reactor=reactor, now=False)
        await task.start()
        assert await task.run_now() == 1
        assert await task.run_now() == 2
        assert names == ["task-disk-1", "task-disk-1"]
        await task.drain()
        await task.stop()

    async def test_blocked_thread_does_not_hold_the_stop(self):
        """A function that never returns is left behind, and its late result is nobody's."""
        inside, release = threading.Event(), threading.Event()

        def fn():
            inside.set()
            release.wait(10)

        task = Periodic("stuck", 60, fn, reactor=reactor)
        await task.start()
        assert inside.wait(5)
        assert "fn" in str([each.label for each in Tasks(task).workers()])
        await task.stop()
        assert not task.busy
        release.set()

    async def test_tasks_drain_all_at_once(self):
        """The drain of the container takes as long as its slowest run."""
        clock = Clock()
        works = [Work(clock), Work(clock)]
        tasks = Tasks(*(Periodic(str(i), 10, work, reactor=clock) for i, work in enumerate(works)))
        await tasks.start()
        drained = Deferred.fromCoroutine(tasks.drain())
        works[1].open[0].callback(None)
        assert not drained.called
        works[0].open[0].callback(None)
        await DeferredList([drained])
        await tasks.stop()


def test_a_critical_task_decides_whether_the_process_is_ready():
    """Not before it has succeeded, not after it has failed, and not while a run does not end."""
    clock = Clock()
    outcomes: list[Deferred[None]] = []

    async def check():
        outcomes.append(Deferred())
        await outcomes[-1]

    tasks = Tasks(Periodic("check", 10, check, critical=True, jitter=0, reactor=clock))
    Deferred.fromCoroutine(tasks.start())
    assert tasks.problems() == ["check: no run has ended yet"]
    outcomes[-1].callback(None)
    assert tasks.problems() == []
    clock.advance(10)
    with capture_logs():
        outcomes[-1].errback(ValueError("no database"))
    assert tasks.problems() == ["check: the last run failed: ValueError: no database"]
    while len(outcomes) < 3:
        clock.advance(10)
    outcomes[-1].callback(None)
    assert tasks.problems() == []
    while len(outcomes) < 4:
        clock.advance(10)
    clock.advance(30)
    assert tasks.problems() == []
    clock.advance(1)
    assert tasks.problems() == ["check: a run has gone on for 31 s"]


def test_a_task_that_is_not_critical_is_no_problem():
    clock = Clock()

    async def fail():
        raise ValueError

    tasks = Tasks(Periodic("sweep", 10, fail, reactor=clock))
    with capture_logs():
        Deferred.fromCoroutine(tasks.start())
    assert tasks.problems() == []


def test_a_run_that_takes_too_long_has_failed():
    """It is cancelled, and counts as failed; one that a drain cancels is still told as that."""
    clock = Clock()

    async def hang():
        await Deferred()

    task = Periodic("hang", 10, hang, critical=True, timeout=2, reactor=clock)
    with capture_logs():
        Deferred.fromCoroutine(task.start())
        clock.advance(2)
    assert (task.busy, task.failures) == (False, 1)
    assert task.last_error == "TimeoutError: the run took longer than 2 s"
    with pytest.raises(ValueError, match="timeout of the task x is 0"):
        Periodic("x", 1, hang, timeout=0, reactor=clock)
    assert Periodic("x", 1, hang, timeout=0.5, reactor=clock).interval == 1


def test_a_success_ends_the_longer_waits():
    """After it, the next failure is the first of its row again: two intervals, and not eight."""
    clock = Clock()
    work = failing(clock, (True, True, False, True, *[False] * 20))
    with capture_logs() as logs:
        started(clock, work)
        advance(clock, 100)
    assert [each["in_a_row"] for each in logs if each["event"] == "task.failed"] == [1, 2, 1]
    assert work.began[:5] == [0, 20, 60, 70, 90]


def test_when_a_task_runs_next_is_told_by_the_clock_on_the_wall(monkeypatch):
    """The reactor's seconds, whose zero means nothing, are told to nobody."""
    monkeypatch.setattr(periodic.time, "time", lambda: 1_000_000.0)
    clock = Clock()
    clock.advance(500)
    task = started(clock, quick(clock))
    clock.advance(4)
    assert task.snapshot()["next_at"] == 1_000_006.0
