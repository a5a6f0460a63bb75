from __future__ import annotations

import re
import threading

from structlog.testing import capture_logs
from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from halfsync.life.about import About
from halfsync.life.dump import dump
from halfsync.life.parts import Part
from halfsync.life.process import Process
from halfsync.life.stacks import thread_stacks
from halfsync.periodic import Periodic
from halfsync.tasks import Tasks
from halfsync.workers import WorkerPool

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
