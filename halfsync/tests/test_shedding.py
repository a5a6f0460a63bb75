"""The queue of calls under more than can be done: which call is next, and which is not made."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from halfsync import deadline, worker_queue
from halfsync.worker_queue import INTERVAL, TARGET, CallQueue, Job


class Time:
    """A clock that the test moves on."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Call:
    """A call that notes that it was not made."""

    expired = False

    def __call__(self) -> None: ...

    def expire(self) -> None:
        self.expired = True


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(worker_queue, "monotonic", time)
    return time


@pytest.fixture
def queue(now: Time) -> CallQueue:
    return CallQueue(least=4, room=lambda: 4, timeout=10, reactor=Clock())


def add(queue: CallQueue, **how: object) -> Job:
    job = Job(Call(), "call", **how)
    assert queue.add(job, patient=False)
    return job


def take(queue: CallQueue) -> Job | None:
    return queue.take(lambda job: job.tell("expire"))


def overload(queue: CallQueue, now: Time) -> None:
    """Have calls wait for longer than they may, for long enough."""
    add(queue)
    for _ in range(10):
        now.now += TARGET * 1.1
        add(queue)
        take(queue)
    assert queue.shedding


def test_a_burst_is_served_in_order(queue, now):
    """What waits for a moment, however many, is no overload: first come, first served."""
    jobs = [add(queue) for _ in range(4)]
    now.now += INTERVAL * 0.9
    assert [take(queue) for _ in range(5)] == [*jobs, None]


def test_when_all_wait_too_long_the_newest_is_first(queue, now):
    """Those before it are told to go; none of them costs a thread."""
    overload(queue, now)
    late = [add(queue) for _ in range(2)]
    now.now += TARGET * 1.5
    newest = [add(queue), add(queue)]
    assert [take(queue), take(queue)] == newest[::-1]
    assert all(job.call.expired for job in late)
    assert not any(job.call.expired for job in newest)


def test_it_ends_when_nothing_waits(queue, now):
    """The next burst is served in order again."""
    overload(queue, now)
    while take(queue):
        pass
    assert not queue.shedding
    jobs = [add(queue), add(queue)]
    assert [take(queue), take(queue)] == jobs


def test_a_full_queue_gives_up_the_oldest(queue, now):
    """Under overload a newcomer has the better prospects."""
    overload(queue, now)
    while len(queue) < 4:
        add(queue)
    oldest = queue._jobs[0]
    newest = add(queue)
    assert oldest.call.expired
    assert take(queue) is newest


def test_critical_calls_are_first_and_have_places(queue):
    """Also when the queue is full of others, and there is a bound for them, too."""
    others = [add(queue) for _ in range(4)]
    critical = [add(queue, critical=True) for _ in range(4)]
    assert not queue.add(Job(Call(), "other"), patient=False)
    one_more = add(queue, critical=True)
    assert others[0].call.expired
    assert [take(queue) for _ in range(6)] == [*critical, one_more, others[1]]


def test_nobody_waits_for_an_answer_past_its_deadline(queue, now):
    """A call whose client has given up is not made."""
    dead, alive = add(queue, deadline=now.now + 1), add(queue, deadline=now.now + 3)
    now.now += 2
    assert take(queue) is alive
    assert dead.call.expired


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1.5", 101.5), ("0", 100), ("30", 130), (None, None), ("", None), ("-1", None), ("nan", None)],
)
def test_the_deadline_that_a_client_names(text, expected):
    """X-Request-Timeout is a number of seconds; what is none is ignored."""
    assert deadline.asked(text, lambda: 100.0) == expected
