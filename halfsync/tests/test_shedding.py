"""The queue of calls under more than can be done: which call is next, and which is not made."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs
from twisted.internet.task import Clock

from halfsync.workers import lines as worker_lines
from halfsync.workers import queue as worker_queue
from halfsync.workers import refusals as worker_refusals
from halfsync.workers.lines import INTERVAL, TARGET, Job
from halfsync.workers.queue import SOON, CallQueue


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
    for module in (worker_lines, worker_queue, worker_refusals):
        monkeypatch.setattr(module, "monotonic", time)
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
    oldest = next(iter(queue._lines)).jobs[0]
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


class Asked(Call):
    """A call of some client."""

    def __init__(self, client: str | None) -> None:
        self.client = client

    def share(self) -> str | None:
        return self.client


class TestShares:
    """Who gets how much of what can be done, while that is not enough for all."""

    def serve(self, queue: CallQueue, now: Time, clients: dict[str, int], seconds: int) -> dict[str, int]:
        """Have each client ask so many times a second, where 40 calls a second can be made; count them."""
        made = dict.fromkeys(clients, 0)
        for tick in range(seconds * 40):
            now.now += 1 / 40
            for client, rate in clients.items():
                for _ in range(rate * (tick + 1) // 40 - rate * tick // 40):
                    queue.add(Job(Asked(client), client), patient=True)
            job = take(queue)
            if job is not None:
                made[job.call.client] += 1
        return made

    def test_a_client_that_asks_for_little_gets_it(self, queue, now):
        """While another asks for ten times what can be done; and nothing is left unused."""
        self.serve(queue, now, {"little": 8, "much": 400}, 3)
        assert queue.shedding
        made = self.serve(queue, now, {"little": 8, "much": 400}, 10)
        assert made["little"] >= 80 * 0.9
        assert sum(made.values()) >= 400 * 0.95

    def test_those_that_ask_for_too_much_get_the_same(self, queue, now):
        """However much more one of them asks for."""
        self.serve(queue, now, {"two": 80, "ten": 400}, 3)
        made = self.serve(queue, now, {"two": 80, "ten": 400}, 10)
        assert made["two"] >= 200 * 0.8
        assert sum(made.values()) >= 400 * 0.95

    def test_a_client_alone_has_all(self, queue, now):
        """There is nobody to share with."""
        assert self.serve(queue, now, {"one": 400}, 5)["one"] >= 200 * 0.95

    def test_clients_take_turns_before_anything_is_too_late(self, queue, now):
        """Of one that asks for much at once, the first goes before another's; then they take turns."""
        queue = CallQueue(least=100, room=lambda: 100, timeout=10, reactor=Clock(), at_hand=2)
        for _ in range(20):
            queue.add(Job(Asked("much"), ""), patient=False)
        for client in ("little", "other"):
            queue.add(Job(Asked(client), ""), patient=False)
        order = []
        while job := take(queue):
            order.append(job.call.client)
            now.now += 2 * SOON
        assert order[:5] == ["much", "much", "much", "little", "other"]
        assert order[5:] == ["much"] * 17

    def test_clients_are_not_told_apart_while_nobody_waits_for_long(self, queue, now):
        """It makes no difference then, and would cost each call two microseconds."""
        queue = CallQueue(least=100, room=lambda: 100, timeout=10, reactor=Clock(), at_hand=2)
        asked = ["much"] * 20 + ["little"]
        for client in asked:
            queue.add(Job(Asked(client), ""), patient=False)
        assert [take(queue).call.client for _ in asked] == asked

    def test_clients_are_told_apart_once_one_waits_for_long(self, queue, now):
        """Whether that is found when one more asks, or when a thread takes a call."""
        queue = CallQueue(least=100, room=lambda: 100, timeout=10, reactor=Clock(), at_hand=2)
        for _ in range(20):
            queue.add(Job(Asked("much"), ""), patient=False)
        now.now += 2 * SOON
        queue.add(Job(Asked("little"), ""), patient=False)
        assert [take(queue).call.client for _ in range(2)] == ["much", "little"]

    def test_the_calls_of_a_client_stay_in_order(self, queue, now):
        """Whatever others ask."""
        queue = CallQueue(least=100, room=lambda: 100, timeout=10, reactor=Clock(), at_hand=2)
        jobs = [Job(Asked("ab"[each % 2]), "") for each in range(20)]
        for each in jobs:
            queue.add(each, patient=False)
        taken = [take(queue) for _ in jobs]
        for client in "ab":
            own = [each for each in taken if each.call.client == client]
            assert own == [each for each in jobs if each.call.client == client]

    def test_many_clients_that_ask_once_each(self, queue, now):
        """More than can be done, by nobody in particular: what is made has not waited for long."""
        queue = CallQueue(least=64, room=lambda: 64, timeout=10, reactor=Clock(), at_hand=2)
        waits, number = [], 0
        for _ in range(400):
            now.now += 1 / 40
            for _ in range(5):
                number += 1
                queue.add(Job(Asked(str(number)), ""), patient=True)
            job = take(queue)
            if job is not None:
                waits.append(now.now - job.since)
        assert len(waits) >= 400 * 0.95
        assert max(waits[100:]) <= TARGET

    def test_a_full_queue_has_a_place_for_another_client(self, queue, now):
        """At the cost of the one with most calls, once the queue has not moved for a while."""
        clock = Clock()
        queue = CallQueue(least=8, room=lambda: 8, timeout=10, reactor=clock, at_hand=2)
        much = [Job(Asked("much"), "") for _ in range(8)]
        for each in much:
            assert queue.add(each, patient=True)
        little = Job(Asked("little"), "")
        assert queue.add(little, patient=True)
        clock.advance(1)
        assert queue.refusals.counts == {"full": 1}
        assert much[-1].call.expired
        assert not little.call.expired


def test_what_is_not_made_is_counted_by_its_reason(queue, now):
    """And told once a second at most, with all that came since."""
    with capture_logs() as logs:
        add(queue, deadline=now.now + 0.1)
        now.now += 5
        take(queue)
        add(queue)
        now.now += 11
        take(queue)
        for _ in range(4):
            add(queue)
        assert not queue.add(Job(Call(), "one more"), patient=False)
    assert queue.refusals.counts == {"deadline": 1, "timeout": 1, "full": 1}
    assert queue.refused == 3
    assert [(each["event"], each["reasons"]) for each in logs] == [
        ("workers.refused", {"deadline": 1}),
        ("workers.refused", {"timeout": 1}),
    ]
