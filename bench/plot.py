"""The rates as a plot: SVG written by hand, so that it needs no library and changes line by line."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from .report import failures, middle, ranked
from .servers import OURS

if TYPE_CHECKING:
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
    ("slow", "grown_mb", "100 MB not read: memory grows by MB (less is better)"),
)

WIDTH, MARGIN = 960, 24
ROW, BAR = 22, 15
NAME = 100
"""Pixels for the servers' names."""
VALUE = 120
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
    top = MARGIN
    for first in range(0, len(panels), 2):
        pair = panels[first : first + 2]
        drawn = [_panel(results, panel, MARGIN + n * (column + MARGIN), top, column) for n, panel in enumerate(pair)]
        parts += [part for part, _ in drawn]
        top += max(height for _, height in drawn) + MARGIN
    machine, run = results["machine"], results["run"]
    about = (
        f"{machine['date']} · {machine['cpu']}, {machine['cores']} cores · Python {machine['python']} · one process, "
        f"16 threads each · medians of {run['rounds']} rounds, lines from lowest to highest"
    )
    versions = " · ".join(f"{name} {version}" for name, version in results["versions"].items())
    parts += [f'<text class="about" x="{MARGIN}" y="{top + n * 16}">{escape(text)}</text>'
              for n, text in enumerate((about, versions))]
    height = top + 16 + MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" '
        f'viewBox="0 0 {WIDTH} {height:.0f}" role="img">\n<title>Ours beside other servers</title>\n'
        f"<style>{STYLE}</style>\n"
        f'<rect class="back" width="{WIDTH}" height="{height:.0f}"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _panel(results: Results, panel: tuple[str, str, str], left: float, top: float, width: float) -> tuple[str, float]:
    scenario, figure, title = panel
    found = {server: middle(results, scenario, server, figure) for server in ranked(results, scenario)}
    best_last = figure == "rate"
    names = sorted(
        found, key=lambda name: (found[name] is None, (each.median if (each := found[name]) else 0) * (-1) ** best_last)
    )
    longest = max([each.high for each in found.values() if each] or [1]) or 1
    start = left + NAME + 8
    scale = (width - NAME - 8 - VALUE) / longest
    lines = [f'<text class="title" x="{left:.0f}" y="{top + 12:.0f}">{escape(title)}</text>']
    for number, name in enumerate(names):
        y = top + 24 + number * ROW
        middle_y = y + BAR / 2
        mark = " ours" if name == OURS else ""
        lines.append(f'<text class="name{mark}" x="{left + NAME}" y="{y + 12:.0f}">{escape(name)}</text>')
        each = found[name]
        if each is None:
            reason = "; ".join(failures(results, scenario, name)) or "no figure"
            lines.append(f'<text x="{start:.0f}" y="{y + 12:.0f}">{escape(reason)}</text>')
            continue
        low, length, high = (max(0.0, value) * scale for value in (each.low, each.median, each.high))
        lines.append(
            f'<rect class="bar{mark}" x="{start:.0f}" y="{y:.0f}" width="{max(length, 1):.1f}" height="{BAR}"/>'
        )
        if high - low > 1:
            lines.append(
                f'<line class="reach" x1="{start + low:.1f}" x2="{start + high:.1f}" '
                f'y1="{middle_y:.1f}" y2="{middle_y:.1f}"/>'
            )
        text = f"{each.median:,.0f}" if each.median >= 100 else f"{each.median:.1f}"
        lines.append(
            f'<text class="{mark.strip()}" x="{start + max(high, length) + 6:.0f}" y="{y + 12:.0f}">{text}</text>'
        )
    return "\n".join(lines), 24 + len(names) * ROW
