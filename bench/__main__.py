"""The command: measure in alternating rounds, then write table, figures and plot."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from . import environment as environments
from .figures import order
from .load import find_wrk
from .plot import svg
from .report import markdown, readme, table
from .scenarios import RUNNABLE, SCENARIOS, Settings, raise_limits
from .servers import Died, running

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from .environment import Environment
    from .report import Results
    from .scenarios import Figures, Scenario

RESULTS = Path(__file__).parent / "results"

NAMES = list(dict.fromkeys(name.partition(",")[0] for name in RUNNABLE))
"""Servers, without what a scenario has them do otherwise."""


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=", description=__doc__)
    parser.add_argument(
        "--only",
        type=_names(SCENARIOS),
        default=list(SCENARIOS),
        metavar="SCENARIO,SCENARIO",
        help=f"of {', '.join(SCENARIOS)}",
    )
    parser.add_argument(
        "--servers",
        type=_names(NAMES),
        default=NAMES,
        metavar="SERVER,SERVER",
        help=f"of {', '.join(NAMES)}",
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="rounds, alternating between servers (%(default)s)"
    )
    parser.add_argument(
        "--seconds", type=float, default=3, help="of load each time, whole ones (%(default)s)"
    )
    parser.add_argument("--connections", type=int, default=8000, help="idle ones in `idle` (%(default)s)")
    parser.add_argument(
        "--quick", action="store_true", help="one short round, for a first look: no figures to quote"
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument(
        "--readme", action="store_true", help="only print the README's section, from the last results"
    )
    parser.add_argument(
        "--redraw", action="store_true", help="only write table and plot again, from the last results"
    )
    chosen = parser.parse_args(argv)
    if chosen.quick:
        chosen.rounds, chosen.seconds, chosen.connections = 1, 1, 2000
    return chosen


def _names(known: Collection[str]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        chosen = text.split(",")
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return chosen

    return names


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, or show again what was measured."""
    chosen = arguments(argv)
    stored = chosen.output / "results.json"
    if chosen.readme or chosen.redraw:
        results = json.loads(stored.read_text())
        if chosen.readme:
            print(readme(results), end="")
        else:
            write(results, chosen.output)
        return
    find_wrk()
    # A SIGTERM leaves through the `finally`s that end the servers, as Ctrl-C does;
    # a shell's background job starts with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    environment = environments.ensure()
    settings = Settings(chosen.seconds, raise_limits(chosen.connections), environment)
    if settings.connections < chosen.connections:
        print(f"the limit of open files allows {settings.connections:,} idle connections (ulimit -Hn)")
    results = describe(chosen, settings)
    for name, reason in environment.missing.items():
        print(f"without {name}: {reason}")
    for name in chosen.only:
        results["scenarios"][name] = run(SCENARIOS[name], chosen, settings)
        print("\n".join(["", f"{name}:", *table(results, name), ""]), flush=True)
    write(results, chosen.output)
    print(f"written: {chosen.output}/results.md, results.json, plot.svg")


def run(scenario: Scenario, chosen: argparse.Namespace, settings: Settings) -> dict[str, list[object]]:
    """Measure one scenario: server after server, round after round."""
    names = [
        name
        for name in scenario.servers
        if name.partition(",")[0] in chosen.servers and name not in settings.environment.missing
    ]
    rounds: dict[str, list[object]] = {name: [] for name in names}
    for number in range(min(chosen.rounds, scenario.most_rounds)):
        for name in order(names, number):
            started = time.monotonic()
            figures: Figures | dict[str, str]
            try:
                with running(RUNNABLE[name], settings.environment) as server:
                    figures = scenario.measure(server, settings)
            except (Died, OSError) as error:
                figures = {"died": str(error)}
            rounds[name].append(figures)
            shown = "  ".join(
                f"{key} {value:,.1f}" if isinstance(value, float) else f"{key} {value}"
                for key, value in figures.items()
            )
            took = time.monotonic() - started
            print(f"{scenario.name:10} {number + 1}  {name:17} {shown}  [{took:.1f} s]", flush=True)
    return rounds


def describe(chosen: argparse.Namespace, settings: Settings) -> Results:
    """Return results without any yet: what they are taken on and with."""
    environment = settings.environment
    return {
        "machine": {
            "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "cpu": cpu(),
            "cores": len(os.sched_getaffinity(0)),
            "system": f"{platform.system()} {platform.release()}",
            "python": platform.python_version(),
            "commit": commit(),
            "load": os.getloadavg()[0],
        },
        "run": {"rounds": chosen.rounds, "seconds": chosen.seconds, "idle_connections": settings.connections},
        "versions": versions(environment, chosen.servers),
        "missing": environment.missing,
        "scenarios": {},
    }


def versions(environment: Environment, servers: Sequence[str]) -> dict[str, str]:
    """Return the versions of the peers, and of what ours stands on."""
    packages = {each.package for name, each in RUNNABLE.items() if name.partition(",")[0] in servers} - {
        None,
        *environment.missing,
    }
    return {name: environment.version(name) for name in sorted({"flask", "twisted", *filter(None, packages)})}


def commit() -> str:
    """Return which code it is."""
    command = ["git", "-C", str(RESULTS.parent), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def cpu() -> str:
    """Return the processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def write(results: Results, folder: Path) -> None:
    """Write figures, tables and plot."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "results.md").write_text(markdown(results))
    (folder / "plot.svg").write_text(svg(results))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("stopped: nothing is written") from None
