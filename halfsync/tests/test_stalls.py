"""The watch over the reactor: what it sees, what it says, what it costs."""

from __future__ import annotations

import signal
import threading
import time

import pytest
from structlog.testing import capture_logs
from twisted.internet.task import Clock

from children import child, until
from halfsync.life import stalls
from halfsync.life.stalls import Stalls


@pytest.fixture
def watch():
    """A watch over the test's own thread, whose reactor is a clock that a test advances."""
    clock = Clock()
    watch = Stalls(clock, 0.02)
    watch.advance = lambda: clock.advance(1)
    yield watch
    watch.stop()
    assert not [each for each in threading.enumerate() if each.name == "stalls"]
    assert not clock.getDelayedCalls()


def hold_the_reactor(until_true):
    until(until_true)


def test_a_stall_is_told_while_it_lasts(watch):
    """With the line that the reactor is at; and once more when it is over, with how long it was."""
    began = time.monotonic()
    with capture_logs() as events:
        watch.start()
        hold_the_reactor(lambda: events)
        (stalled,) = events
        assert (stalled["event"], stalled["log_level"], stalled["unlogged"]) == (
            "reactor.stalled",
            "warning",
            0,
        )
        assert stalled["seconds"] >= 0.02
        assert any("hold_the_reactor: until(until_true)" in line for line in stalled["stack"])
        watch.advance()
        until(lambda: len(events) > 1)
        assert events[-1]["event"] == "reactor.resumed"
        assert events[-1]["seconds"] >= stalled["seconds"]
    (stall,) = watch.seen
    assert 0.02 <= stall.seconds <= time.monotonic() - began
    assert abs(stall.at - time.time()) < 60
    # A scraper sees the sum of those that are over.
    until(lambda: watch.seconds == stall.seconds)


def test_stalls_are_counted_each_and_logged_seldom(watch):
    """A reactor that stalls many times a second must not fill the log, which tells how many it left out."""
    with capture_logs() as events:
        watch.start()
        for number in range(1, 4):
            until(lambda number=number: watch.count == number)
            watch.advance()
            # It has seen the end of this one.
            until(lambda number=number: len(watch.seen) == number and watch.seconds > 0)
        until(lambda: watch.count >= 4)
        watch._quiet_until = 0
        until(lambda: len([each for each in events if each["event"] == "reactor.stalled"]) == 2)
        watch._quiet_until = 0
        until(lambda: len([each for each in events if each["event"] == "reactor.stalled"]) == 3)
    first, second, third = (each for each in events if each["event"] == "reactor.stalled")
    # The end is told of those that were told.
    assert [each["event"] for each in events[:3]] == ["reactor.stalled", "reactor.resumed", "reactor.stalled"]
    assert third["unlogged"] == 0
    assert first["unlogged"] == 0
    assert second["unlogged"] >= 2
    assert {each.name: each.samples[0].value for each in watch.metrics()}["reactor_stalls"] >= 4


def test_a_stall_that_goes_on_is_told_again(watch, monkeypatch):
    """The reactor may be at something else by then."""
    monkeypatch.setattr(stalls, "REMINDER", 0.03)
    with capture_logs() as events:
        watch.start()
        until(lambda: len(events) >= 3)
    assert [each["event"] for each in events[:3]] == ["reactor.stalled"] * 3
    assert watch.count == 1


def test_the_end_of_a_stall_is_told_before_the_end_of_the_process():
    """What stopped a moment ago says nothing any more."""
    code = """
    import time
    class Slow(Part):
        async def stop(self):
            deadline = time.monotonic() + 20
            while not process.stalls.count and time.monotonic() < deadline:
                time.sleep(0.01)
    def parts(started):
        global process
        process = started
        process.add(Slow("slow"))
    main(parts)
    """
    with child(code, "--service.stall=0.5") as service:
        service.wait_for("service.started")
        service.signal(signal.SIGTERM)
        service.wait_for("reactor.stalled")
        assert service.end() == (0, ["reactor.resumed", "service.stopped"], "")


@pytest.mark.parametrize("kind", ["epoll", "asyncio"])
def test_a_service_watches_from_its_start(kind):
    """Without anybody's doing; `--service.stall` sets the time."""
    code = """
    import time
    reactors.arrange_reactor("child")
    def hold_the_reactor():
        time.sleep(1)
        time.sleep(1)
    class Holds(Part):
        async def start(self):
            self.reactor.callLater(0.1, hold_the_reactor)
    def parts(process):
        part = process.add(Holds("holds"))
        part.reactor = process.reactor
    main(parts)
    """
    with child(code, f"--service.reactor={kind}", "--service.stall=0.5") as service:
        stalled = service.wait_for("reactor.stalled")
        assert "hold_the_reactor" in stalled["stack"][-1]
        assert service.wait_for("reactor.resumed")["seconds"] >= stalled["seconds"]


def test_the_watch_can_be_turned_off():
    """Then there is no thread for it."""
    code = """
    import threading
    class Look(Part):
        async def ready(self):
            names = [each.name for each in threading.enumerate()]
            self.reactor.callLater(0, print, names, flush=True)
    def parts(process):
        part = process.add(Look("look"))
        part.reactor = process.reactor
    main(parts)
    """
    with child(code, "--service.stall=0") as service:
        service.wait_for("['MainThread', 'log']")


def test_an_idle_service_hardly_notices():
    """Below 0.5 % of a core, by the processor's time that a service with nothing to do has used in 2 s.

    In one of ten such times: beside other processes each wake-up costs more.
    """
    code = """
    import time
    class Look(Part):
        async def ready(self):
            self.reactor.callLater(0.5, self.begin)
        def begin(self):
            self.reactor.callLater(2, self.tell, time.process_time())
        def tell(self, before):
            print(f"used {(time.process_time() - before) / 2:.5f}", flush=True)
            print("told", flush=True)
            self.begin()
    def parts(process):
        part = process.add(Look("look"))
        part.reactor = process.reactor
    main(parts)
    """
    with child(code) as service:
        used = []
        while not used or (min(used) >= 0.005 and len(used) < 10):
            service.wait_for("told")
            used.append(float(service.events[-2]["event"].removeprefix("used ")))
        assert min(used) < 0.005
