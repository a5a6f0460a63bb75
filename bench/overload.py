"""What is left of a server under more than it can do: `make overload`, about 8 minutes.

Requests arrive at 1 to 10 times the server's capacity (`openloop`); their clients give up after 500 ms.
Goodput is what was answered within that time. One request in twenty says that it is critical, to every
server.
First all servers with 16 threads and a handler of 20 ms; then ours alone with other threads and handlers.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import environment as environments
from .__main__ import commit, cpu, versions
from .lines import Line, chart
from .servers import OVERLOADED, THREADS, Died, ours_overloaded, running

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .environment import Environment
    from .servers import Server

FACTORS = (1, 2, 3, 5, 7.5, 10)
HANDLER_MS = 20
MATRIX = (  # threads, milliseconds of the handler, long-tailed
    (2, 20, False),
    (64, 20, False),
    (16, 5, False),
    (16, 1000, False),
    (16, 20, True),
)
ASKED_AT_MOST = 8000
"""Requests a second: what the generator, which takes a core of its own, can ask in time."""

LIMITS = (2, 4, 8, 16, 64)
"""Threads beside each other, where a handler computes: the best that an adaptive limit could find."""

COMPUTED = (1, 3, 10)
"""Loads of handlers that compute."""

RESULTS = Path(__file__).parent / "results"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and write, or draw again."""
    parser = argparse.ArgumentParser(prog="make overload ARGS=", description=__doc__)
    parser.add_argument("--seconds", type=float, default=8, help="of load each time (%(default)s)")
    parser.add_argument("--servers", default=",".join(OVERLOADED), help="of %(default)s")
    parser.add_argument("--quick", action="store_true", help="two loads of 3 s, ours and one peer")
    parser.add_argument("--redraw", action="store_true", help="only draw again what was measured")
    parser.add_argument("--output", type=Path, default=RESULTS)
    chosen = parser.parse_args(argv)
    stored = chosen.output / "overload.json"
    if not chosen.redraw:
        results = measure(chosen)
        chosen.output.mkdir(parents=True, exist_ok=True)
        stored.write_text(json.dumps(results, indent=1) + "\n")
    results = json.loads(stored.read_text())
    (chosen.output / "overload.md").write_text(markdown(results))
    (chosen.output / "overload.svg").write_text(draw(results))
    print(f"written: {chosen.output}/overload.md, overload.json, overload.svg")


def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    """Take all figures."""
    environment = environments.ensure()
    factors: Sequence[float] = FACTORS
    matrix: Sequence[tuple[int, int, bool]] = MATRIX
    names = [name for name in chosen.servers.split(",") if name not in environment.missing]
    if chosen.quick:
        chosen.seconds, factors, matrix, names = 3, (1, 5), MATRIX[:1], names[:2]
    results: dict[str, Any] = {
        "machine": cpu(),
        "commit": commit(),
        "versions": versions(environment, [name for name in names if name != "ours"]),
        "seconds": chosen.seconds,
        "servers": {},
        "ours": {},
        "limits": {},
    }
    for name in names:
        results["servers"][name] = [
            one(OVERLOADED[name], environment, THREADS, HANDLER_MS, factor, chosen.seconds)
            for factor in factors
        ]
    for threads, milliseconds, tailed in matrix:
        server = ours_overloaded(threads)
        key = f"{threads} threads, {milliseconds} ms{', long-tailed' if tailed else ''}"
        # Half of a run is watched: a slow handler needs longer ones to say anything.
        seconds = max(chosen.seconds, milliseconds / 1000 * 10)
        most = min(factors[-1], ASKED_AT_MOST * milliseconds / 1000 / threads)
        results["ours"][key] = [
            one(server, environment, threads, milliseconds, factor, seconds, tailed=tailed)
            for factor in (factors[0], most)
        ]
    for threads in (2, 64) if chosen.quick else LIMITS:
        results["limits"][str(threads)] = [
            # One processor computes 200 of these a second, whatever the number of threads.
            one(ours_overloaded(threads), environment, 1, 5, factor, chosen.seconds, path="/compute")
            for factor in COMPUTED
        ]
    return results


def one(  # noqa: PLR0917  a row of the tables
    server: Server,
    environment: Environment,
    threads: int,
    milliseconds: int,
    factor: float,
    seconds: float,
    *,
    tailed: bool = False,
    path: str | None = None,
) -> dict[str, Any]:
    """Take the figures of one server at one load.

    :param path: what is asked; else a wait of so many milliseconds.
    """
    capacity = threads * 1000 / milliseconds
    # A client waits at least ten times as long as an answer takes.
    deadline = max(0.5, milliseconds / 1000 * 10)
    path = path or f"/wait?ms={milliseconds}" + ("&tail=1" if tailed else "")
    try:
        with running(server, environment) as process:
            command = [sys.executable, "-m", "bench.openloop", process.url(path)]
            command += ["--rate", str(capacity * factor), "--seconds", str(seconds)]
            command += ["--deadline", str(deadline)]
            run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=RESULTS.parents[1])
            figures: dict[str, Any] = json.loads(run.stdout)
    except Died as error:
        figures = {"died": str(error)}
    figures |= {"factor": factor, "capacity": capacity}
    print(server.name, figures, flush=True)
    return figures


def markdown(results: dict[str, Any]) -> str:
    """Return the tables."""
    lines = ["# Under more than it can do", ""]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    lines += [f"`make overload` on {results['machine']}; {results['seconds']:g} s each; {versions};"]
    lines += [f"ours at {results['commit']}.", "", "![Answered within 500 ms](overload.svg)", ""]
    servers = results["servers"]
    factors = [each["factor"] for each in next(iter(servers.values()))]
    for title, key, shown in (
        ("Answered in time, of the capacity", "goodput", "{:.0%}"),
        ("p99 of what is answered, in ms", "p99", "{:.0f}"),
        ("Critical requests answered in time", "critical", "{:.0%}"),
    ):
        lines += [f"## {title}", "", f"| load | {' | '.join(servers)} |", "|---" * (len(servers) + 1) + "|"]
        for index, factor in enumerate(factors):
            cells = []
            for rows in servers.values():
                value = rows[index].get(key)
                if value is not None and key == "goodput":
                    value /= rows[index]["capacity"]
                cells.append("-" if value is None else shown.format(value))
            lines.append(f"| {factor:g} x | {' | '.join(cells)} |")
        lines.append("")
    lines += ["## Ours with other threads and handlers", ""]
    lines += [f"Ten times the capacity, or {ASKED_AT_MOST:,} requests a second where that is less.", ""]
    lines += ["| | load | answered in time, of what is at 1 x | p99 at 1 x, under it | critical |"]
    lines += ["|---|---|---|---|---|"]
    for key, (single, under) in results["ours"].items():
        part = under["goodput"] / min(single["goodput"], single["capacity"])
        tails = f"{single['p99']:.0f} ms, {under['p99']:.0f} ms" if under["p99"] else "-"
        lines.append(f"| {key} | {under['factor']:.3g} x | {part:.0%} | {tails} | {under['critical']:.0%} |")
    lines += ["", "## Threads, where each request computes for 5 ms", ""]
    lines += ["One processor does 200 a second, whatever the number of threads.", ""]
    loads = ", ".join(f"{each['factor']:g} x" for each in next(iter(results["limits"].values())))
    lines += [f"| threads | answered in time a second, at {loads} | p99 | critical |", "|---|---|---|---|"]
    for threads, rows in results["limits"].items():
        goodputs = ", ".join(f"{each.get('goodput', 0):.0f}" for each in rows)
        tails = ", ".join(f"{each['p99']:.0f} ms" if each.get("p99") else "-" for each in rows)
        critical = ", ".join(f"{each.get('critical', 0):.0%}" for each in rows)
        lines.append(f"| {threads} | {goodputs} | {tails} | {critical} |")
    return "\n".join([*lines, ""])


def draw(results: dict[str, Any]) -> str:
    """Return the plot: goodput over load, a line a server."""
    lines = [
        Line(
            name,
            [(each["factor"], 100 * each.get("goodput", 0) / each["capacity"]) for each in rows],
        )
        for name, rows in results["servers"].items()
    ]
    return chart("Answered within 500 ms, % of the capacity", "load, times the capacity", lines)


if __name__ == "__main__":
    main()
