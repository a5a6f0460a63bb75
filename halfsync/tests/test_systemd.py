"""What systemd hears of a process, through a socket of the test's own."""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs
from twisted.internet.task import Clock

from children import PATIENCE, child
from halfsync.life.systemd import Systemd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Manager:
    """The end at which systemd listens."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(PATIENCE)

    def hear(self) -> list[str]:
        """Return the assignments of the next message."""
        return self.socket.recv(4096).decode().split("\n")

    def silent(self, seconds: float) -> bool:
        """Drop what has come, and say whether nothing more comes for so long."""
        self.socket.settimeout(0)
        try:
            while True:
                self.socket.recv(4096)
        except BlockingIOError:
            pass
        self.socket.settimeout(seconds)
        try:
            self.socket.recv(4096)
        except TimeoutError:
            return True
        return False


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@{tmp_path}/notify"
    manager = Manager(address)
    with manager.socket:
        yield manager


def test_without_systemd_nothing_is_sent():
    """No variable, or an address of a kind that is not ours (vsock)."""
    for environ in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234", "WATCHDOG_USEC": "1"}):
        clock = Clock()
        systemd = Systemd.from_environ(clock, environ)
        systemd.ready("x")
        assert clock.getDelayedCalls() == []


def test_its_variables_are_taken_out_of_the_environment(manager: Manager):
    """A child that inherited them could speak for the service."""
    environ = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1", "A": "b"}
    Systemd.from_environ(Clock(), environ)
    assert environ == {"A": "b"}


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [
        pytest.param("3000000", str(os.getpid()), 3.0, id="own"),
        ("3000000", "", 3.0),
        ("3000000", "1", 0.0),
        ("", "", 0.0),
        ("soon", "", 0.0),
    ],
)
def test_the_watchdog_is_fed_at_half_its_time_when_it_is_ours(manager: Manager, usec, pid, seconds):
    """From the reactor's own timer, from ready on."""
    clock = Clock()
    environ = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": usec, "WATCHDOG_PID": pid}
    systemd = Systemd.from_environ(clock, environ)
    assert systemd.watchdog == seconds
    assert clock.getDelayedCalls() == []
    systemd.ready("well")
    systemd.ready("reloaded")
    assert manager.hear() == ["READY=1", "STATUS=well"]
    if not seconds:
        assert clock.getDelayedCalls() == []
        return
    assert manager.hear() == ["WATCHDOG=1"]
    assert manager.hear() == ["READY=1", "STATUS=reloaded"]
    for _ in range(3):
        (call,) = clock.getDelayedCalls()
        assert call.getTime() - clock.seconds() == seconds / 2
        clock.advance(seconds / 2)
        assert manager.hear() == ["WATCHDOG=1"]


def test_a_status_is_one_line_whatever_is_in_it(manager: Manager):
    systemd = Systemd(Clock(), manager.address)
    systemd.ready("a\nMAINPID=1")
    assert manager.hear() == ["READY=1", "STATUS=a MAINPID=1"]


def test_whoever_was_succeeded_is_silent(manager: Manager):
    clock = Clock()
    systemd = Systemd(clock, manager.address, 2.0)
    systemd.ready("well")
    systemd.succeeded_by(42)
    systemd.stopping("done")
    assert [manager.hear()[0] for _ in range(3)] == ["READY=1", "WATCHDOG=1", "MAINPID=42"]
    clock.advance(10)
    assert manager.silent(0.01)


def test_a_systemd_that_is_gone_is_logged_once_and_harms_nothing(tmp_path: Path):
    """Until it was there again: that it is gone once more is logged once more."""
    systemd = Systemd(Clock(), f"{tmp_path}/notify")
    with capture_logs() as events:
        for _ in range(3):
            systemd.ready("well")
        assert [event["event"] for event in events] == ["systemd.unreachable"]
        manager = Manager(systemd.address)
        with manager.socket:
            systemd.ready("well")
            assert manager.hear()[0] == "READY=1"
        for _ in range(3):
            systemd.stopping("done")
    assert [event["event"] for event in events] == ["systemd.unreachable"] * 2


def test_a_systemd_that_takes_nothing_holds_up_nobody(manager: Manager, monkeypatch: pytest.MonkeyPatch):
    """Its socket is full: the reactor waits for a moment, and goes on."""
    monkeypatch.setattr("halfsync.life.systemd.PATIENCE", 0.01)
    address = "\0" + manager.address[1:] if manager.address.startswith("@") else manager.address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filling:
        filling.settimeout(0)
        with suppress(BlockingIOError):
            while True:
                filling.sendto(b"x", address)
    with capture_logs() as events:
        Systemd(Clock(), manager.address).stopping("done")
    assert [event["event"] for event in events] == ["systemd.unreachable"]


def test_a_life(manager: Manager):
    """Ready with what it listens on, reloading with the time, stopping with the reason."""
    code = """
    import os
    from halfsync.endpoints.listener import Listener
    from twisted.internet.protocol import Factory
    assert "NOTIFY_SOCKET" in os.environ
    def parts(process):
        assert "NOTIFY_SOCKET" not in os.environ
        listen = ["tcp:0:interface=127.0.0.1"]
        process.add(Listener("x", flag="x", endpoints=listen, factory=Factory(), reactor=process.reactor))
    main(parts)
    """
    with child(code, more_environ={"NOTIFY_SOCKET": manager.address}) as service:
        service.wait_for("service.started")
        ready, status = manager.hear()
        assert ready == "READY=1"
        assert status.startswith("STATUS=listening on tcp:127.0.0.1:")
        before = time.monotonic_ns() // 1000
        service.signal(signal.SIGHUP)
        reloading, when, _ = manager.hear()
        assert reloading == "RELOADING=1"
        assert before <= int(when.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
        assert manager.hear() == [ready, status]
        service.signal(signal.SIGTERM)
        assert manager.hear() == ["STOPPING=1", "STATUS=draining for up to 30 s: SIGTERM"]
        assert service.end()[0] == 0


def test_a_reload_that_was_refused_is_in_the_status(manager: Manager, tmp_path):
    """`systemctl status` says that what runs is not what stands in the files, until a reload takes all."""
    file = tmp_path / "conf.ini"
    file.write_text("")
    code = """
    class Prices(Part):
        count = 0
        def reload(self):
            self.count += 1
            return ["prices.csv: line 3 is none"] if self.count == 1 else None
    class Broken(Part):
        def reload(self):
            if process.part("prices").count == 1:
                raise KeyError("x")
    def parts(made):
        global process
        process = made
        process.add(Prices("prices"))
        process.add(Broken("broken"))
    main(parts)
    """
    with child(code, f"--config={file}", more_environ={"NOTIFY_SOCKET": manager.address}) as service:
        service.wait_for("service.started")
        assert manager.hear() == ["READY=1", "STATUS=listening on nothing"]
        file.write_text("[log]\nlevel = loud\n")
        service.signal(signal.SIGHUP)
        assert manager.hear()[0] == "RELOADING=1"
        ready, status = manager.hear()
        assert ready == "READY=1"
        assert status == (
            "STATUS=listening on nothing; "
            f"refused at HUP: --log.level: 'loud' is none of debug, info, warning, error (file {file}); "
            "refused at HUP: prices.csv: line 3 is none; "
            "refused at HUP: broken: a bug, whose traceback is in the log"
        )
        file.write_text("")
        service.signal(signal.SIGHUP)
        assert manager.hear()[0] == "RELOADING=1"
        assert manager.hear() == ["READY=1", "STATUS=listening on nothing"]


def test_a_reload_during_the_start_does_not_tell_that_it_is_done(manager: Manager):
    """Ready is told once, when every part is."""
    code = """
    import os, signal
    from twisted.internet import reactor
    class Late(Part):
        async def ready(self):
            os.kill(os.getpid(), signal.SIGHUP)
            heard = Deferred()
            reactor.callFromThread(heard.callback, None)
            await heard
    main(lambda process: process.add(Late("late")))
    """
    with child(code, more_environ={"NOTIFY_SOCKET": manager.address}) as service:
        service.wait_for("service.reloaded")
        service.wait_for("service.started")
        assert manager.hear() == ["READY=1", "STATUS=listening on nothing"]
        service.signal(signal.SIGTERM)
        assert manager.hear()[0] == "STOPPING=1"
        assert service.end()[0] == 0


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("StartError('--web.listen: taken')", "--web.listen: taken"),
        ("ZeroDivisionError", "a bug, whose traceback is in the log"),
    ],
)
def test_why_it_did_not_start_is_its_status(manager: Manager, error, status):
    """What the machine does not allow, or that there is a bug."""
    code = f"""
    class Taken(Part):
        async def start(self):
            raise {error}
    main(lambda process: process.add(Taken("taken")))
    """
    with child(code, more_environ={"NOTIFY_SOCKET": manager.address}) as service:
        assert manager.hear() == [f"STATUS=not started: {status}"]
        assert service.end()[0] == 1


def test_a_reactor_that_is_stuck_feeds_no_watchdog(manager: Manager):
    """So systemd sends SIGABRT; the process then shows where it was stuck, and can be started again."""
    code = """
    import signal, threading
    class Stuck(Part):
        async def start(self):
            from twisted.internet import reactor
            signal.signal(signal.SIGWINCH, lambda *_: reactor.callFromThread(self.block))
        def block(self):
            print("stuck", flush=True)
            threading.Event().wait()
    main(lambda process: process.add(Stuck("stuck")))
    """
    environ = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "200000"}
    with child(code, more_environ=environ) as service:
        assert manager.hear()[0] == "READY=1"
        assert manager.hear() == ["WATCHDOG=1"]
        assert manager.hear() == ["WATCHDOG=1"]
        service.signal(signal.SIGWINCH)
        service.wait_for("stuck")
        assert manager.silent(0.5)
        service.signal(signal.SIGABRT)
        code, _, err = service.end()
        assert code == -signal.SIGABRT
        assert "in block" in err
