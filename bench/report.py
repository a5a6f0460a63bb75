"""Results as tables for people, and as the README's section."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .figures import ratios, spread
from .scenarios import SCENARIOS
from .servers import ONE_CORE, OURS

if TYPE_CHECKING:
    from .figures import Spread

Results = dict[str, Any]

STARVED = 0.7
"""A smaller part of the connections than this at work means that some got nothing."""


def values(results: Results, scenario: str, server: str, figure: str) -> dict[int, float]:
    """Return a figure by number of round."""
    rounds = results["scenarios"][scenario][server]
    return {number: each[figure] for number, each in enumerate(rounds) if figure in each}


def middle(results: Results, scenario: str, server: str, figure: str) -> Spread | None:
    """Return a figure's spread over the rounds."""
    return spread(list(values(results, scenario, server, figure).values()))


def _own(results: Results, scenario: str) -> str:
    """Return what the others are compared with."""
    return OURS if OURS in results["scenarios"][scenario] else f"{OURS}, tls"


def compared(results: Results, scenario: str, server: str) -> Spread | None:
    """Return how many times a server's rate ours is, paired by round."""
    own = _own(results, scenario)
    mine = values(results, scenario, own, "rate") if own in results["scenarios"][scenario] else {}
    return spread(ratios(mine, values(results, scenario, server, "rate")))


def failures(results: Results, scenario: str, server: str) -> list[str]:
    """Return what went wrong, each reason once."""
    rounds = results["scenarios"][scenario][server]
    reasons = dict.fromkeys(each["died"] for each in rounds if "died" in each)
    if failed := int(sum(each.get("failed", 0) for each in rounds)):
        reasons[f"{failed:,} requests failed"] = None
    served = middle(results, scenario, server, "served")
    connections = SCENARIOS[scenario].connections
    if served and served.median < STARVED * connections:
        reasons[f"serves about {served.median:.0f} of {connections} connections, the others wait"] = None
    if any(each.get("rate") == 0 for each in rounds):
        reasons["no answer"] = None
    return list(reasons)


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


def fewer(results: Results) -> list[str]:
    """Name the scenarios with fewer rounds than the others."""
    most = results["run"]["rounds"]
    limits = {name: SCENARIOS[name].most_rounds for name in results["scenarios"]}
    return [f"{name} {limit}" for name, limit in limits.items() if limit < most]


def _about(results: Results) -> list[str]:
    machine, run = results["machine"], results["run"]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    rounds = ", ".join([f"rounds: {run['rounds']} of {run['seconds']:g} s", *fewer(results)])
    lines = [
        f"- {machine['date']}, {machine['cpu']}, {machine['cores']} cores, {machine['system']}",
        f"- Python {machine['python']}; {versions}; ours at {machine['commit']}",
        f"- {rounds}; load average before: {machine['load']:.2f}",
    ]
    return lines + [f"- without {name}: {reason}" for name, reason in results["missing"].items()]


def table(results: Results, name: str) -> list[str]:
    """Return a scenario's table."""
    scenario = SCENARIOS[name]
    heads = ["server", "requests/s", "(lowest to highest)", "ours is", *scenario.columns.values(), ""]
    lines = [_row(heads), _row(["---", *["---:"] * (len(heads) - 2), "---"])]
    for server in ranked(results, name):
        rate = middle(results, name, server, "rate")
        times = compared(results, name, server) if server != _own(results, name) else None
        if times and not times.median:
            times = None  # ours has no rate: that is said in its own row
        cells = [f"**{server}**" if server == _own(results, name) else server]
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
    """Return the README's section: the plot, a sentence of figures each, and who is faster."""
    machine = results["machine"]
    told = "\n".join(
        f"- {_told(results, name, what)}" for name, what in TOLD.items() if name in results["scenarios"]
    )
    return f"""## How fast

![Requests a second beside other servers](bench/results/plot.svg)

{told}

Measured side by side on {machine["cores"]} cores ({machine["cpu"]}), {machine["date"][:10]}:
one process each, 16 threads, the same application.
`make bench` measures it again.
Here are [all tables](bench/results/results.md), and [how to read them](docs/performance.md).
"""


TOLD = {
    "hello": "A bare hello",
    "flask": "A Flask hello",
    "big": "A response of 1 MB",
    "upload": "A request of 1 MB",
}


def _told(results: Results, name: str, what: str) -> str:
    mine, p99 = (middle(results, name, OURS, figure) for figure in ("rate", "p99"))
    if mine is None or p99 is None:
        return f"{what}: no figures."
    slower, even, faster = [], [], []
    for server in ranked(results, name):
        times = compared(results, name, server) if server not in {OURS, *ONE_CORE} else None
        if times is None or failures(results, name, server):
            continue
        if times.low <= 1 <= times.high:
            even.append(f"{server} is about as fast")
        elif times.median >= 1:
            slower.append(f"{times.median:.1f} x {server}")
        else:
            faster.append(f"{server} is faster ({1 / times.median:.1f} x)")
    text = f"{what}: {_number(mine.median)} requests/s, p99 {_number(p99.median)} ms"
    pinned = [
        middle(results, name, each, "rate") if each in results["scenarios"][name] else None
        for each in ONE_CORE
    ]
    if None not in pinned:
        own, other = (_number(each.median) for each in pinned if each)
        text += f" (each on a core of its own: {own}, granian {other})"
    if slower:
        text += f": {', '.join(slower)}"
    return ". ".join([text, *([", ".join(faster + even)] if faster + even else [])]) + "."
