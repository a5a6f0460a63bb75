"""Signals from the first line of a program to its end, each in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from children import PRELUDE, SOURCES, child

HOLD = """
from halfsync.life.signals import hold_signals
hold_signals()
import os, signal
"""

ME = "os.kill(os.getpid(), signal.{})\n"

BUILT = """
main(lambda process: process.add(Part("idle")))
"""

STUCK = """
import os, threading, time
LOCK = threading.Lock()
LOCK.acquire()
def stuck_here():
    {how}
class Stuck(Part):
    async def start(self):
        reactor = self.reactor
        # Not by way of the log, whose thread may get no turn any more.
        reactor.callLater(0, os.write, 1, b"stuck\\n")
        reactor.callLater(0.01, stuck_here)
def parts(process):
    part = Stuck("stuck")
    part.reactor = process.reactor
    process.add(part)
main(parts)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_stop_during_the_imports_is_obeyed(name):
    """It is not lost, and nothing of the service is started."""
    with child(ME.format(name) + PRELUDE + BUILT, prelude=HOLD) as service:
        assert service.wait_for("service.start_abandoned")["reason"] == name
        assert service.end() == (0, ["service.stopped"], "")


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1", "SIGUSR2"])
def test_no_other_signal_during_the_imports_does_harm(name):
    """The process goes on to serve."""
    with child(ME.format(name) + PRELUDE + BUILT, prelude=HOLD) as service:
        service.wait_for("service.started")
        service.signal(signal.SIGTERM)
        code, _, err = service.end()
        assert code == 0
        assert ("most recent call first" in err) is (name == "SIGUSR1")


@pytest.mark.parametrize(("name", "event"), [("SIGHUP", "service.reloaded"), ("SIGUSR2", "signal.ignored")])
def test_what_came_during_the_imports_is_obeyed(name, event):
    """The file of flags may have been read before HUP came; who sends USR2 hears what comes of it."""
    with child(ME.format(name) + PRELUDE + BUILT, prelude=HOLD) as service:
        service.wait_for(event)
        service.signal(signal.SIGTERM)
        assert service.end()[0] == 0


def test_signals_after_the_end_change_nothing():
    """The exit code is the one in the log, and nothing is logged that is not so any more."""
    code = """
    import threading
    def parts(process):
        process.add(Part("idle"))
        process.reactor.callWhenRunning(process.reactor.callInThread, threading.Event().wait)
    main(parts)
    """
    with child(code) as service:
        service.wait_for("service.started")
        service.signal(signal.SIGTERM)
        assert service.wait_for("service.stopped")["exit_code"] == 0
        # The thread keeps it from ending for two seconds more.
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2, signal.SIGINT):
            service.signal(number)
        assert service.end() == (0, ["service.threads_left"], "")


def test_no_signal_kills_a_process_that_ends():
    """However often it is told to stop while the interpreter ends, its exit code is 0."""
    with child(BUILT) as service:
        service.wait_for("service.started")
        service.signal(signal.SIGTERM)
        service.wait_for("service.stopped")
        while service.process.poll() is None:
            service.signal(signal.SIGTERM)
        assert service.end() == (0, [], "")


def test_a_second_stop_ends_imports_that_hang():
    """The first one waits for the service to run, which may never be."""
    code = "print('here', flush=True)\nimport time\nwhile True:\n    time.sleep(60)\n"
    with child(HOLD + code, prelude="") as service:
        service.wait_for("here")
        service.signal(signal.SIGTERM)
        service.signal(signal.SIGINT)
        assert service.end()[0] == 3


ALONE = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")
"""A process that is number 1 for itself, as in a container."""

BLOCK = ("env", "--block-signal=TERM,INT,HUP,USR1,USR2")
"""As in the files of deploy/."""


def can_be_process_1() -> bool:
    return bool(shutil.which("unshare")) and not subprocess.run([*ALONE, "true"], check=False).returncode


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2"])
def test_signals_may_be_blocked_until_the_first_line(name, alone):
    """What came while the interpreter started is obeyed then, by process 1 too: none is lost, none kills."""
    if alone and not can_be_process_1():
        pytest.skip("unshare(1) may make no namespace of processes here")
    early = "import os, signal\nprint(f'number {os.getpid()}', flush=True)\n" + ME.format(name)
    wrapper = (*ALONE, *BLOCK) if alone else BLOCK
    with child(early + HOLD + PRELUDE + BUILT, prelude="", wrapper=wrapper) as service:
        if alone:
            service.wait_for("number 1")
        if name in ("SIGTERM", "SIGINT"):
            service.wait_for("service.start_abandoned")
        else:
            service.wait_for("service.started")
            # unshare(1) hands over no signal.
            pid = service.process.pid
            os.kill(only_child(pid) if alone else pid, signal.SIGTERM)
        assert service.end()[0] == 0


def only_child(pid: int) -> int:
    """Return the process that another one waits for."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())


def test_holding_signals_imports_little():
    """What is imported before the signals are held is time in which they are not."""
    code = "import sys; import halfsync.life.signals; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(SOURCES)},
    )
    loaded = done.stdout.split()
    assert not [each for each in loaded if each.startswith(("twisted", "structlog", "logging"))]


@pytest.mark.parametrize("how", ["time.sleep(600)", "while True: pass", "LOCK.acquire()"])
def test_usr1_answers_while_the_reactor_is_stuck(how):
    """The log has the stack of the reactor where it is stuck, at once; nothing of the handler is in it."""
    code = STUCK.format(how=how).replace(
        "import threading", "import threading; L = threading.Lock(); L.acquire()\nimport threading", 1
    )
    with child(code) as service:
        service.wait_for("stuck")
        # The reactor gets stuck next; asked too early, it answers from its idle loop.
        for _ in range(100):
            service.signal(signal.SIGUSR1)
            event = service.wait_for("stacks.thread")
            if any("stuck_here" in line for line in event["stack"]):
                break
        assert event["thread"] == "MainThread"
        assert "stuck_here" in event["stack"][-1]


def test_usr1_answers_where_no_python_code_can_run():
    """A call into C that keeps the interpreter's lock: the bare stack is on standard error."""
    with child(STUCK.format(how="import ctypes; ctypes.PyDLL(None).sleep(600)")) as service:
        service.wait_for("stuck")
        deadline = time.monotonic() + 20
        while "in stuck_here" not in "".join(service._errors):
            service.signal(signal.SIGUSR1)
            time.sleep(0.1)
            assert time.monotonic() < deadline


def test_usr1_harms_no_process_whose_threads_run():
    """The bare stack is of the thread that takes the signal: to read another's has crashed a process."""
    busy = """
    import threading
    def deep(number):
        return number and deep(number - 1)
    def busy():
        while True:
            deep(50)
    class Busy(Part):
        async def start(self):
            threading.Thread(target=busy, daemon=True).start()
    main(lambda process: process.add(Busy("busy")))
    """
    with child(busy) as service:
        service.wait_for("service.started")
        for _ in range(5):
            service.signal(signal.SIGUSR1)
            service.wait_for("stacks.thread")
        service.signal(signal.SIGTERM)
        code, _, err = service.end()
    assert code == 0
    assert "most recent call first" in err
    assert "Thread 0x" not in err


@pytest.mark.parametrize("level", ["warning", "error"])
def test_usr1_answers_whatever_the_level_of_the_log(level):
    """Who asks for it wants to see it; a quiet log is when one needs it."""
    code = """
import os
def parts(process):
    process.add(Part("idle"))
    # Not by way of print, which is an event at level info.
    process.reactor.callWhenRunning(os.write, 1, b"runs\\n")
main(parts)
"""
    with child(code, f"--log.level={level}") as service:
        service.wait_for("runs")
        service.signal(signal.SIGUSR1)
        assert service.wait_for("stacks.thread")["stack"]
        service.signal(signal.SIGTERM)
        assert service.end()[0] == 0


def test_usr2_without_a_manhole_is_a_line():
    """It says why nothing happens, and the service goes on."""
    with child(BUILT) as service:
        service.wait_for("service.started")
        service.signal(signal.SIGUSR2)
        ignored = service.wait_for("signal.ignored")
        assert (ignored["signal"], ignored["reason"]) == ("SIGUSR2", "this process has no manhole")
        service.signal(signal.SIGTERM)
        assert service.end()[0] == 0


def test_usr2_while_parts_stop_is_a_line():
    """It opens nothing that nobody would close."""
    code = """
    import os, signal
    from twisted.internet import reactor
    class Manhole(Part):
        def toggle(self):
            print("toggled", flush=True)
    class Asks(Part):
        async def stop(self):
            os.kill(os.getpid(), signal.SIGUSR2)
            heard = Deferred()
            reactor.callFromThread(heard.callback, None)
            await heard
    def parts(process):
        process.add(Manhole("manhole"))
        process.add(Asks("asks"))
    main(parts)
    """
    with child(code) as service:
        service.wait_for("service.started")
        service.signal(signal.SIGTERM)
        assert service.wait_for("signal.ignored")["reason"] == "the process stops"
        assert service.end() == (0, ["service.stopped"], "")


@pytest.mark.parametrize("kind", ["epoll", "asyncio"])
@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        ("process.reactor.stop()", "reactor.stop() was called"),
        ("process.stop('licence expired')", "licence expired"),
        ("process.reactor.callInThread(process.stop, 'from a thread')", "from a thread"),
    ],
)
def test_the_service_stops_itself(kind, stop, reason):
    """By either way it drains first, whichever thread asks, and the exit is a clean one."""
    code = f"""
    reactors.arrange_reactor("child")
    class Drains(Part):
        async def drain(self):
            done = Deferred()
            self.reactor.callLater(0.01, done.callback, None)
            await done
            print("drained", flush=True)
        async def stop(self):
            print("part stopped", flush=True)
    def parts(process):
        part = process.add(Drains("drains"))
        part.reactor = process.reactor
        process.reactor.callLater(0.01, lambda: {stop})
    main(parts)
    """
    with child(code, f"--service.reactor={kind}") as service:
        assert service.wait_for("service.draining")["reason"] == reason
        service.wait_for("drained")
        service.wait_for("part stopped")
        assert service.end() == (0, ["service.stopped"], "")


def test_a_part_that_does_not_stop_holds_up_nothing():
    """It is named, the others are stopped, and the exit code says that something was cut."""
    code = """
    class Below(Part):
        async def stop(self):
            print("below stopped", flush=True)
    class Hangs(Part):
        async def stop(self):
            await Deferred()
    def parts(process):
        process.add(Below("below"))
        process.add(Hangs("hangs"))
        process.add(Part("above"))
    main(parts)
    """
    with child(code, "--service.drain_timeout=0.05") as service:
        service.wait_for("service.started")
        service.signal(signal.SIGTERM)
        assert service.wait_for("service.forced")["unfinished"] == ["hangs"]
        service.wait_for("below stopped")
        assert service.end() == (3, ["service.stopped"], "")


def test_a_start_that_cannot_be_undone_ends_all_the_same():
    """One signal is enough for a process whose part neither starts nor stops."""
    code = """
    class Hangs(Part):
        async def stop(self):
            await Deferred()
    class Slow(Part):
        async def start(self):
            print("starting", flush=True)
            await Deferred()
    def parts(process):
        process.add(Hangs("hangs"))
        process.add(Slow("slow"))
    main(parts)
    """
    with child(code, "--service.drain_timeout=0") as service:
        service.wait_for("starting")
        service.signal(signal.SIGTERM)
        assert service.wait_for("service.forced")["unfinished"] == ["hangs"]
        assert service.end()[0] == 3


@pytest.mark.parametrize(
    ("how", "code"), [("process.stop('licence expired')", 0), ("process.give_up('licence expired')", 3)]
)
def test_who_ends_the_start_is_in_the_log(how, code):
    """With the reason; one that gives up wants to be started again, and the exit code says so."""
    source = f"""
    class Slow(Part):
        async def start(self):
            await Deferred()
    def parts(process):
        process.add(Slow("slow"))
        {how}
    main(parts)
    """
    with child(source) as service:
        assert service.wait_for("service.start_abandoned")["reason"] == "licence expired"
        assert service.end() == (code, ["service.stopped"], "")


def test_one_that_gives_up_while_it_stops_has_stopped():
    """The first reason counts, which is the one in the log."""
    code = """
    class Fails(Part):
        async def drain(self):
            self.give_up("cannot drain")
    main(lambda process: process.add(Fails("fails")))
    """
    with child(code) as service:
        service.wait_for("service.started")
        service.signal(signal.SIGTERM)
        assert service.wait_for("service.draining")["reason"] == "SIGTERM"
        assert service.end() == (0, ["service.stopped"], "")


def test_a_reactor_that_crashes_is_no_clean_end():
    """Nothing was drained or stopped: the log says so, and the exit code."""
    code = """
    def parts(process):
        process.add(Part("idle"))
        process.reactor.callLater(0.01, process.reactor.crash)
    main(parts)
    """
    with child(code) as service:
        assert "reactor.crash()" in service.wait_for("service.failed")["reason"]
        assert service.end() == (3, [], "")


def test_a_forced_end_names_what_held_it_up():
    """Not only the part: the request, the task, the call in a thread."""
    code = """
    import threading
    from halfsync.life.facts import RunningRequest
    from halfsync.periodic import Periodic
    from halfsync.tasks import Tasks
    from halfsync.workers.pool import WorkerPool
    class Web(Part):
        def requests(self):
            return [RunningRequest("web", "GET", "/slow", "127.0.0.1:1", 0.0, "workers-1")]
        async def drain(self):
            await Deferred()
    async def sweep():
        await Deferred()
    def parts(process):
        pool = process.add(WorkerPool("workers", threads=1, queue=0, reactor=process.reactor))
        process.add(Web("web"))
        process.add(Tasks(Periodic("sweep", 60, sweep, reactor=process.reactor)))
        process.reactor.callWhenRunning(pool.submit, threading.Event().wait, "a call")
    main(parts)
    """
    with child(code, "--service.drain_timeout=0.05") as service:
        service.wait_for("service.started")
        service.signal(signal.SIGTERM)
        forced = service.wait_for("service.forced")
        assert forced["unfinished"] == ["tasks", "web", "workers"]
        assert forced["requests"][0].startswith("GET /slow (")
        assert (forced["tasks"], forced["calls"]) == (["sweep"], ["workers-1: a call"])
        assert service.end()[0] == 3


def test_code_is_told_of_the_drain():
    """A flag for any thread, and a call; a bug in one call keeps no other from being made."""
    code = """
    def parts(process):
        process.add(Part("idle"))
        process.on_drain(lambda: 1 / 0)
        process.on_drain(lambda: print(f"draining: {process.draining}", flush=True))
        print(f"before: {process.draining}", flush=True)
    main(parts)
    """
    with child(code) as service:
        service.wait_for("before: False")
        service.wait_for("service.started")
        service.signal(signal.SIGTERM)
        assert "ZeroDivisionError" in json.dumps(service.wait_for("service.drain_callback_failed"))
        service.wait_for("draining: True")
        assert service.end()[0] == 0
