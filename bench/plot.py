"""The rates as a plot: SVG written by hand, so that it needs no library and changes line by line."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from .report import failures, fewer, middle
from .servers import OURS

if TYPE_CHECKING:
    from .figures import Spread
    from .report import Results

PANELS = (
    ("hello", "rate", "Hello, requests/s"),
    ("flask", "rate", "Flask JSON, requests/s"),
    ("hello", "p99", "Hello, p99 in ms (less is better)"),
    ("flask", "p99", "Flask JSON, p99 in ms (less is better)"),
    ("blocking", "rate", "20 ms wait, requests/s (ideal 800)"),
    ("big", "rate", "1 MB response, requests/s"),
    ("upload", "rate", "1 MB upload, requests/s"),
    ("idle", "p99", "p99 in ms beside idle connections (less is better)"),
    ("idle", "kib_each", "KiB an idle connection (less is better)"),
    ("slow", "rate", "4 clients beside 50 slow readers, requests/s"),
    ("slow", "grown_mb", "100 MB not read: memory grows by MB (less is better)"),
)

WIDTH, MARGIN = 960, 24
ROW, BAR = 22, 15
NAME = 112
"""Pixels for the servers' names."""
VALUE = 90
"""The same for figures behind the bars."""

STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2933; }
  .title { font-size: 14px; font-weight: 600; }
  .about { font-size: 11px; fill: #66727f; }
  .name { text-anchor: end; }
  .ours { font-weight: 700; }
  .bar { fill: #a9b8c6; }
  .bar.ours { fill: #c2410c; }
  .reach { stroke: #1f2933; stroke-width: 1.5; }
  .back { fill: #ffffff; }
"""


def svg(results: Results) -> str:
    """Return the plot: one panel a figure, bars from the best down, the spread of the rounds as a line."""
    panels = [panel for panel in PANELS if panel[0] in results["scenarios"]]
    column = (WIDTH - 3 * MARGIN) / 2
    parts: list[str] = []
    top: float = MARGIN
    for first in range(0, len(panels), 2):
        bottom = top
        for place, panel in enumerate(panels[first : first + 2]):
            drawn, height = _panel(results, panel, MARGIN + place * (column + MARGIN), top, column)
            parts += drawn
            bottom = max(bottom, top + height)
        top = bottom + MARGIN
    for line in _about(results):
        parts.append(_text("about", MARGIN, top, line))
        top += 16
    size = f'width="{WIDTH}" height="{top + MARGIN / 2:.0f}"'
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    return (
        "\n".join(
            [
                opening,
                "<title>Ours beside other servers</title>",
                f"<style>{STYLE}</style>",
                f'<rect class="back" {size}/>',
                *parts,
                "</svg>",
            ]
        )
        + "\n"
    )


def _about(results: Results) -> list[str]:
    machine, run = results["machine"], results["run"]
    where = [machine["date"], f"{machine['cpu']}, {machine['cores']} cores", f"Python {machine['python']}"]
    rounds = ", ".join([f"medians; rounds: {run['rounds']}", *fewer(results)])
    reading = [rounds, "lines: lowest to highest", "† not every client was served: see the table"]
    versions = [f"{name} {version}" for name, version in results["versions"].items()]
    return [" · ".join(each) for each in ([*where, "one process, 16 threads each"], reading, versions)]


def _panel(
    results: Results, panel: tuple[str, str, str], left: float, top: float, width: float
) -> tuple[list[str], float]:
    """Return a panel's elements and its height."""
    scenario, figure, title = panel
    found = {name: middle(results, scenario, name, figure) for name in results["scenarios"][scenario]}
    longest = max([each.high for each in found.values() if each], default=1) or 1
    start = left + NAME + 8
    scale = (width - NAME - 8 - VALUE) / longest
    lines = [_text("title", left, top + 12, title)]
    y = top + 24
    for name in _best_first(found, more=figure == "rate"):
        mark = "ours" if name == OURS else ""
        lines.append(_text(f"name {mark}", left + NAME, y + 12, name))
        lines += _bar(found[name], failures(results, scenario, name), mark, (start, y), scale)
        y += ROW
    return lines, y - top


def _best_first(found: dict[str, Spread | None], *, more: bool) -> list[str]:
    def key(name: str) -> tuple[bool, float]:
        each = found[name]
        return each is None, 0 if each is None else -each.median if more else each.median

    return sorted(found, key=key)


def _bar(
    each: Spread | None, failed: list[str], mark: str, at: tuple[float, float], scale: float
) -> list[str]:
    start, y = at
    if each is None:
        # The first reason; each round may have given its own, and there is room for one.
        return [_text("about", start, y + 12, next(iter(failed), "no figure"))]
    low, length, high = (max(0.0, value) * scale for value in (each.low, each.median, each.high))
    lines = [
        f'<rect class="bar {mark}" x="{start:.0f}" y="{y:.0f}" width="{max(length, 1):.1f}" height="{BAR}"/>'
    ]
    if high - low > 1:
        ends = f'x1="{start + low:.1f}" x2="{start + high:.1f}"'
        lines.append(f'<line class="reach" {ends} y1="{y + BAR / 2:.1f}" y2="{y + BAR / 2:.1f}"/>')
    shown = f"{each.median:,.0f}" if each.median >= 100 else f"{each.median:.1f}"
    return [*lines, _text(mark, start + max(high, length) + 6, y + 12, shown + (" †" if failed else ""))]


def _text(kind: str, x: float, y: float, text: str) -> str:
    return f'<text class="{kind}" x="{x:.0f}" y="{y:.0f}">{escape(text)}</text>'
