"""deploy/systemd, as shipped, run by systemd: started, restarted, reloaded, stuck, killed, refused, stopped.

Every test begins with the service running; what a test changes, it changes by a drop-in.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from bench.restarts import Clients

from .conftest import ROOT, pythons
from .machine import Machine, lacking

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "hello-service"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with systemd, or a reason why there is none."""
    # The one that the pex is made for (conftest.make).
    if reason := lacking(next(iter(pythons()))):
        pytest.skip(reason)
    machine = Machine(tmp_path_factory.mktemp("machine"))
    try:
        machine.boot()
        yield machine
    finally:
        machine.power_off()


@pytest.fixture(scope="module")
def deployed(machine: Machine, pex: Path, tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """The service, put there as the unit says at its top, to the letter."""
    return Deployed(machine, pex, tmp_path_factory.mktemp("keys"))


@pytest.fixture
def service(deployed: Deployed) -> Iterator[Deployed]:
    """The service, running as shipped."""
    deployed.as_shipped()
    yield deployed
    deployed.drop_in.unlink(missing_ok=True)


class Deployed:
    """The service on the machine."""

    def __init__(self, machine: Machine, pex: Path, keys: Path) -> None:
        self.machine = machine
        self.network = machine.network
        self.journal = machine.journal
        etc = machine.root / "etc"
        self.drop_in = etc / "systemd" / "system" / f"{NAME}.service.d" / "test.conf"
        self._key = keys / "key"
        deploy = pex.parents[1] / "deploy" / "systemd"
        for unit in deploy.iterdir():
            shutil.copy(unit, etc / "systemd" / "system")
        (machine.root / "opt" / NAME).mkdir()
        shutil.copy(pex, machine.root / "opt" / NAME)
        (command,) = re.findall(r"(?m)^#   (.*systemctl enable .*)", (deploy / f"{NAME}.service").read_text())
        machine.run("sh", "-ec", command)
        # The manhole, as the project's README says.
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self._key], check=True)
        (etc / NAME).mkdir()
        shutil.copy(self._key.with_suffix(".pub"), etc / NAME / "authorized_keys")

    def as_shipped(self) -> None:
        """Bring it back, whatever the last test did to it."""
        self.drop_in.unlink(missing_ok=True)
        self.systemctl("daemon-reload")
        self.systemctl("reset-failed")
        self.systemctl("restart", f"{NAME}.socket", NAME)

    def systemctl(self, *words: str, check: bool = True) -> str:
        return self.machine.run("systemctl", *words, check=check)

    def change(self, settings: str) -> None:
        """Restart it with other settings."""
        self.drop_in.parent.mkdir(exist_ok=True)
        self.drop_in.write_text(f"[Service]\n{settings}\n")
        self.systemctl("daemon-reload")
        self.systemctl("restart", NAME, check=False)

    def show(self, *names: str, unit: str = NAME) -> list[str]:
        """Return some properties of a unit."""
        found = dict(
            line.split("=", 1)
            for line in self.systemctl("show", f"--property={','.join(names)}", unit).splitlines()
        )
        return [found[name] for name in names]

    def inside(self, line: str) -> str:
        """Run a line at the manhole, which is opened with a signal when it is closed."""
        if not json.loads(self.network.get("/manhole", 8081)[1])["open"]:
            mark = len(self.journal)
            self.systemctl("kill", "--signal=USR2", "--kill-who=main", NAME)
            self.journal.wait_for('"event": "manhole.opened"', mark)
        return self.network.ssh(self._key, NAME, line)

    async def clients(self, port: int = 8080) -> Clients:
        """Put load on a port."""

        async def connect() -> Any:
            sock = await asyncio.to_thread(self.network.connect, port)
            sock.settimeout(0)
            return await asyncio.open_connection(sock=sock)

        return Clients(connect)


def test_it_starts_as_shipped(service: Deployed) -> None:
    """The socket is systemd's, answers are the service's, and the status says what it listens on."""
    assert service.network.get("/?name=Ada") == (200, "Hello, Ada!\n")
    assert service.network.get("/health/ready", 8081)[0] == 200
    assert service.show("ActiveState", "Type", "NRestarts") == ["active", "notify", "0"]
    (status,) = service.show("StatusText")
    assert status == "listening on tcp:127.0.0.1:8081, fd:3 (tcp:[::]:8080)"
    assert "fd:3" in service.systemctl("status", NAME)


def test_the_example_task_finds_its_own_page(service: Deployed) -> None:
    """The socket is an IPv6 one that takes IPv4 too; the example's check of its own page succeeds on it."""
    mark = len(service.journal)
    service.systemctl("restart", NAME)
    mark = service.journal.wait_for('"event": "(page.checked|task.failed)"', mark)
    assert '"url": "http://127.0.0.1:8080", "status": 200' in service.journal[mark - 1]


def test_a_connection_starts_it(service: Deployed) -> None:
    """When only the socket is there, the first request waits for the start and is answered."""
    service.systemctl("stop", NAME)
    assert service.show("ActiveState") == ["inactive"]
    assert service.network.get()[0] == 200
    assert service.show("ActiveState") == ["active"]


def test_a_restart_loses_no_request(service: Deployed) -> None:
    """Clients that keep their connections and others that make new ones see no error in three restarts."""

    async def restarts() -> Clients:
        load = await service.clients()
        for _ in range(3):
            asked = load.kept.requests + load.fresh.requests
            await asyncio.to_thread(service.systemctl, "restart", NAME)
            await asyncio.to_thread(service.network.get)
            assert load.kept.requests + load.fresh.requests > asked
        await load.stop()
        return load

    (before,) = service.show("MainPID")
    load = asyncio.run(asyncio.wait_for(restarts(), 60))
    assert service.show("MainPID") != [before]
    assert load.kept.lost + load.fresh.lost == []


def test_a_reload_is_seen_through(service: Deployed) -> None:
    """systemd hears that a reload begins and that it ends, and the same process runs on."""
    (before,) = service.show("MainPID")
    service.systemctl("log-level", "debug")
    mark = len(service.journal)
    try:
        service.systemctl("reload", NAME)
        told = service.journal.wait_for(rf"notification message from PID {before} \(RELOADING=1", mark)
        service.journal.wait_for(rf"notification message from PID {before} \(READY=1, STATUS=listening", told)
        # Its own line, in JSON, and systemd's.
        service.journal.wait_for('"event": "service.reloaded"', mark)
        service.journal.wait_for("^Reloaded hello-service", mark)
    finally:
        service.systemctl("log-level", "info")
    assert service.show("MainPID", "SubState") == [before, "running"]


def test_a_stuck_event_loop_is_ended_and_started_again(service: Deployed) -> None:
    """The watchdog bites: the stacks are in the journal, and another process serves."""
    service.change("WatchdogSec=3")
    (before,) = service.show("MainPID")
    mark = len(service.journal)
    service.inside("import time; time.sleep(9)")
    mark = service.journal.wait_for(r"^hello-service\.service: Watchdog timeout", mark)
    mark = service.journal.wait_for("^Fatal Python error: Aborted", mark)
    mark = service.journal.wait_for("most recent call first", mark)
    service.journal.wait_for("^Started hello-service", mark)
    assert service.network.get()[0] == 200
    after, restarts = service.show("MainPID", "NRestarts")
    assert (after != before, restarts) == (True, "1")


def test_a_killed_one_is_started_again(service: Deployed) -> None:
    """kill -9: requests wait in the socket meanwhile, and none is refused."""
    mark = len(service.journal)
    service.systemctl("kill", "--signal=KILL", "--kill-who=main", NAME)
    mark = service.journal.wait_for("^hello-service.service: Failed with result 'signal'", mark)
    assert service.network.get()[0] == 200
    assert service.show("NRestarts", "SubState") == ["1", "running"]


def test_a_failing_start_is_tried_again_for_ever(service: Deployed) -> None:
    """Exit code 1, such as a port that is taken: what is in the way may go away; requests wait in the socket.

    The start limit is never met, however fast the machine: it would close the socket, until somebody comes.
    """
    pause, interval, burst = service.show("RestartUSec", "StartLimitIntervalUSec", "StartLimitBurst")
    assert int(pause.removesuffix("s")) * int(burst) >= int(interval.removesuffix("s"))
    mark = len(service.journal)
    service.machine.run("systemd-run", "--unit=squatter", "/usr/bin/python3", "-c", SQUATTER)
    try:
        service.change('Environment="HELLO_SERVICE_ADMIN_LISTEN=tcp:8181:interface=127.0.0.1"')
        with service.network.connect(8080) as waiting:
            waiting.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            mark = service.journal.wait_for("status=1/FAILURE", mark)
            service.journal.wait_for("restart counter is at 2", mark)
            service.systemctl("stop", "squatter")
            assert waiting.makefile("rb").readline().startswith(b"HTTP/1.1 200 ")
    finally:
        service.systemctl("stop", "squatter", check=False)


SQUATTER = """\
import socket, time
taken = socket.create_server(("127.0.0.1", 8181))
time.sleep(600)
"""


def test_wrong_flags_are_not_tried_again(service: Deployed) -> None:
    """Exit code 2: the same flags are as wrong the next time."""
    mark = len(service.journal)
    service.change("Environment=HELLO_SERVICE_WEB_THREADS=many")
    service.journal.wait_for("--web.threads: 'many' is no whole number", mark)
    assert service.show("ActiveState", "NRestarts", "ExecMainStatus") == ["failed", "0", "2"]
    # A socket with nobody behind it starts the service for each that connects: the start limit ends that.
    with service.network.connect(8080):
        service.journal.wait_for(
            r"^hello-service\.socket: Failed with result 'service-start-limit-hit'", mark
        )
    # With the flags put right, one command brings back both.
    service.drop_in.unlink()
    service.systemctl("daemon-reload")
    service.systemctl("reset-failed", NAME)
    service.systemctl("restart", NAME)
    assert service.network.get()[0] == 200


def test_it_may_do_little(service: Deployed) -> None:
    """It is a user made for the run, who writes to its cache and state, and neither sees nor does more."""
    assert service.inside("1 + 1") == "2"
    (pid,) = service.show("MainPID")
    status = service.machine.run("cat", f"/proc/{pid}/status")
    uid = int(re.findall(r"^Uid:\t(\d+)", status, re.MULTILINE)[0])
    # The range of DynamicUser=: systemd.exec(5).
    assert 61184 <= uid <= 65519
    for capabilities in ("CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert f"{capabilities}:\t{0:016x}" in status
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status

    for statement, error in {
        "open('/etc/x', 'w')": "Read-only file system",
        "open('/var/x', 'w')": "Read-only file system",
        "os.listdir('/root')": "Permission denied",
        "os.mknod('/tmp/x', 0o020600, 1)": "Operation not permitted",
        "os.setuid(0)": "Operation not permitted",
        "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)": "Address family not supported by protocol",
        "os.sched_setaffinity(0, {0})": "Operation not permitted",
        "os.nice(-1)": "Operation not permitted",
    }.items():
        attempt = f"import os, socket\ntry: {statement}\nexcept OSError as e: print(e.strerror)"
        assert service.inside(f"exec({attempt!r})") == error, statement
    assert service.inside("import os; os.path.exists('/dev/kmsg')") == "False"
    # Other people's processes are not to be seen: ProtectProc=.
    assert service.inside("import os; os.path.exists('/proc/1')") == "False"
    assert service.inside("open('/tmp/x', 'w').write('x')") == "1"
    assert not (service.machine.root / "tmp" / "x").exists()


def test_what_it_keeps_is_where_it_may_write(service: Deployed) -> None:
    """The manhole's host key is in the state folder, the unpacked pex in the cache, both closed to others."""
    service.inside("1")
    for place in ("var/lib/private", "var/cache/private"):
        assert (service.machine.root / place).stat().st_mode & 0o777 == 0o700
    key = service.machine.root / "var/lib/private" / NAME / "manhole_host_key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert list((service.machine.root / "var/cache/private" / NAME / "pex" / "venvs").iterdir())
    assert service.inside("import sys; sys.prefix").strip("'").startswith(f"/var/cache/{NAME}/pex/venvs/")


def test_it_stops_cleanly(service: Deployed) -> None:
    """`systemctl stop` finishes what is in flight, and the exit code is 0."""
    mark = len(service.journal)
    service.systemctl("stop", NAME)
    service.journal.wait_for('"event": "service.draining"', mark)
    assert service.show("ActiveState", "Result", "ExecMainCode", "ExecMainStatus") == [
        *("inactive", "success", "1", "0")
    ]


def test_a_reload_can_be_a_handover(service: Deployed) -> None:
    """With the drop-in of docs/operations.md, a reload starts a successor, which is the service then.

    No request is lost, the successor feeds the watchdog, and is stopped as the service.
    """

    async def reloads() -> Clients:
        load = await service.clients(8090)
        for _ in range(2):
            (before,) = await asyncio.to_thread(service.show, "MainPID")
            mark = len(service.journal)
            await asyncio.to_thread(service.systemctl, "reload", NAME)
            await asyncio.to_thread(service.journal.wait_for, '"event": "service.started"', mark)
            await asyncio.to_thread(service.journal.wait_for, '"event": "service.stopped"', mark)
            assert service.show("MainPID") != [before]
        await load.stop()
        return load

    (drop_in,) = re.findall(
        r"```ini\n\[Service\]\n(.*?)```", (ROOT / "docs" / "operations.md").read_text(), re.DOTALL
    )
    # The socket unit, which this one would do without, has the port.
    service.change("WatchdogSec=3\n" + drop_in.replace("<slug>", NAME).replace("tcp:8080", "tcp:8090"))
    load = asyncio.run(asyncio.wait_for(reloads(), 60))
    assert load.kept.lost + load.fresh.lost == []
    assert load.kept.requests + load.fresh.requests > 30
    service.systemctl("log-level", "debug")
    mark = len(service.journal)
    try:
        (pid,) = service.show("MainPID")
        service.journal.wait_for(rf"notification message from PID {pid} \(WATCHDOG=1", mark)
    finally:
        service.systemctl("log-level", "info")
    service.systemctl("stop", NAME)
    assert service.show("Result", "NRestarts", "ExecMainStatus") == ["success", "0", "0"]
