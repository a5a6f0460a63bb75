"""A plot of lines, as SVG."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 380
LEFT, RIGHT, TOP, BOTTOM = 56, 140, 40, 48
COLOURS = ("#c2410c", "#1d4ed8", "#15803d", "#7e22ce", "#0e7490", "#a16207", "#475569")


@dataclass(frozen=True)
class Line:
    """A name, and points from left to right."""

    name: str
    points: list[tuple[float, float]]


def chart(title: str, across: str, lines: list[Line]) -> str:
    """Return a plot whose axes begin at 0; the first line is drawn thicker, as ours."""
    right = max(x for line in lines for x, _ in line.points)
    top = max(100.0, *(y for line in lines for _, y in line.points))

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + (WIDTH - LEFT - RIGHT) * x / right,
            HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y / top,
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(title)}</title>",
        '<style>text { font: 12px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }</style>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="22" font-weight="600">{escape(title)}</text>',
        f'<text x="{LEFT}" y="{HEIGHT - 10}">{escape(across)}</text>',
    ]
    for share in (0, 25, 50, 75, 100):
        (x1, y), (x2, _) = place(0, share), place(right, share)
        parts.append(f'<line x1="{x1:.0f}" x2="{x2:.0f}" y1="{y:.0f}" y2="{y:.0f}" stroke="#e2e8f0"/>')
        parts.append(f'<text x="{x1 - 8:.0f}" y="{y + 4:.0f}" text-anchor="end">{share}</text>')
    for x, _ in lines[0].points:
        at, y = place(x, 0)
        parts.append(f'<text x="{at:.0f}" y="{y + 16:.0f}" text-anchor="middle">{x:g}</text>')
    # Names stand at the lines' ends, moved apart where lines end together.
    taken = 1e9
    ends = sorted(range(len(lines)), key=lambda number: lines[number].points[-1][1])
    for number in ends:
        line, colour = lines[number], COLOURS[number % len(COLOURS)]
        points = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in line.points)
        width = 3 if number == 0 else 1.5
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}"/>')
        x, y = place(*line.points[-1])
        taken = min(y, taken - 14)
        parts.append(f'<text x="{x + 8:.0f}" y="{taken + 4:.0f}" fill="{colour}">{escape(line.name)}</text>')
    return "\n".join([*parts, "</svg>", ""])
