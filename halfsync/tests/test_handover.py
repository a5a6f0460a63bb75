"""One process takes over from another: what each of them does, in processes of their own."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs
from twisted.internet.testing import StringTransport

from children import Child, child, reserved_port, until
from halfsync.handover.peers import Givers, Relief
from test_systemd import Manager

if TYPE_CHECKING:
    from collections.abc import Iterator

CODE = """
from halfsync.endpoints import listener
from twisted.internet.protocol import Factory, Protocol
class Hello(Protocol):
    def connectionMade(self):
        self.transport.write(str(__import__("os").getpid()).encode())
        self.transport.loseConnection()
class Last(Part):
    async def start(self):
        {last}
        pass
def parts(process):
    factory = Factory.forProtocol(Hello)
    process.add(listener.Listener(
        "x", flag="x", endpoints={endpoints!r}, factory=factory, reactor=process.reactor))
    process.add(Last("last"))
{first}
main(parts)
"""


IMPATIENT = "from halfsync.handover import part; part.ANSWER = 0.2"


class Processes:
    """Children that meet at one path."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.stack = stack
        self.folder = folder
        self.port = stack.enter_context(reserved_port())
        self.endpoints = [f"tcp:{self.port}:interface=127.0.0.1", f"unix:{folder}/x.sock"]

    def start(self, *, endpoints: Any = None, first: str = "", last: str = "", **environ: str) -> Child:
        code = CODE.format(endpoints=endpoints or self.endpoints, first=first, last=last)
        flag = f"--service.handover={self.folder}/handover.sock"
        return self.stack.enter_context(child(code, flag, more_environ=environ))

    def start_held(self, **more: str) -> Child:
        """Start one that waits with the sockets in its hands, until `release`."""
        os.mkfifo(self.folder / "go")
        held = self.start(last=f"print('taken', flush=True); open('{self.folder}/go').close()", **more)
        held.wait_for("taken")
        return held

    def release(self) -> None:
        (self.folder / "go").open("w").close()

    def who(self, family: str) -> int:
        """Return the pid that answers."""
        with socket.socket(socket.AF_UNIX if family == "unix" else socket.AF_INET) as client:
            client.settimeout(20)
            client.connect(f"{self.folder}/x.sock" if family == "unix" else ("127.0.0.1", self.port))
            return int(client.makefile("rb").read())

    def both(self) -> set[int]:
        return {self.who("tcp"), self.who("unix")}


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    with ExitStack() as stack:
        yield Processes(stack, tmp_path)


def test_one_after_the_other(processes: Processes):
    """The sockets pass from hand to hand, the old one ends cleanly, and the last leaves no path behind."""
    old = processes.start()
    old.wait_for("service.started")
    for _ in range(2):
        new = processes.start()
        new.wait_for("service.started")
        assert "handover.taken" in [event["event"] for event in new.events], "it was told by the old one"
        code, events, err = old.end()
        assert (code, err) == (0, "")
        assert [each for each in events if each.startswith(("handover", "service"))] == [
            "handover.offered",
            "handover.given",
            "service.draining",
            "service.stopped",
        ]
        assert processes.both() == {new.process.pid}
        old = new
    old.signal(signal.SIGTERM)
    assert old.end()[0] == 0
    assert list(processes.folder.iterdir()) == []


def test_one_that_fails_to_start_changes_nothing(processes: Processes):
    """The old one serves on, with its paths, and the next may try."""
    old = processes.start()
    old.wait_for("service.started")
    broken = processes.start(last="raise StartError('--last: no')")
    assert broken.end()[0] == 1
    old.wait_for("handover.abandoned")
    assert processes.both() == {old.process.pid}
    killed = processes.start(last="__import__('os').kill(__import__('os').getpid(), 9)")
    assert killed.end()[0] == -signal.SIGKILL
    old.wait_for("handover.abandoned")
    assert processes.both() == {old.process.pid}
    new = processes.start()
    new.wait_for("service.started")
    assert old.end()[0] == 0


def test_one_that_is_told_to_stop_before_it_is_ready_takes_nothing(processes: Processes):
    """Even when its start leaves the reactor no time to hear of the signal: somebody must serve."""
    old = processes.start()
    old.wait_for("service.started")
    new = processes.start(last="import os, signal; os.kill(os.getpid(), signal.SIGTERM)")
    new.wait_for("service.start_abandoned")
    assert new.end()[0] == 0
    old.wait_for("handover.abandoned")
    assert processes.both() == {old.process.pid}


def test_one_that_is_stopped_at_once_while_it_waits_for_the_old_one(processes: Processes):
    """Its parts are stopped."""
    old = processes.start()
    old.wait_for("service.started")
    first = """
from halfsync.handover.peers import Relief
def ready(self, real=Relief.connectionMade):
    real(self)
    print("ready", flush=True)
Relief.connectionMade = ready
async def stop(self):
    print("last stopped", flush=True)
Last.stop = stop
"""
    new = processes.start_held(first=first)
    old.signal(signal.SIGSTOP)
    processes.release()
    new.wait_for("ready")
    new.signal(signal.SIGTERM)
    new.signal(signal.SIGHUP)
    new.wait_for("service.reloaded")
    new.signal(signal.SIGTERM)
    new.wait_for("last stopped")
    assert new.end()[0] == 3


def test_a_signal_to_stop_does_not_cut_short_the_drain_of_the_old_one(processes: Processes):
    """Whoever deploys may well tell it to stop, once the new one serves: it does so already."""
    first = """
import os, signal
async def drain(self):
    os.kill(os.getpid(), signal.SIGTERM)
    heard = Deferred()
    from twisted.internet import reactor
    reactor.callFromThread(heard.callback, None)
    await heard
    print("drained", flush=True)
Last.drain = drain
"""
    old = processes.start(first=first)
    old.wait_for("service.started")
    processes.start().wait_for("service.started")
    old.wait_for("drained")
    old.wait_for("service.stopped")
    assert old.end()[0] == 0


def test_while_one_drains_the_next_starts_by_itself(processes: Processes):
    """It was told to stop, and has let go of the path: nobody waits for it, and nobody asks it."""
    first = """
async def drain(self):
    await Deferred()
Last.drain = drain
"""
    old = processes.start(first=first)
    old.wait_for("service.started")
    old.signal(signal.SIGTERM)
    old.wait_for("service.draining")
    until(lambda: not (processes.folder / "handover.sock").exists())
    new = processes.start()
    new.wait_for("service.started")
    assert "handover.taken" not in [event["event"] for event in new.events]
    assert processes.both() == {new.process.pid}
    assert old.process.poll() is None


def test_what_the_new_one_does_not_want_ends_with_the_old_one(processes: Processes):
    old = processes.start()
    old.wait_for("service.started")
    new = processes.start(endpoints=processes.endpoints[:1])
    new.wait_for("service.started")
    assert old.end()[0] == 0
    assert processes.who("tcp") == new.process.pid
    assert not (processes.folder / "x.sock").exists()


def test_systemd_follows(processes: Processes, tmp_path_factory: pytest.TempPathFactory):
    """The old one names the new one, which from then on speaks and feeds the watchdog."""
    manager = Manager(f"{tmp_path_factory.mktemp('systemd')}/notify")
    processes.stack.enter_context(manager.socket)
    old = processes.start(NOTIFY_SOCKET=manager.address, WATCHDOG_USEC="60000000")
    old.wait_for("service.started")
    assert [manager.hear()[0] for _ in range(2)] == ["READY=1", "WATCHDOG=1"]
    new = processes.start()
    new.wait_for("service.started")
    assert [manager.hear()[0] for _ in range(3)] == [f"MAINPID={new.process.pid}", "READY=1", "WATCHDOG=1"]
    assert old.end()[0] == 0
    new.signal(signal.SIGTERM)
    assert manager.hear()[0] == "STOPPING=1"


def test_two_at_the_same_time(processes: Processes):
    """The later is told who was first."""
    old = processes.start()
    old.wait_for("service.started")
    slow = processes.start(last="print('slow', flush=True); await Deferred()")
    slow.wait_for("slow")
    code, _, err = processes.start().end()
    assert code == 1
    assert err == (
        f"child: --service.handover: process {old.process.pid} does not hand over: "
        f"process {slow.process.pid} is taking over already\n"
    )


def test_another_user_gets_nothing_and_gives_nothing(processes: Processes):
    """Who may open the path may still be somebody else, root for example."""
    other = "import os; os.geteuid = lambda: 12345"
    old = processes.start()
    old.wait_for("service.started")
    code, _, err = processes.start(first=other).end()
    assert code == 1
    assert f"user {os.geteuid()} serves at {processes.folder}/handover.sock, and this is user 12345" in err
    old.wait_for("handover.abandoned")
    old.signal(signal.SIGTERM)
    old.end()
    suspicious = processes.start(first=other)
    suspicious.wait_for("service.started")
    code, _, err = processes.start().end()
    assert code == 1
    assert "does not hand over: this is user 12345, and you are user" in err
    assert suspicious.wait_for("handover.refused")["user"] == os.geteuid()


def test_an_old_one_that_is_stuck(processes: Processes):
    """The new one gives up, and says who is in the way."""
    old = processes.start()
    old.wait_for("service.started")
    old.signal(signal.SIGSTOP)
    code, _, err = processes.start(
        first="from halfsync.handover import part as handover; handover.ANSWER = 0.2"
    ).end()
    assert (code, err) == (
        1,
        f"child: --service.handover: process {old.process.pid} did not hand over: timed out\n",
    )


def test_an_old_one_that_is_stuck_when_the_new_one_is_ready(processes: Processes):
    """The new one serves and can be followed by another; the old one retires once it comes round."""
    old = processes.start()
    old.wait_for("service.started")
    new = processes.start_held(first=IMPATIENT)
    old.signal(signal.SIGSTOP)
    processes.release()
    new.wait_for("handover.unconfirmed")
    new.wait_for("service.started")
    old.signal(signal.SIGCONT)
    old.wait_for("handover.given")
    assert old.end()[0] == 0
    newest = processes.start()
    newest.wait_for("service.started")
    assert new.end()[0] == 0
    assert processes.both() == {newest.process.pid}


def test_an_old_one_that_is_killed_meanwhile(processes: Processes):
    """What it had handed over serves on in the new one."""
    old = processes.start()
    old.wait_for("service.started")
    new = processes.start_held()
    old.process.kill()
    old.process.wait()
    processes.release()
    new.wait_for("handover.unconfirmed")
    new.wait_for("service.started")
    assert processes.both() == {new.process.pid}


def test_an_old_one_that_is_told_to_stop_meanwhile(processes: Processes):
    """It ends, and what it had handed over serves on in the new one."""
    old = processes.start()
    old.wait_for("service.started")
    new = processes.start_held()
    old.signal(signal.SIGTERM)
    old.wait_for("service.draining")
    assert old.end()[0] == 0
    processes.release()
    new.wait_for("service.started")
    assert processes.both() == {new.process.pid}


def test_after_a_kill_the_next_one_starts(processes: Processes):
    """It clears the paths that were left, and can be followed by another."""
    old = processes.start()
    old.wait_for("service.started")
    old.process.kill()
    old.process.wait()
    for _ in range(2):
        processes.start().wait_for("service.started")
        processes.both()


def test_a_path_that_cannot_be(processes: Processes):
    processes.folder = Path("/nowhere")
    code, _, err = processes.start().end()
    assert (code, err) == (1, "child: --service.handover: there is no folder /nowhere\n")


def test_a_new_process_waits_for_no_old_one_that_is_gone():
    """It goes on at once, and knows that nobody has told it."""
    heard: list[bool] = []
    relief = Relief([0])
    relief.done.addCallback(heard.append)
    relief.makeConnection(StringTransport())
    relief.connectionLost()
    assert heard == [False]
    relief.give_up()
    assert heard == [False]


class Busy:
    """A process that one is taking over from already."""

    taker: int | None = 4711

    def state(self) -> str:
        return "running"


def test_one_that_is_refused_abandons_nothing():
    """That it leaves is no end of what another one has begun."""
    busy: Any = Busy()
    here, there = socket.socketpair()
    with here, there, capture_logs() as events:
        transport: Any = StringTransport()
        transport.socket = here
        giver = Givers(busy).buildProtocol(None)
        giver.makeConnection(transport)
        assert b"process 4711 is taking over already" in transport.value()
        giver.connectionLost()
    assert busy.taker == 4711
    assert [each["event"] for each in events] == ["handover.refused"]
