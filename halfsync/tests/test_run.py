from __future__ import annotations

import json
import signal
import socket

import pytest

from children import PRELUDE, child

IDLE = """
main(lambda process: process.add(Part("idle")))
"""

DRAINING = """
class Slow(Part):
    async def drain(self):
        await Deferred()
main(lambda process: process.add(Slow("slow")))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(number):
    """Nothing in flight: exit 0, with nothing on standard error."""
    with child(IDLE) as service:
        service.wait_for("service.started")
        service.signal(number)
        assert service.end() == (0, ["service.draining", "service.stopped"], "")


def test_the_deadline_of_the_drain():
    """Work that is not done by then is cut off, named, and told by the exit code; the parts stop in order."""
    with child(DRAINING, "--service.drain_timeout=0.05") as service:
        service.wait_for("service.started")
        service.signal(signal.SIGTERM)
        forced = service.wait_for("service.forced")
        assert forced["unfinished"] == ["slow"]
        assert service.end() == (3, ["service.stopped"], "")


def test_a_second_signal_stops_at_once():
    with child(DRAINING) as service:
        service.wait_for("service.started")
        service.signal(signal.SIGTERM)
        service.wait_for("service.draining")
        service.signal(signal.SIGTERM)
        service.wait_for("service.forced")
        assert service.end()[0] == 3


def test_a_reactor_that_is_stuck_is_stopped_by_the_second_signal():
    stuck = """
    import time
    class Stuck(Part):
        async def drain(self):
            print("stuck", flush=True)
            while True:
                time.sleep(60)
    main(lambda process: process.add(Stuck("stuck")))
    """
    with child(stuck) as service:
        service.wait_for("service.started")
        service.signal(signal.SIGTERM)
        service.wait_for("stuck")
        service.signal(signal.SIGTERM)
        forced = service.wait_for("service.forced")
        assert "reactor is stuck" in forced["reason"]
        assert forced["unfinished"] == ["stuck"]
        assert any(" drain: " in line for line in forced["stack"])
        assert service.end()[0] == 3


@pytest.mark.parametrize("thread", ["threading.Thread(target=block).start()", "reactor.callInThread(block)"])
def test_a_blocked_thread_does_not_hang_the_exit(thread):
    """Neither a thread of the user's nor one of the reactor's own pool, which Twisted joins."""
    blocked = f"""
    import threading
    from twisted.internet import reactor
    def block():
        threading.Event().wait()
    class Blocking(Part):
        async def start(self):
            {thread}
    main(lambda process: process.add(Blocking("blocking")))
    """
    with child(blocked) as service:
        service.wait_for("service.started")
        service.signal(signal.SIGTERM)
        assert service.end()[0] == 0


def test_a_start_that_the_world_refuses():
    """One line on standard error, exit 1, and what had started is stopped."""
    refused = """
    class First(Part):
        async def stop(self):
            print("first stopped", flush=True)
    class Taken(Part):
        async def start(self):
            raise StartError("--web.listen: 'tcp:80': taken")
    def parts(process):
        process.add(First("first"))
        process.add(Taken("taken"))
    main(parts)
    """
    with child(refused) as service:
        service.wait_for("first stopped")
        code, _, err = service.end()
        assert (code, err) == (1, "child: --web.listen: 'tcp:80': taken\n")


def test_a_start_that_fails_by_a_bug():
    """The traceback is in the log, not on the terminal."""
    with child("main(lambda process: 1 / 0)") as service:
        failed = service.wait_for("service.start_failed")
        assert "ZeroDivisionError" in failed["exception"]
        code, _, err = service.end()
        assert (code, err) == (1, "")


def test_a_signal_during_the_start_abandons_it():
    """What had started is stopped."""
    starting = """
    class First(Part):
        async def stop(self):
            print("first stopped", flush=True)
    class Slow(Part):
        async def start(self):
            print("starting", flush=True)
            await Deferred()
    def parts(process):
        process.add(First("first"))
        process.add(Slow("slow"))
    main(parts)
    """
    with child(starting) as service:
        service.wait_for("starting")
        service.signal(signal.SIGTERM)
        service.wait_for("first stopped")
        service.wait_for("service.start_abandoned")
        assert service.end()[0] == 0


def test_a_signal_during_a_start_that_awaits_nothing_abandons_it():
    """The reactor hears of the signal only after the start, and by then it is known."""
    starting = """
    import os, signal
    class Told(Part):
        async def start(self):
            os.kill(os.getpid(), signal.SIGTERM)
        async def stop(self):
            print("stopped", flush=True)
    main(lambda process: process.add(Told("told")))
    """
    with child(starting) as service:
        service.wait_for("stopped")
        assert service.wait_for("service.start_abandoned")["reason"] == "SIGTERM"
        assert service.end()[0] == 0


def test_hup_reloads_and_the_process_lives_on():
    with child(IDLE) as service:
        service.wait_for("service.started")
        service.signal(signal.SIGHUP)
        service.wait_for("service.reloaded")
        service.signal(signal.SIGTERM)
        assert service.end()[0] == 0


def test_a_reload_that_comes_once_all_has_stopped_is_none():
    """The kernel delivers signals in any order: the last that the log has of a process is that it stopped."""
    code = """
    import os, signal
    class Both(Part):
        async def start(self):
            reactor.callLater(0, self.told)
        def told(self):
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGHUP)
    from twisted.internet import reactor
    main(lambda process: process.add(Both("both")))
    """
    with child(code) as service:
        service.wait_for("service.started")
        assert service.end() == (0, ["service.draining", "service.stopped"], "")


def test_hup_reads_the_file_again(tmp_path):
    """Live flags change, others are named; what is wrong in the file is told, and changes nothing."""
    file = tmp_path / "conf.ini"
    file.write_text("[log]\nlevel = info\n")
    with child("main(lambda process: None)", f"--config={file}") as service:
        service.wait_for("service.started")
        file.write_text("[log]\nlevel = debug\n[service]\ndrain_timeout = 5\n")
        service.signal(signal.SIGHUP)
        assert service.wait_for("flags.reloaded")["changed"] == {"log.level": "debug"}
        assert service.wait_for("flags.need_a_start")["flags"] == ["service.drain_timeout"]
        file.write_text("[log]\nlevel = loud\n")
        service.signal(signal.SIGHUP)
        assert "loud" in service.wait_for("flags.reload_refused")["problem"]
        service.wait_for("service.reloaded")
        service.signal(signal.SIGTERM)
        assert service.end()[0] == 0


def test_a_level_that_was_set_is_what_the_flag_says(tmp_path):
    """By the admin interface or in the manhole; the file is weaker, and nothing is told as changed."""
    file = tmp_path / "conf.ini"
    file.write_text("[log]\nlevel = info\n")
    code = """
    def parts(process):
        class Sets(Part):
            async def ready(self):
                process.log_levels.set("debug", duration=60)
                (state,) = [each for each in flags.states() if each.name == "log.level"]
                print(state.text, state.source.split()[0], flush=True)
                process.log_levels.set("warning", source="admin")
                print(state.text, state.source, flush=True)
            def reload(self):
                print("read again", flush=True)
        process.add(Sets("sets"))
    main(parts)
    """
    with child(code, f"--config={file}", "--log.format=console") as service:
        service.wait_for("info file")
        service.wait_for("warning admin")
        file.write_text("[log]\nlevel = error\n")
        service.signal(signal.SIGHUP)
        service.wait_for("read again")
        service.signal(signal.SIGTERM)
        assert service.end()[0] == 0
    assert "flags.reloaded" not in str(service.events)


def test_usr1_dumps_every_threads_stack():
    with child(IDLE) as service:
        service.wait_for("service.started")
        service.signal(signal.SIGUSR1)
        dumped = service.wait_for("stacks.thread")
        assert "MainThread" in json.dumps(dumped)


def test_bad_flags_exit_2():
    with child(IDLE, "--service.drain_timeout=soon") as service:
        code, events, err = service.end()
        assert (code, events) == (2, [])
        wrong = "--service.drain_timeout: 'soon' is no number of seconds; write it without a unit"
        assert err == f"child: {wrong} (command line)\n"


@pytest.mark.parametrize("early", ["", "from twisted.internet import reactor"])
@pytest.mark.parametrize("kind", ["epoll", "asyncio"])
def test_the_flag_chooses_the_reactor_whoever_imports_it_first(kind, early):
    """klein, and much code of users, imports the reactor before the flags are read."""
    code = f"""
    reactors.arrange_reactor("child")
    {early}
    def parts(process):
        print(type(process.reactor).__name__, flush=True)
    main(parts)
    """
    with child(code, f"--service.reactor={kind}") as service:
        service.wait_for({"epoll": "EPollReactor", "asyncio": "AsyncioSelectorReactor"}[kind])
        service.wait_for("service.started")
        service.signal(signal.SIGTERM)
        assert service.end()[0] == 0


@pytest.mark.parametrize("kind", ["epoll", "asyncio"])
@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_set_moves_no_timer(kind, hours):
    """Twisted counts in time.time(); a service must not stand still or rush when the clock is set."""
    code = f"""
    import time
    reactors.arrange_reactor("child")
    true = time.time
    def parts(process):
        process.add(Part("idle"))
        process.reactor.callLater(0.05, print, "rang", flush=True)
        process.reactor.callLater(1800, print, "too early", flush=True)
        time.time = lambda: true() + 3600 * {hours}
        from twisted.python import runtime
        runtime.seconds = runtime.platform.seconds = time.time
    main(parts)
    """
    with child(code, f"--service.reactor={kind}") as service:
        service.wait_for("rang")
        service.signal(signal.SIGTERM)
        service.wait_for("service.stopped")
        assert "too early" not in [event["event"] for event in service.events]
        assert service.end()[0] == 0


NOBODY = """
import os
os.environ.pop("HOME", None)
os.getuid = lambda: 54321
"""


def test_a_user_without_an_entry_and_a_home_starts(tmp_path):
    """As containers may run it; the manhole is closed, and says in a line why it does not open."""
    code = """
    from halfsync.manhole import Manhole
    main(lambda process: process.add(Manhole.from_flags(process)))
    """
    with child(code, prelude=NOBODY + PRELUDE) as service:
        service.wait_for("service.started")
        service.signal(signal.SIGUSR2)
        assert "authorized_keys" in service.wait_for("manhole.open_failed")["problem"]
        service.signal(signal.SIGTERM)
        assert service.end()[0] == 0
    keys = tmp_path / "keys"
    keys.touch(0o600)
    with child(code, f"--manhole.authorized_keys={keys}", prelude=NOBODY + PRELUDE) as service:
        service.wait_for("service.started")
        service.signal(signal.SIGUSR2)
        problem = service.wait_for("manhole.open_failed")["problem"]
        assert problem.startswith(
            "--manhole.host_key: '~/.local/state/child/manhole_host_key': this user has no"
        )


def test_an_inherited_socket_that_nobody_serves_is_told():
    """Its clients would wait for ever; one that a flag names is served, or will be."""
    code = """
from halfsync.endpoints.listener import Endpoints, Listener
from twisted.internet.protocol import Factory, Protocol
@flags.declare(flag.namespace("web"))
class WEB:
    listen = Endpoints("Where.", default="")
@flags.declare(flag.namespace("later"))
class LATER:
    listen = Endpoints("Where.", default="")
main(lambda process: process.add(Listener(
    "web",
    flag="web.listen",
    endpoints=WEB.listen,
    factory=Factory.forProtocol(Protocol),
    reactor=process.reactor,
)))
"""
    with (
        socket.create_server(("127.0.0.1", 0)) as served,
        socket.create_server(("127.0.0.1", 0)) as kept,
        socket.create_server(("127.0.0.1", 0)) as forgotten,
    ):
        numbers = [each.fileno() for each in (served, kept, forgotten)]
        given = (f"--web.listen=fd:{numbers[0]}", f"--later.listen=fd:{numbers[1]}")
        with child("from halfsync import flag\n" + code, *given, pass_fds=numbers) as service:
            told = service.wait_for("listening.unserved")
            service.signal(signal.SIGTERM)
            service.end()
    assert told["descriptor"] == numbers[2]
    assert [each["event"] for each in service.events].count("listening.unserved") == 1
