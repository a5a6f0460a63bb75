"""The manhole of a real pex, on each Python present, as a person at a terminal meets it."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh
import paramiko
import pytest

from terminal import Screen

from .conftest import Bake, furnish, make, pythons, slow_on_others
from .test_pex import Running, path_for

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module", params=[pytest.param(each, marks=slow_on_others(each)) for each in pythons()])
def project(request: pytest.FixtureRequest, bake: Bake) -> Path:
    """A project with its pex, for one of the Pythons."""
    python = pythons()[request.param]
    project = furnish(bake(python_version=request.param), python)
    # The example has no secret; this one is looked for where it must not be.
    tasks = project / "src" / "hello_service" / "tasks.py"
    secret = '    token = flag.String("A secret.", default="", secure=True)\n'
    tasks.write_text(tasks.read_text().replace("    interval = ", f"{secret}    interval = ", 1))
    make(project, "pex", python=python)
    return project


@contextmanager
def run(project: Path, folder: Path, *flags: str) -> Iterator[Running]:
    """Run its pex in a folder with keys, the manhole closed."""
    assert shutil.which("ssh"), "there is no ssh client. Debian, Ubuntu: apt install openssh-client"
    for name in ("key", "stranger", "far", "late", "restricted"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    ports = [f"--{name}.listen=tcp:0:interface=127.0.0.1" for name in ("web", "admin")]
    pex = project / "dist" / "hello-service.pex"
    running = Running(folder, pex, path_for(pex), *ports, "--manhole.host_key=host_key", *flags)
    with running.process:
        try:
            running.wait_for("service.started")
            yield running
        finally:
            running.process.kill()


@pytest.fixture(scope="module")
def running(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One that listens on a port when it is opened."""
    flags = ("--manhole.listen=tcp:0:interface=127.0.0.1", "--manhole.authorized_keys=key.pub")
    with run(project, tmp_path_factory.mktemp("elsewhere"), *flags) as running:
        yield running


@pytest.fixture(scope="module")
def taken(project: Path) -> Iterator[socket.socket]:
    """A port that somebody else listens on, until it is closed; one for each project."""
    with socket.create_server(("127.0.0.1", 0)) as busy:
        yield busy


@pytest.fixture(scope="module")
def other(project: Path, tmp_path_factory: pytest.TempPathFactory, taken: socket.socket) -> Iterator[Running]:
    """One that listens on a UNIX socket and a port, which is taken, and runs statements in threads."""
    folder = tmp_path_factory.mktemp("other")
    listen = f"--manhole.listen=unix:{folder}/manhole.sock tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
    flags = (
        listen,
        "--manhole.authorized_keys=authorized_keys",
        "--manhole.threaded",
        "--tasks.token=hunter2",
    )
    with run(project, folder, *flags) as running:
        yield running


def listening(running: Running) -> int:
    """Count the sockets on which a process listens."""
    own = set()
    for each in Path(f"/proc/{running.process.pid}/fd").iterdir():
        # A connection may end in the meantime; what listens does not.
        with suppress(FileNotFoundError):
            own.add(str(each.readlink()))
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    # proc(5): the state of a listening socket is 0A; the tenth column is its inode.
    return len([row for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in own])


def open_manhole(running: Running) -> None:
    """Open it by the signal; afterwards `Running.port` knows where it is."""
    running.process.send_signal(signal.SIGUSR2)
    assert re.fullmatch(r"ssh -p \d+ \S+@127.0.0.1", running.wait_for("manhole.opened")["ssh"])


def command(
    running: Running, *rest: str, key: str = "key", user: str = "", level: str = "ERROR"
) -> list[str]:
    """Return the ssh command of a person with a key."""
    options = ["IdentitiesOnly=yes", "BatchMode=yes", "StrictHostKeyChecking=accept-new", f"LogLevel={level}"]
    options.append(f"UserKnownHostsFile={running.folder}/known_hosts")
    each = [word for option in options for word in ("-o", option)]
    where = ["-p", running.port("manhole"), "-l", user or getpass.getuser(), "127.0.0.1"]
    return ["ssh", "-F", "none", "-i", str(running.folder / key), *each, *where, *rest]


def ssh(running: Running, *rest: str, stdin: str = "", **how: str) -> subprocess.CompletedProcess[str]:
    """Run the ssh command of a person with a key."""
    return subprocess.run(
        command(running, *rest, **how), input=stdin, capture_output=True, text=True, timeout=60, check=False
    )


def test_closed_it_costs_nothing(running: Running) -> None:
    """No port; that nothing of conch is imported is seen when it is open, by what came first."""
    assert listening(running) == 2
    assert json.loads(running.get("admin", "/manhole"))["addresses"] == []


def test_a_session(running: Running) -> None:  # noqa: PLR0915  it is one session
    """Everything that is promised at the prompt, typed by a person and read back from the terminal."""
    open_manhole(running)
    with socket.create_connection(("127.0.0.1", int(running.port("web")))) as client:
        screen = Screen(command(running, "-tt"))
        screen.resize(100, 40)

        def enter(line: str, *expected: str) -> str:
            """Type a line and wait for what must be shown, in this order, and the next prompt."""
            screen.types(line + "\r")
            return "".join(screen.until(each) + each for each in (*expected, "\n>>> "))

        greeting = screen.until(">>> ")
        assert f"process {running.process.pid}" in greeting
        names = (
            "service tasks flags requests() connections() threads() stalls() refs(x) reactor help(x) exit()"
        )
        names += " in_thread(f,*args) profile(5) memory() log(level,for_=s)"
        assert set(names.split()) <= {
            line[2:22].replace(" ", "") for line in greeting.replace("\r", "").split("\n")
        }

        # In the order in which their import ended: the service's own ended, and there was nothing of conch.
        enter("import sys; order = list(sys.modules); order = order[:order.index('hello_service.main')]")
        enter("[name for name in order if 'conch' in name], len(order) > 200", "([], True)")
        enter("help()", "profile(5)          where the threads")
        enter("help(web.addresses)", "Give each endpoint")

        # What is there, and what it is at
        enter("service", "hello-service", ": running", "  web: WebListener")
        enter("gateway = web.site.context.handler")
        enter("import threading; gate, app = threading.Event(), gateway.app")
        enter("gateway.app = lambda *call: gate.wait(60) and app(*call)")
        client.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        # Whichever thread was free; the task that fetches the front page may have had one.
        while (found := re.search(r"workers-\d+", enter("requests()"))) is None:
            pass
        worker = found[0]
        enter("requests()", "s  GET /slow  127.0.0.1:", f"  {worker}")
        connected = f"web  127.0.0.1:{client.getsockname()[1]}  "
        enter("connections()", connected, " s old  requests: 1  idle ", " s  GET /slow", "web: 1")
        enter("connections()", "manhole  127.0.0.1:", " s old  idle ")
        enter("threads()", "MainThread", f"{worker} (", "at work on GET /slow", "gate.wait(60)")
        enter("gate.set(); gateway.app = app")
        assert client.makefile("rb").readline().startswith(b"HTTP/1.1 404 ")
        enter("tasks", "check_page: every ", "runs, 0 failures")
        enter("await tasks['check_page'].run_now()")
        enter("flags.web.threads", "\n16")
        failing = '  File "halfsync/manhole/views.py", line '
        enter("flags.web.threads = 'many'", failing, "--web.threads: 'many' is no whole number")
        enter("refs(service)", "at")
        enter("log('debug', for_=0.2)", "everything is logged from debug on for 0.2 s")
        while '"info"' not in running.get("admin", "/log-level"):
            pass

        # The editor: completion, history, a block typed, a block pasted, a new size
        enter("flags.web.gree\t", "flags.web.greeting", "'Hello'")
        enter("40 + 2", "\n42")
        enter("\x1b[A", "40 + 2", "\n42")
        enter("_ + 1", "\n43")
        enter("for i in range(2):\r    print('line', i)\r", "\nline 0\nline 1")
        screen.types("\x1b[200~def f(x):\r    y = x\r\r    return y * 2\r\x1b[201~")
        enter("f(21)", "\n42")
        screen.resize(30, 40)
        widest = 100
        # The client tells the new size when it gets round to it.
        while widest > 30:
            screen.types("service.s\t\t")
            rows = [row.rpartition("\r")[2] for row in screen.until("\n>>> service.s").split("\n")]
            widest = max(map(len, rows))
            screen.types("\x03")
            screen.until("KeyboardInterrupt\n>>> ")
        assert len(rows) > 2
        screen.resize(100, 40)

        # Errors, waiting, interrupting, too much
        enter("1 / 0", "    1 / 0\n", "ZeroDivisionError: division by zero")
        enter("from twisted.internet import defer, task")
        enter("await task.deferLater(reactor, 0.01, lambda: 'waited')", "'waited'")
        screen.types("print('waits') or await defer.Deferred()\r")
        screen.until("\nwaits\n")
        screen.types("\x03")
        screen.until("KeyboardInterrupt\n>>> ")
        screen.types("threading.Timer(0, lambda: print('printed', 'later')).start()\r")
        screen.until("printed later\n>>> ")
        enter("print('x' * 200_000)", "x" * 1000, "[cut: a statement may print 100000 characters]")

        # It cannot stop the service by accident
        enter("import time")
        enter("& threading.current_thread().name[:7]", "\n'manhole'")
        enter("await in_thread(time.sleep, 0.01)")
        enter("time.sleep(1.1)", "[held the reactor for ", " s; with & before it")
        enter("stalls()", "UTC: ", "time.sleep(1.1)")
        enter("from halfsync.manhole import time_limit; bound = time_limit.time_limit.__wrapped__")
        enter("bound.__defaults__ = (0.3,)")
        enter("while True: pass\r", "while True: pass\n", "HeldTooLong: it held the reactor for 0.3 s;")
        enter("bound.__defaults__ = (held.LIMIT,)")
        enter("input()", "RuntimeError: a session has no standard input")

        # Where time and memory go
        enter("profile(0.2)", "samples in 0.2 s")
        enter("& sum(range(100_000_000)) and None")
        enter("memory()", "every allocation is traced")
        enter("kept = [bytes(1000) for _ in range(1000)]")
        enter("memory()", "grown since the first look:", "KiB")
        enter("memory(stop=True)", "allocations are not traced")

        state = json.loads(running.get("admin", "/manhole"))
        assert (state["open"], state["sessions"][0]["user"]) == (True, getpass.getuser())
        screen.types("exit(5)\r")
        assert screen.exit_code() == 5


def test_commands_and_scripts(running: Running) -> None:
    """Results on standard output, errors on standard error, and an exit code."""
    done = ssh(running, "6 * 7")
    assert (done.returncode, done.stdout, done.stderr) == (0, "42\n", "")
    script = "import sys\nfor i in range(2):\n    print(i)\nprint('no', file=sys.stderr)\nexit(3)\n"
    piped = ssh(running, "-T", stdin=script)
    assert (piped.returncode, piped.stdout, piped.stderr) == (3, "0\n1\n", "no\n")


def test_it_is_accounted_for(running: Running) -> None:
    """Log and metrics have every toggle, login, refusal and line; closed, its port and thread are gone."""
    assert ssh(running, "1", key="stranger").returncode == 255
    metrics = running.get("admin", "/metrics")
    for figure in ("manhole_open 1.0", "manhole_openings_total 1.0", "manhole_logins_total 3.0"):
        assert f"\n{figure}\n" in metrics, figure
    assert "\nmanhole_refusals_total 1.0\n" in metrics
    running.process.send_signal(signal.SIGUSR2)
    running.wait_for("manhole.closed")
    named = [each for each in running.events if each["event"] in ("manhole.login", "manhole.line")]
    assert all({"session", "user", "peer", "fingerprint"} <= each.keys() for each in named)
    assert len({each["session"] for each in named}) == 3
    assert next(each["line"] for each in named if each["event"] == "manhole.line").startswith("import sys")
    assert [each for each in running.events if each["logger"] in ("stdout", "stderr")] == []
    (refused,) = [each for each in running.events if each["event"] == "manhole.refused"]
    assert refused["reason"] == "the key is not in authorized_keys"
    # At most one in ten seconds, of whatever held the reactor first; the prompt has shown all of them.
    assert [each for each in running.events if each["event"] == "reactor.stalled"]
    assert listening(running) == 2
    assert ssh(running, "1").returncode == 255


def open_by_admin(running: Running, ttl: float) -> None:
    """Open it, or have it stay open, by the admin interface."""
    url = f"http://127.0.0.1:{running.port('admin')}/manhole"
    body = json.dumps({"open": True, "ttl": ttl}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="PUT")
    with urllib.request.urlopen(request, timeout=60) as got:
        assert json.loads(got.read())["open"]


def test_its_time(running: Running) -> None:
    """Opened for a time, and again for another one, it closes when that is over, with whoever is in."""
    open_by_admin(running, 600)
    opened = running.wait_for("manhole.opened")
    assert (opened["ttl"], opened["peer"].partition(":")[0]) == (600, "127.0.0.1")
    screen = Screen(command(running, "-tt"))
    screen.until(">>> ")
    open_by_admin(running, 1)
    assert running.wait_for("manhole.extended")["ttl"] == 1
    screen.until("[the manhole closes: its time is over]")
    assert screen.exit_code() == 1
    closed = running.wait_for("manhole.closed")
    assert (closed["reason"], closed["sessions"]) == ("its time is over", 1)
    assert running.get("web", "/") == "Hello, world!\n"


def test_it_opens_again(running: Running) -> None:
    """And the process stops cleanly with somebody in it, who is told."""
    open_manhole(running)
    screen = Screen(command(running, "-tt"))
    screen.until(">>> ")
    running.process.send_signal(signal.SIGTERM)
    screen.until("[the manhole closes: the process stops]")
    assert screen.exit_code() == 1
    running.process.communicate(timeout=60)
    assert running.process.returncode == 0


TERMS = {
    "far": 'from="10.0.0.0/8"',
    "late": 'expiry-time="20200101"',
    "restricted": 'restrict,from="127.0.0.1",expiry-time="20990101Z"',
}


def test_what_prevents_it_harms_nobody(other: Running, taken: socket.socket) -> None:
    """No file of keys, a port that is taken: a line of the log each, and the next signal tries again."""
    folder = other.folder
    problems = []
    for _ in range(2):
        other.process.send_signal(signal.SIGUSR2)
        problems.append(other.wait_for("manhole.open_failed")["problem"])
        lines = [(folder / "key.pub").read_text()]
        lines += [f"{options} {(folder / f'{name}.pub').read_text()}" for name, options in TERMS.items()]
        (folder / "authorized_keys").write_text("".join(lines))
        (folder / "authorized_keys").chmod(0o600)
    assert problems[0].startswith("--manhole.authorized_keys: 'authorized_keys': no such file; put the")
    assert problems[1].startswith("--manhole.listen: 'tcp:")
    assert "in use" in problems[1]
    assert not (folder / "manhole.sock").exists()
    assert other.get("web", "/") == "Hello, world!\n"
    taken.close()
    other.process.send_signal(signal.SIGUSR2)
    assert len(other.wait_for("manhole.opened")["ssh"]) == 2


def test_the_commands_can_be_pasted(other: Running, project: Path) -> None:
    """Those of the log and of the README, letter for letter, by a person whose ssh knows key and host."""
    usage = subprocess.run(["sh", "-c", "nc -h 2>&1"], capture_output=True, text=True, check=False).stdout
    if "-U" not in usage:
        pytest.skip("there is no nc that knows -U. Debian, Ubuntu: apt install netcat-openbsd")
    socket_path = other.folder / "manhole.sock"
    assert socket_path.stat().st_mode & 0o777 == 0o600
    opened = next(each for each in other.events if each["event"] == "manhole.opened")
    (documented,) = re.findall(
        r"`(ssh -o ProxyCommand[^`]*)`", (project / "README.md").read_text(), re.MULTILINE
    )
    config = other.folder / "config"
    config.write_text(f"""\
IdentityFile {other.folder}/key
IdentitiesOnly yes
StrictHostKeyChecking accept-new
UserKnownHostsFile {other.folder}/known_hosts
""")
    programs = other.folder / "bin"
    programs.mkdir()
    (programs / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {config} "$@"\n')
    (programs / "ssh").chmod(0o755)
    documented = documented.replace("/run/hello-service/manhole.sock", str(socket_path))
    for line in (*opened["ssh"], documented):
        screen = Screen(["env", f"PATH={programs}:{os.environ['PATH']}", "sh", "-c", line])
        screen.until(">>> ")
        screen.types("6 * 7\r")
        screen.until("\n42\n>>> ")
        screen.types("\x04")
        assert screen.exit_code() == 0
    peers = [each["peer"].partition(":")[0] for each in other.events if each["event"] == "manhole.login"]
    while len(peers) < 3:
        peers.append(other.wait_for("manhole.login")["peer"].partition(":")[0])
    assert peers == ["unix", "127.0.0.1", "unix"]


def test_each_key_on_its_terms(other: Running) -> None:
    """`from=`, `expiry-time=` and `restrict`; the user name has to be right, too; the log has who tried."""
    assert ssh(other, "40 + 2", key="restricted").stdout == "42\n"
    denied = ssh(other, "-tt", key="restricted", level="INFO")
    assert "PTY allocation request failed" in denied.stderr
    for key, user, reason in (
        ("far", getpass.getuser(), "the key may not come from this address (from)"),
        ("late", getpass.getuser(), "the key has expired (expiry-time)"),
        ("key", "somebody", "not the user's name"),
    ):
        assert ssh(other, "1", key=key, user=user).returncode == 255
        refused = other.wait_for("manhole.refused")
        assert (refused["user"], refused["reason"]) == (user, reason)
        shown = subprocess.check_output(["ssh-keygen", "-lf", other.folder / f"{key}.pub"], text=True)
        assert refused["fingerprint"] == shown.split()[1]
        assert refused["peer"].startswith("127.0.0.1:")


def test_a_secret_stays_one(other: Running, project: Path) -> None:
    """It is masked wherever flags are shown, and in the log of the line that sets it."""
    assert ssh(other, "flags.tasks.token, repr(flags).count('hunt' + 'er')").stdout == "('********', 0)\n"
    assert ssh(other, "flags.tasks.token = 'hunter3'; flags.tasks.token").stdout == "'********'\n"
    assert other.wait_for("flags.set")["value"] == "********"
    lines = [each["line"] for each in other.events if each["event"] == "manhole.line"]
    assert lines[-1] == "flags.tasks.token = '********'; flags.tasks.token"
    shown = other.get("admin", "/flags")
    assert json.loads(shown)["tasks.token"]["overrode"][0] == {"source": "command line", "value": "********"}
    pex = project / "dist" / "hello-service.pex"
    printed = subprocess.run(
        ["env", f"PATH={path_for(pex)}", pex, "--print_config", "--tasks.token=hunter2"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "tasks.token = ********  (command line" in printed.stdout
    assert "hunter" not in printed.stdout + shown + json.dumps(other.events)


def test_other_clients_and_an_auditor(other: Running) -> None:
    """asyncssh and paramiko get in as OpenSSH does; ssh-audit finds nothing that it fails."""
    port, key = int(other.port("manhole")), str(other.folder / "key")

    async def visit() -> str:
        where = {"username": getpass.getuser(), "known_hosts": None, "config": None}
        async with asyncssh.connect("127.0.0.1", port, client_keys=[key], **where) as connection:
            return str((await connection.run("6 * 7")).stdout)

    assert asyncio.run(asyncio.wait_for(visit(), 60)) == "42\n"
    with paramiko.SSHClient() as client:
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        client.connect("127.0.0.1", port, getpass.getuser(), key_filename=key, allow_agent=False, timeout=60)
        assert client.exec_command("6 * 7", timeout=60)[1].read() == b"42\n"
    audit = Path(sys.executable).with_name("ssh-audit")
    words = [audit, "--skip-rate-test", "--no-colors", "-p", str(port), "127.0.0.1"]
    told = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False).stdout
    assert "(kex) curve25519-sha256 " in told
    assert "[fail]" not in told, told


def test_statements_in_threads(other: Running) -> None:
    """As its flag says: what blocks holds nobody up, and Ctrl-C ends it."""
    screen = Screen(command(other, "-tt"))
    assert "with neither, in a thread unless it awaits" in screen.until(">>> ")
    screen.types("while True: pass\r\r")
    screen.until("... ")
    assert ssh(other, "! __import__('threading').current_thread().name").stdout == "'MainThread'\n"
    assert other.get("web", "/") == "Hello, world!\n"
    screen.types("\x03")
    screen.until("KeyboardInterrupt\n>>> ")
    screen.types("__import__('threading').current_thread().name[:7]\r")
    screen.until("'manhole'\n>>> ")
    screen.types("\x04")
    assert screen.exit_code() == 0
