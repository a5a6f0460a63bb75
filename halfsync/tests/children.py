"""Child processes for tests of what only a process of its own can show: signals, exit codes, imports."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "halfsync" / "src"

PRELUDE = """
import sys
from halfsync import flags
from halfsync import run
from halfsync.life import reactors
from halfsync.life.about import About
from halfsync.life.errors import StartError
from halfsync.life.parts import Part
from halfsync.life.process import Process
from twisted.internet.defer import Deferred
ABOUT = About(name="child", package="child", version="1", summary="A child of a test.")
def main(parts):
    sys.exit(run(ABOUT, parts))
"""

PATIENCE = 60
"""Seconds after which a child that does not do what is awaited has failed."""


class Child:
    """A process seen through its log: JSON lines on its standard output, read event by event.

    What is no JSON counts as an event of that name: a test's own `print`.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []
        self._errors: list[str] = []
        # Whoever reads one of two pipes must not keep the child from writing to the other.
        self._reader = threading.Thread(target=self._read_errors, daemon=True)
        self._reader.start()

    def wait_for(self, event: str) -> dict[str, Any]:
        """Read the log up to an event, and return it; one that never comes ends with the child's life."""
        assert self.process.stdout
        guard = threading.Timer(PATIENCE, self.process.kill)
        guard.start()
        try:
            for line in self.process.stdout:
                self.events.append(_event(line))
                if self.events[-1]["event"] == event:
                    return self.events[-1]
        finally:
            guard.cancel()
        raise AssertionError(f"no {event} among {self.events}; stderr: {self.errors()}")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def errors(self) -> str:
        """Return all of standard error, once the child has closed it."""
        self._reader.join(PATIENCE)
        return "".join(self._errors)

    def wait_for_error(self, text: str) -> None:
        """Wait until a text stands on standard error."""
        deadline = time.monotonic() + PATIENCE
        while text not in "".join(self._errors):
            assert time.monotonic() < deadline, f"no {text!r} on stderr: {self._errors}"
            time.sleep(0.01)

    def end(self) -> tuple[int, list[str], str]:
        """Wait until the child ends by itself; return its exit code, its last events' names, and stderr."""
        assert self.process.stdout
        guard = threading.Timer(PATIENCE, self.process.kill)
        guard.start()
        try:
            rest = [_event(line) for line in self.process.stdout]
            code = self.process.wait()
        finally:
            guard.cancel()
        self.events += rest
        return code, [each["event"] for each in rest], self.errors()

    def _read_errors(self) -> None:
        assert self.process.stderr
        self._errors.extend(self.process.stderr)


def _event(line: str) -> dict[str, Any]:
    found = json.loads(line) if line.startswith("{") else {"event": line.rstrip()}
    assert isinstance(found, dict)
    return found


def until(true: Callable[[], object]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it has not become so"
        time.sleep(0.005)


@contextmanager
def reserved_port() -> Iterator[int]:
    """Yield a port of 127.0.0.1 for a server that must be told one; the kernel gives it to nobody else.

    Bound by a socket that does not listen, beside which a server can that sets SO_REUSEADDR.
    A client that tries it before there is a server is not given it as its own, and connected with itself.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@contextmanager
def child(
    code: str,
    *argv: str,
    prelude: str = PRELUDE,
    pass_fds: tuple[int, ...] = (),
    more_environ: Mapping[str, str] = MappingProxyType({}),
    wrapper: Sequence[str] = (),
) -> Iterator[Child]:
    """Run code that sees `halfsync`; the wrapper is a command that execs another."""
    command = [*wrapper, sys.executable, "-c", prelude + textwrap.dedent(code), *argv]
    with running(command, pass_fds=pass_fds, more_environ=more_environ) as started:
        yield started


@contextmanager
def running(
    command: Sequence[str],
    *,
    pass_fds: tuple[int, ...] = (),
    more_environ: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Child]:
    """Run a command whose Python sees `halfsync`, and end it with the block."""
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCES), "HOME": os.environ.get("HOME", "/")}
    environ.update(more_environ)
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env=environ,
        pass_fds=pass_fds,
    )
    with process:
        try:
            yield Child(process)
        finally:
            process.kill()
