"""Results as tables for people, and as the README's section."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .figures import ratios, spread
from .scenarios import SCENARIOS
from .servers import OURS

if TYPE_CHECKING:
    from .figures import Spread

Results = dict[str, Any]


def values(results: Results, scenario: str, server: str, figure: str) -> dict[int, float]:
    """Return a figure by number of round."""
    rounds = results["scenarios"][scenario][server]
    return {number: each[figure] for number, each in enumerate(rounds) if figure in each}


def middle(results: Results, scenario: str, server: str, figure: str) -> Spread | None:
    """Return a figure's spread over the rounds."""
    return spread(list(values(results, scenario, server, figure).values()))


def compared(results: Results, scenario: str, server: str) -> Spread | None:
    """Return how many times a server's rate ours is, paired by round."""
    mine = values(results, scenario, OURS, "rate") if OURS in results["scenarios"][scenario] else {}
    return spread(ratios(mine, values(results, scenario, server, "rate")))


def failures(results: Results, scenario: str, server: str) -> list[str]:
    """Return what went wrong, each reason once."""
    rounds = results["scenarios"][scenario][server]
    reasons = dict.fromkeys(each["died"] for each in rounds if "died" in each)
    failed = int(sum(each.get("failed", 0) for each in rounds))
    return [*reasons, *([f"{failed:,} requests failed"] if failed else [])]


def ranked(results: Results, scenario: str) -> list[str]:
    """Return a scenario's servers, the fastest first."""

    def key(server: str) -> float:
        found = middle(results, scenario, server, "rate")
        return -found.median if found else 1.0

    return sorted(results["scenarios"][scenario], key=key)


def markdown(results: Results) -> str:
    """Return all tables."""
    lines = ["# Results", "", "Written by `make bench`; how to read them is in `docs/performance.md`.", ""]
    lines += ["![The rates beside each other](plot.svg)", ""]
    lines += [*_about(results), ""]
    for name in results["scenarios"]:
        lines += [f"## {name}", "", _title(results, name) + ".", "", *table(results, name), ""]
    return "\n".join(lines)


def _title(results: Results, name: str) -> str:
    title = SCENARIOS[name].title
    return title.replace("idle", f"{results['run']['idle_connections']:,} idle") if name == "idle" else title


def _about(results: Results) -> list[str]:
    machine, run = results["machine"], results["run"]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    lines = [
        f"- {machine['date']}, {machine['cpu']}, {machine['cores']} cores, {machine['system']}",
        f"- Python {machine['python']}; {versions}; ours at {machine['commit']}",
        f"- {run['rounds']} rounds of {run['seconds']:g} s, `idle` and `slow` fewer; "
        f"load average before: {machine['load']:.2f}",
    ]
    lines += [f"- without {name}: {reason}" for name, reason in results["missing"].items()]
    return lines


def table(results: Results, name: str) -> list[str]:
    """Return a scenario's table."""
    scenario = SCENARIOS[name]
    heads = ["server", "requests/s", "(lowest to highest)", "ours is", *scenario.columns.values(), ""]
    lines = [_row(heads), _row(["---", *["---:"] * (len(heads) - 2), "---"])]
    for server in ranked(results, name):
        rate = middle(results, name, server, "rate")
        times = compared(results, name, server) if server != OURS else None
        cells = [f"**{server}**" if server == OURS else server]
        cells.append(_number(rate.median) if rate else "-")
        cells.append(f"{_number(rate.low)} to {_number(rate.high)}" if rate else "")
        cells.append(f"{times.median:.2f} x ({times.low:.2f} to {times.high:.2f})" if times else "")
        for figure in scenario.columns:
            found = middle(results, name, server, figure)
            cells.append(_number(found.median) if found else "")
        lines.append(_row([*cells, "; ".join(failures(results, name, server))]))
    return lines


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.2g}"


def readme(results: Results) -> str:
    """Return the README's section: the plot, one sentence of figures, and who is faster."""
    machine = results["machine"]
    lines = ["## How fast", "", "![Requests a second beside other servers](bench/results/plot.svg)", ""]
    for name, what in (("hello", "A bare hello"), ("flask", "A Flask hello")):
        if name not in results["scenarios"]:
            continue
        mine = middle(results, name, OURS, "rate")
        p99 = middle(results, name, OURS, "p99")
        if mine is None or p99 is None:
            continue
        pairs = [(server, compared(results, name, server)) for server in ranked(results, name) if server != OURS]
        slower = [f"{found.median:.1f} x {server}" for server, found in pairs if found and found.median >= 1]
        faster = [f"{server} ({1 / found.median:.1f} x)" for server, found in pairs if found and found.median < 1]
        text = f"{what}: {_number(mine.median)} requests/s, p99 {_number(p99.median)} ms"
        lines.append(text + (f"; that is {', '.join(slower)}." if slower else "."))
        if faster:
            lines.append(f"Faster: {', '.join(faster)}.")
    lines += [
        "",
        f"Measured side by side on {machine['cores']} cores ({machine['cpu']}), {machine['date'][:10]}: one process "
        "each, 16 threads, the same application.",
        "`make bench` measures it again; [all tables](bench/results/results.md), "
        "[how to read them](docs/performance.md).",
    ]
    return "\n".join(lines) + "\n"
