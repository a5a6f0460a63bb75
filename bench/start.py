"""What a service costs before it serves, while nobody asks, and as one file beside others' files.

    python -m bench.start
    python -m bench.start --rounds 1 --idle 1 --output /tmp/start.md

Times are of the processor, user and system, the least of several rounds: they hold beside other load.
The tables go to bench/results/start.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from . import cost, packed

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "bench" / "results" / "start.md"

ASKED = ("--version", "--help", "--check_config", "--probe")


def environ() -> dict[str, str]:
    """Return the environment of a service that finds its sources, and compiles them once."""
    path = os.pathsep.join(str(ROOT / each) for each in ("halfsync/src", "example/src"))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, "PYTHONPATH": path}


def milliseconds(rounds: int, *words: str) -> str:
    """Return the least processor time of several runs of this Python, for a table."""
    # Nothing serves that `--probe` could ask: it says so, by its exit code too.
    code = 1 if "--probe" in words else 0
    found = [cost.of_command([sys.executable, *words], environ(), code) for _ in range(rounds)]
    return f"{min(found) * 1000:.0f} ms"


def served(idle: float, *flags: str) -> tuple[float, float]:
    """Return the processor time until a service serves, and the part of a core that it uses when idle."""
    with cost.serving([sys.executable, "-m", "hello_service", *flags], environ()) as pid:
        began = cost.of_process(pid)
        # The first run of its task, and what else comes at the start, is over then.
        time.sleep(1)
        before, at = cost.of_process(pid), time.monotonic()
        time.sleep(idle)
        share = (cost.of_process(pid) - before) / (time.monotonic() - at)
    return began, share


def rows(rounds: int, idle: float) -> Iterator[tuple[str, str]]:
    """Measure the committed example, run from its sources, and say what."""
    yield "`python -c pass`", milliseconds(rounds, "-c", "pass")
    yield "`import flask`", milliseconds(rounds, "-c", "import flask")
    for asked in ASKED:
        yield f"`{asked}`", milliseconds(rounds, "-m", "hello_service", asked)
    began, watched = served(idle)
    _, unwatched = served(idle, "--service.stall=0")
    yield "until it serves", f"{began * 1000:.0f} ms"
    yield "idle", f"{watched:.2%} of a core"
    yield "idle, `--service.stall=0`", f"{unwatched:.2%} of a core"


def as_one_file(rounds: int) -> list[str]:
    """Build a generated service, and measure it as one file; return a table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        project = packed.generate(folder)
        ways = [*packed.of_pex(project), *packed.of_others(project, folder)]
        return packed.table(ways, packed.measure(project, ways, folder, rounds))


def main(argv: list[str] | None = None) -> None:
    """Measure, print the tables, and write them."""
    parser = argparse.ArgumentParser(prog="python -m bench.start")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--idle", type=float, default=10.0, help="seconds over which an idle service is watched"
    )
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args(argv)
    lines = ["# Start and idling", "", "Processor time; made by `python -m bench.start`.", ""]
    lines += ["| what | costs |", "|---|---|"]
    lines += [f"| {what} | {costs} |" for what, costs in rows(options.rounds, options.idle)]
    lines += ["", "## As one file", ""]
    lines += [
        "Starts are until it serves; the first one unpacks the file. Beside each time: how often the first"
    ]
    lines += ["column's it is.", "", *as_one_file(options.rounds), ""]
    options.output.write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
