from __future__ import annotations

import re
import threading

import pytest
from structlog.contextvars import bound_contextvars, get_contextvars
from structlog.testing import capture_logs
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from halfsync.life.about import About
from halfsync.life.dump import Dumps, dump, work
from halfsync.life.facts import OpenConnection, RunningRequest, WorkerThread
from halfsync.life.parts import Part
from halfsync.life.process import Process
from halfsync.life.stacks import thread_stacks
from halfsync.periodic import Periodic
from halfsync.tasks import Tasks
from halfsync.workers.pool import WorkerPool

ABOUT = About(name="hello", package="hello", version="1", summary="")


def test_every_thread_is_shown_where_it_is():
    """The main thread comes first, and a thread that waits is seen waiting."""
    inside, release = threading.Event(), threading.Event()

    def wait_for_release():
        inside.set()
        release.wait(10)

    thread = threading.Thread(target=wait_for_release, name="waiter", daemon=True)
    thread.start()
    assert inside.wait(10)
    stacks = thread_stacks()
    release.set()
    thread.join()
    assert stacks[0].name == "MainThread"
    assert any("test_every_thread_is_shown_where_it_is" in line for line in stacks[0].frames)
    # Files as they are imported: the folder of a pex alone is wider than a terminal.
    assert any(re.match(r"_pytest/python\.py:\d+ \w+: ", line) for line in stacks[0].frames)
    [waiter] = [stack for stack in stacks if stack.name == "waiter"]
    assert (waiter.ident, waiter.daemon) == (thread.ident, True)
    assert any("wait_for_release: release.wait(10)" in line for line in waiter.frames)


def test_a_process_without_parts_has_nothing():
    """Nothing is assumed of a process."""
    process = Process(ABOUT, Clock())
    process.add(Part("bare"))
    assert (process.workers(), process.tasks()) == ({}, {})
    assert (process.requests(), process.connections(), process.metrics()) == ([], [], [])


def test_what_nobody_knows_of_a_connection_is_nothing():
    """A protocol need not note when it was opened, what was asked and what it holds."""
    assert OpenConnection("web", "10.0.0.1:5") == OpenConnection(
        "web", "10.0.0.1:5", age=None, asked=None, at="", idle=None, unsent=0, memory=0, disk=0
    )


class Busy(Part):
    """A part with requests, threads and tasks of its own making."""

    asked = 0

    def __init__(self):
        super().__init__("busy")
        self.on_asked = lambda: None
        self.found = []
        self.threads = []
        self.periodic = []

    def requests(self):
        """Return what was put here, after whatever is to happen then."""
        self.asked += 1
        self.on_asked()
        return self.found

    def workers(self):
        """Return what was put here."""
        return self.threads

    def tasks(self):
        """Return what was put here."""
        return self.periodic


@pytest.fixture
def busy():
    """A process with such a part, at second 100."""
    clock = Clock()
    clock.advance(100)
    process = Process(ABOUT, clock)
    part = process.add(Busy())
    part.process = process
    return part


def test_a_dump_that_comes_into_another_makes_that_one_more(busy):
    """Two signals that come during a dump are one more, whole, after it; the one after that is by itself."""
    dumps = Dumps(busy.process)

    def signal_comes():
        if busy.asked == 1:
            dumps.dump(None)
            dumps.dump(None)
            assert busy.asked == 1

    busy.on_asked = signal_comes
    with capture_logs() as events:
        dumps.dump(None)
        assert busy.asked == 2
        dumps.dump(None)
    assert busy.asked == 3
    assert [event.get("thread") for event in events].count("MainThread") == 3


def test_a_dump_that_fails_does_not_end_all_dumps(busy):
    """A part's bug is told, whatever it is, and not raised in what was interrupted; the next is answered."""
    dumps = Dumps(busy.process)
    busy.found = [None]
    with capture_logs() as events:
        dumps.dump(None)
    assert events[-1]["event"] == "stacks.failed"
    busy.found = []
    with capture_logs() as events:
        dumps.dump(None)
    assert any(event["event"] == "stacks.thread" for event in events)


def test_a_dump_has_no_part_in_what_it_interrupts(busy):
    """The context of the interrupted code, a request's name for one, is not on every line of it."""
    seen = []
    busy.on_asked = lambda: seen.append(get_contextvars())
    with bound_contextvars(request_id="r1"), capture_logs():
        Dumps(busy.process).dump(None)
        assert get_contextvars() == {"request_id": "r1"}
    assert seen == [{}]


def test_requests_are_dumped_with_their_age(busy):
    """Each with what is known of it; when it came, in the reactor's seconds, says nothing to a person."""
    busy.found = [RunningRequest("web", "GET", "/slow", "10.0.0.1:5", 98.5, "web-1", "r1")]
    with capture_logs() as events:
        dump(busy.process)
    (request,) = (event for event in events if event["event"] == "stacks.request")
    assert request == {
        "event": "stacks.request",
        "log_level": "info",
        "age": 1.5,
        "part": "web",
        "method": "GET",
        "path": "/slow",
        "peer": "10.0.0.1:5",
        "thread": "web-1",
        "request_id": "r1",
    }


def test_one_event_names_the_oldest_of_what_goes_on(busy):
    """Ten requests, ten calls, and the tasks that run: an event is no list of everything."""
    busy.found = [RunningRequest("web", "GET", f"/{since}", "p", float(since)) for since in range(20, 0, -1)]
    busy.threads = [
        WorkerThread(f"web-{began}", began, f"GET /{began}", float(began)) for began in range(20, 0, -1)
    ]
    busy.threads += [WorkerThread("idle", 99, None, None), WorkerThread("new", 98, "GET /new", None)]

    async def hang():
        await Deferred()

    busy.periodic = [Periodic(name, 10, hang, reactor=Clock()) for name in ("idle", "runs")]
    runs = busy.periodic[1].run_now()
    found = work(busy.process)
    assert found["requests"] == [f"GET /{since} ({100 - since:.1f} s)" for since in range(1, 11)]
    # One that has no time yet is first: nobody knows how old it is.
    assert found["calls"] == ["new: GET /new", *(f"web-{began}: GET /{began}" for began in range(1, 10))]
    assert found["tasks"] == ["runs"]
    assert not runs.called


class DumpTests(TestCase):
    """With a real worker thread."""

    async def test_dump_names_what_holds_each_thread(self):
        """Each thread is an event with its stack and what it works on; each task is an event."""
        process = Process(ABOUT, reactor)
        pool = process.add(WorkerPool("workers", threads=1, queue=0, reactor=reactor))
        process.add(Tasks(Periodic("tick", 60, lambda: None, reactor=reactor, now=False)))
        inside, release = threading.Event(), threading.Event()

        def block():
            inside.set()
            release.wait(10)

        pool.submit(block, "GET /slow")
        assert inside.wait(10)
        with capture_logs() as events:
            dump(process)
        release.set()
        await pool.drain()
        await process.close()
        [held] = [event for event in events if event.get("holds")]
        assert (held["event"], held["holds"], held["thread"]) == ("stacks.thread", "GET /slow", "workers-1")
        assert any("release.wait(10)" in line for line in held["stack"])
        [task] = [event for event in events if event["event"] == "stacks.task"]
        assert (task["task"], task["runs"], task["running"]) == ("tick", 0, False)
