"""Child processes for tests of what only a process of its own can show: signals, exit codes, imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "halfsync" / "src"

PRELUDE = """
import sys
from halfsync import flags
from halfsync.life import reactors, run as running
from halfsync.life.about import About
from halfsync.life.errors import StartError
from halfsync.life.parts import Part, Process
from twisted.internet.defer import Deferred
ABOUT = About(name="child", package="child", version="1", summary="A child of a test.")
def main(parts):
    flags.parse(ABOUT)
    sys.exit(running.run(ABOUT, parts))
"""

PATIENCE = 30
"""Seconds after which a child that does not do what is awaited has failed."""


class Child:
    """A running child whose log, JSON lines on its standard output, is read event by event."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []

    def wait_for(self, event: str) -> dict[str, Any]:
        """Read the log up to an event, and return it."""
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("{"):
                self.events.append(json.loads(line))
            else:
                self.events.append({"event": line.rstrip()})
            if self.events[-1]["event"] == event:
                return self.events[-1]
        raise AssertionError(f"no {event} among {self.events}; stderr: {self.process.stderr.read()}")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, list[str], str]:
        """Wait until the child ends by itself; return its exit code, its last events' names, and stderr."""
        out, err = self.process.communicate(timeout=PATIENCE)
        rest = [json.loads(line)["event"] for line in out.splitlines()]
        return self.process.returncode, rest, err


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
