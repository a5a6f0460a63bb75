"""The drills of `docs/drills.md`: each sets off a fault, and follows the runbook to its line of code.

HALFSYNC_WRITE_DRILLS=1 pytest tests/test_drills.py    writes the transcripts anew
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from children import PATIENCE, ROOT, running, until

if TYPE_CHECKING:
    from collections.abc import Iterator

SHOP = Path(__file__).parent / "drill_service.py"
DOCUMENT = ROOT / "docs" / "drills.md"
ADDRESS = re.compile(r'"event": "(admin|web)\.listening", "address": "tcp:127\.0\.0\.1:(\d+)"')

FIND_CODE = "grep -o 'shop.py:[^\"]*' | tail -1"

DRILLS: dict[str, tuple[list[str], list[str]]] = {
    "A stuck request": (
        ["/report"],
        [
            "kill -USR1 $PID",
            "grep 'stacks.request.*\"web\"' shop.log",
            f'grep \'"holds": "GET /report"\' shop.log | {FIND_CODE}',
        ],
    ),
    "A dead task": (
        [],
        [
            "curl -s $ADMIN/tasks",
            "curl -s -X POST -H 'Content-Type: application/json' -d '{}' $ADMIN/tasks/sweep/run",
            "grep task.failed shop.log | grep -o 'shop.py[^,]*, line [0-9]*, in [a-z]*' | tail -1",
        ],
    ),
    "A stalled reactor": (
        ["/rebuild"],
        [
            "curl -s -m 1 $ADMIN/health/live || echo no answer",
            "kill -USR1 $PID",
            f'grep \'"thread": "MainThread"\' shop.log | {FIND_CODE}',
        ],
    ),
    "A deadlock": (
        ["/buy", "/return"],
        [
            "kill -USR1 $PID",
            'grep -o \'stacks.request.*"web", .*"peer"\' shop.log | grep -o \'"path": "[^"]*"\' | sort',
            f'grep \'"holds": "GET /buy"\' shop.log | {FIND_CODE}',
            f'grep \'"holds": "GET /return"\' shop.log | {FIND_CODE}',
        ],
    ),
}
"""The requests that set it off, and what the person types."""


class Shop:
    """The service, and the folder in which the person sits."""

    def __init__(self, folder: Path, pid: int) -> None:
        self.folder = folder
        self.log = folder / "shop.log"
        until(lambda: self.log.exists() and "service.started" in self.log.read_text())
        ports = dict(ADDRESS.findall(self.log.read_text()))
        self.web = int(ports["web"])
        self.environ = {
            "PATH": os.environ["PATH"],
            "PID": str(pid),
            "ADMIN": f"http://127.0.0.1:{ports['admin']}",
        }

    def types(self, command: str) -> str:
        """Run a command in a shell, as a person would; return what it printed."""
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.stderr == ""
        return done.stdout

    def request(self, path: str) -> socket.socket:
        """Send a request and wait for no answer."""
        connection = socket.create_connection(("127.0.0.1", self.web), timeout=PATIENCE)
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n".encode())
        return connection


@contextmanager
def shop(folder: Path) -> Iterator[Shop]:
    """Run the service; its module is called as that of the transcripts."""
    (folder / "shop.py").write_text(SHOP.read_text())
    command = [
        sys.executable,
        str(folder / "shop.py"),
        "--log.file=shop.log",
        "--web.listen=tcp:0:interface=127.0.0.1",
        "--admin.listen=tcp:0:interface=127.0.0.1",
    ]
    with running(["env", "-C", str(folder), *command]) as service:
        yield Shop(folder, service.process.pid)


def normal(transcript: str) -> str:
    """Return a transcript without what differs from run to run."""
    text = re.sub(r'"request_id": "[^"]*"', "ID", transcript)
    return re.sub(r"\d+(\.\d+)?(e-\d+)?", "N", re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", text))


def documented(name: str) -> str:
    """Return the transcript in the docs."""
    section = DOCUMENT.read_text(encoding="utf-8").partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    return section.partition("```console\n")[2].partition("```")[0]


@pytest.mark.parametrize("name", DRILLS)
def test_drill(name, tmp_path):
    """The runbook's commands lead to the line of code; the docs show what they print."""
    faults, commands = DRILLS[name]
    with shop(tmp_path) as service:
        connections = [service.request(path) for path in faults]
        if faults:
            # The last thing that can be seen from outside before the fault is there.
            wanted = [f"GET {path}" for path in faults]
            if "/rebuild" in faults:
                until(lambda: "shop.rebuilding" in service.log.read_text())
            else:
                until(lambda: all(each in service.types("curl -s $ADMIN/threads") for each in wanted))
        transcript = ""
        for command in commands:
            if "kill" in command:
                service.types(command)
                until(lambda: "stacks.task" in service.log.read_text())
                shown = ""
            else:
                shown = service.types(command)
            transcript += f"$ {command}\n{shown}"
        for each in connections:
            each.close()
    if os.environ.get("HALFSYNC_WRITE_DRILLS"):
        text = DOCUMENT.read_text(encoding="utf-8")
        DOCUMENT.write_text(text.replace(documented(name), transcript), encoding="utf-8")
    assert normal(transcript) == normal(documented(name))


def test_each_drill_finds_the_line():
    """What a transcript ends with is the code that is at fault."""
    source = SHOP.read_text()
    for name in DRILLS:
        last = documented(name).splitlines()[-1]
        assert last.startswith("shop.py"), last
        line = source.splitlines()[int(re.findall(r"\d+", last)[0]) - 1].strip()
        assert line in last or line.startswith("raise ")
