"""What a service costs before it serves, and while nobody asks: the committed example, run from its sources.

    python -m bench.start

Times are of the processor, user and system, the least of several runs: they hold beside other load.
The table goes to bench/results/start.md.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "bench" / "results" / "start.md"

RUNS = 7
IDLE = 10.0
"""Seconds over which an idle service is watched."""

ASKED = ("--version", "--help", "--check_config", "--probe")
FLAGS = (
    "--web.listen=tcp:0:interface=127.0.0.1",
    "--admin.listen=tcp:0:interface=127.0.0.1",
    "--tasks.interval=3600",
    "--log.format=json",
)


def environ() -> dict[str, str]:
    """Return the environment of a service that finds its sources, and compiles them once."""
    path = os.pathsep.join(str(ROOT / each) for each in ("halfsync/src", "example/src"))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, "PYTHONPATH": path}


def command(*flags: str) -> list[str]:
    """Return the command of the service."""
    return [sys.executable, "-m", "hello_service", *flags]


def used() -> float:
    """Return the seconds of processor time of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def seconds(words: Sequence[str]) -> float:
    """Return the least processor time of several runs of a command."""
    found = []
    for _ in range(RUNS):
        before = used()
        subprocess.run(words, env=environ(), check=False, capture_output=True)
        found.append(used() - before)
    return min(found)


def served(*flags: str) -> tuple[float, float]:
    """Return the processor time until a service serves, and the part of a core that it uses when idle."""
    with subprocess.Popen(
        command(*FLAGS, *flags), env=environ(), stdout=subprocess.PIPE, text=True
    ) as service:
        events = (json.loads(line)["event"] for line in service.stdout or ())
        if "service.started" not in events:
            raise RuntimeError(f"it has not started: {service.wait()}")
        began = _of(service.pid)
        # The first run of its task, and what else comes at the start, is over then.
        time.sleep(1)
        before, at = _of(service.pid), time.monotonic()
        time.sleep(IDLE)
        share = (_of(service.pid) - before) / (time.monotonic() - at)
        service.send_signal(signal.SIGTERM)
        service.communicate()
    return began, share


def _of(pid: int) -> float:
    """Return the processor time of a process that runs, by the kernel's ticks (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rows() -> Iterator[tuple[str, str]]:
    """Measure, and say what."""
    yield "`python -c pass`", f"{seconds([sys.executable, '-c', 'pass']) * 1000:.0f} ms"
    yield "`import flask`", f"{seconds([sys.executable, '-c', 'import flask']) * 1000:.0f} ms"
    for asked in ASKED:
        yield f"`{asked}`", f"{seconds(command(asked)) * 1000:.0f} ms"
    began, watched = served()
    _, unwatched = served("--service.stall=0")
    yield "until it serves", f"{began * 1000:.0f} ms"
    yield "idle", f"{watched:.2%} of a core"
    yield "idle, `--service.stall=0`", f"{unwatched:.2%} of a core"


def main() -> None:
    """Measure, print the table, and write it."""
    lines = ["# Start and idling", "", "Processor time; made by `python -m bench.start`.", ""]
    lines += ["| what | costs |", "|---|---|", *(f"| {what} | {cost} |" for what, cost in rows()), ""]
    RESULT.write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
