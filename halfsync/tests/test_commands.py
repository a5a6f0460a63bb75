"""`run NAME` and `--probe`: what a program does instead of serving."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from children import SOURCES, running

SERVICE = """
import sys
from halfsync import About, Admin, Part, flag, flags, get_logger, run

@flags.declare(flag.namespace(__name__))
class FLAGS:
    url = flag.String("A database.", default="none")

log = get_logger("shop")

def migrate(arguments):
    '''Bring the database up to date.'''
    log.info("shop.migrated", url=FLAGS.url)
    print("migrated", *arguments)
    return 4 if "fail" in arguments else None

async def fetch(arguments):
    from twisted.internet import reactor
    from twisted.internet.task import deferLater
    await deferLater(reactor, 0, lambda: None)
    print("fetched on", type(reactor).__name__)

def broken(arguments):
    raise RuntimeError("no such table")

class Cold(Part):
    def problems(self):
        return ["cold"] if FLAGS.url == "cold" else []

def parts(process):
    process.add(Admin.from_flags(process))
    process.add(Cold("cache"))

sys.exit(run(About("shop"), parts, commands={"migrate": migrate, "fetch": fetch, "broken": broken}))
"""


def call(*argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SERVICE, *argv],
        env={"PYTHONPATH": str(SOURCES), "PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_command_runs_with_flags_and_log_and_without_a_listener():
    """Its output is its own; the log is on standard error; what it returns is the exit code."""
    done = call("--url=x", "--log.format=json", "run", "migrate", "now", "--all")
    assert (done.returncode, done.stdout) == (0, "migrated now --all\n")
    (event,) = [json.loads(line) for line in done.stderr.splitlines()]
    assert (event["event"], event["url"]) == ("shop.migrated", "x")
    assert call("run", "migrate", "fail").returncode == 4


@pytest.mark.parametrize(("kind", "name"), [("epoll", "EPollReactor"), ("asyncio", "AsyncioSelectorReactor")])
def test_a_coroutine_runs_in_the_reactor(kind, name):
    done = call(f"--service.reactor={kind}", "run", "fetch")
    assert (done.returncode, done.stdout) == (0, f"fetched on {name}\n")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR2"])
@pytest.mark.parametrize("command", ["migrate", "fetch"])
def test_a_signal_during_the_imports_keeps_a_command_from_being_run(command, name):
    """Ctrl-C is not lost, as the one before a service is not; what would toggle a manhole does no harm."""
    held = f"""
from halfsync.life.signals import hold_signals
hold_signals()
import os, signal
os.kill(os.getpid(), signal.{name})
"""
    done = subprocess.run(
        [sys.executable, "-c", held + SERVICE, "run", command],
        env={"PYTHONPATH": str(SOURCES), "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if name == "SIGUSR2":
        assert (done.returncode, done.stdout != "") == (0, True)
    else:
        assert (done.returncode, done.stdout) == (-getattr(signal, name), "")


def test_a_command_that_raises():
    """Its traceback is an event of the log, and the exit code is 1."""
    done = call("--log.format=json", "run", "broken")
    assert (done.returncode, done.stdout) == (1, "")
    (event,) = [json.loads(line) for line in done.stderr.splitlines()]
    assert event["event"] == "command.failed"
    assert "no such table" in event["exception"]


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["run"], "shop: run: no command; write run and one of broken, fetch, migrate\n"),
        (["run", "nope"], "shop: run 'nope': no such command; there is broken, fetch, migrate\n"),
        (["--nope=1", "run", "migrate"], "shop: --nope: no such flag; --help lists them\n"),
    ],
)
def test_what_is_wrong_is_one_line(argv, line):
    done = call(*argv)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line)


def test_help_lists_the_commands():
    done = call("--help")
    assert "  run migrate  Bring the database up to date.\n" in done.stdout
    assert "shop [--flag=value ...] run COMMAND [argument ...]" in done.stdout


def service(*argv: str):
    return running([sys.executable, "-c", SERVICE, "--log.format=json", *argv])


@pytest.mark.parametrize("url", ["warm", "cold"])
def test_a_probe_tells_whether_the_process_is_ready(url, tmp_path):
    """Exit 0 or 1, whatever proxy the environment names; over a UNIX socket too."""
    listen = f"--admin.listen=tcp:0:interface=127.0.0.1 unix:{tmp_path}/admin"
    with service(listen, f"--url={url}") as child:
        port = child.wait_for("admin.listening")["address"].rpartition(":")[2]
        child.wait_for("service.started")
        for where in (f"tcp:{port}:interface=127.0.0.1", f"unix:{tmp_path}/admin"):
            done = call(f"--admin.listen={where}", "--probe", http_proxy="http://127.0.0.1:9", ALL_PROXY="x")
            told = (0, "ready\n", "") if url == "warm" else (1, "", "not ready: cache: cold\n")
            assert (done.returncode, done.stdout, done.stderr) == told
        child.signal(signal.SIGTERM)
        assert child.end()[0] == 0


def test_a_probe_of_nobody(tmp_path):
    """What keeps it from asking is one line."""
    done = call(f"--admin.listen=unix:{tmp_path}/admin", "--probe")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"unix:{tmp_path}/admin: [Errno 2] No such file or directory\n"
    done = call("--admin.listen=", "--probe")
    assert done.returncode == 1
    assert "no address that another process can ask" in done.stderr
