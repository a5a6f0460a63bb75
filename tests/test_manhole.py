"""The manhole of a real pex, on each Python present, as a person at a terminal meets it."""

from __future__ import annotations

import getpass
import json
import re
import shutil
import signal
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from .conftest import Bake, furnish, make, pythons
from .terminal import Screen
from .test_pex import Running

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module", params=pythons())
def running(
    request: pytest.FixtureRequest, bake: Bake, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """A pex that runs on one of the Pythons, its manhole closed."""
    python = pythons()[request.param]
    project = furnish(bake(python_version=request.param), python)
    make(project, "pex", python=python)
    folder = tmp_path_factory.mktemp("elsewhere")
    assert shutil.which("ssh"), "there is no ssh client. Debian, Ubuntu: apt install openssh-client"
    for name in ("key", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    ports = [f"--{name}.listen=tcp:0:interface=127.0.0.1" for name in ("web", "admin", "manhole")]
    keys = ["--manhole.authorized_keys=key.pub", "--manhole.host_key=host_key"]
    running = Running(folder, project / "dist" / "hello-service.pex", *ports, *keys)
    with running.process:
        try:
            running.wait_for("service.started")
            yield running
        finally:
            running.process.kill()


def open_manhole(running: Running) -> None:
    """Open it by the signal; afterwards `Running.port` knows where it is."""
    running.process.send_signal(signal.SIGUSR2)
    assert re.fullmatch(r"ssh -p \d+ \S+@127.0.0.1", running.wait_for("manhole.opened")["ssh"])


def command(running: Running, *rest: str, key: str = "key") -> list[str]:
    """Return the ssh command of a person with a key."""
    options = ["IdentitiesOnly=yes", "BatchMode=yes", "StrictHostKeyChecking=accept-new", "LogLevel=ERROR"]
    options.append(f"UserKnownHostsFile={running.folder}/known_hosts")
    each = [word for option in options for word in ("-o", option)]
    where = ["-p", running.port("manhole"), "-l", getpass.getuser(), "127.0.0.1"]
    return ["ssh", "-F", "none", "-i", str(running.folder / key), *each, *where, *rest]


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
        assert {"requests()", "stalls()", "await profile(5)"} <= set(re.findall(r"  (\S.*?\))  ", greeting))

        # What is there, and what it is at
        enter("service", "hello-service", ": running", "  web: WebListener")
        enter("from hello_service import web as handlers")
        enter("import threading; gate, app = threading.Event(), handlers.app.wsgi_app")
        enter("handlers.app.wsgi_app = lambda *call: gate.wait(60) and app(*call)")
        client.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        while "workers-1" not in enter("requests()"):
            pass
        enter("requests()", "s  GET /slow  127.0.0.1:", "  workers-1")
        connected = f"web  127.0.0.1:{client.getsockname()[1]}  "
        enter("connections()", connected, " s old  requests: 1  idle ", " s  GET /slow", "web: 1")
        enter("connections()", "manhole  127.0.0.1:", " s old  idle ")
        enter("threads()", "MainThread", "workers-1 (", "at work on GET /slow", "gate.wait(60)")
        enter("gate.set(); handlers.app.wsgi_app = app")
        assert client.recv(100).startswith(b"HTTP/1.1 404 ")
        enter("tasks", "check_page: every ", "runs, 0 failures")
        enter("await tasks['check_page'].run_now()")
        enter("flags.web.threads", "\n16")
        failing = '  File "hello_service/chassis/manhole/views.py", line '
        enter("flags.web.threads = 'many'", failing, "--web.threads: 'many' is no whole number")
        enter("refs(service)", "at")
        enter("log('debug', for_=0.2)", "everything is logged from debug on for 0.2 s")

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
        enter("print('x' * 200_000)", "x" * 1000, "[cut: a statement may print 100000 characters]")

        # It cannot stop the service by accident
        enter("import time")
        enter("& threading.current_thread().name[:7]", "\n'manhole'")
        enter("await in_thread(time.sleep, 0.01)")
        enter("time.sleep(1.1)", "[held the reactor for 1.1 s; with & before it")
        enter("stalls()", "UTC: ", "time.sleep(1.1)")
        enter("input()", "RuntimeError: a session has no standard input")

        # Where time and memory go
        enter("await profile(0.2)", "samples in 0.2 s")
        enter("& sum(range(100_000_000)) and None")
        enter("await memory()", "every allocation is traced")
        enter("kept = [bytes(1000) for _ in range(1000)]")
        enter("await memory()", "grown since the first look:", "KiB")
        enter("await memory(stop=True)", "allocations are not traced")

        state = json.loads(running.get("admin", "/manhole"))
        assert (state["open"], state["sessions"][0]["user"]) == (True, getpass.getuser())
        screen.types("exit(5)\r")
        assert screen.exit_code() == 5


def test_commands_and_scripts(running: Running) -> None:
    """Results on standard output, errors on standard error, and an exit code."""
    run = subprocess.run(command(running, "6 * 7"), capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "42\n", "")
    script = "import sys\nfor i in range(2):\n    print(i)\nprint('no', file=sys.stderr)\nexit(3)\n"
    piped = subprocess.run(command(running, "-T"), input=script, capture_output=True, text=True, check=False)
    assert (piped.returncode, piped.stdout, piped.stderr) == (3, "0\n1\n", "no\n")


def test_it_is_accounted_for(running: Running) -> None:
    """Log and metrics have every toggle, login, refusal and line; closed, its port and thread are gone."""
    stranger = subprocess.run(command(running, "1", key="stranger"), capture_output=True, check=False)
    assert stranger.returncode == 255
    metrics = running.get("admin", "/metrics")
    for figure in ("manhole_open 1.0", "manhole_openings_total 1.0", "manhole_logins_total 3.0"):
        assert f"\n{figure}\n" in metrics, figure
    assert "\nmanhole_refusals_total 1.0\n" in metrics
    running.process.send_signal(signal.SIGUSR2)
    running.wait_for("manhole.closed")
    named = [each for each in running.events if each["event"] in ("manhole.login", "manhole.line")]
    assert all({"session", "user", "peer", "fingerprint"} <= each.keys() for each in named)
    assert len({each["session"] for each in named}) == 3
    assert next(each["line"] for each in named if each["event"] == "manhole.line") == "service"
    (refused,) = [each for each in running.events if each["event"] == "manhole.refused"]
    assert refused["reason"] == "the key is not in authorized_keys"
    stalls = [each for each in running.events if each["event"] == "reactor.stalled"]
    assert any("time.sleep(1.1)" in each["stack"][-1] for each in stalls)
    while '"stalls"' in running.get("admin", "/threads"):
        # It may be about to look at the reactor once more.
        pass
    assert subprocess.run(command(running, "1"), capture_output=True, check=False).returncode == 255


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
