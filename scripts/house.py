"""Draw the house of the library: its rooms, and which stands on which, read from the imports of the code.

`python scripts/house.py` writes docs/house.svg; with `--check` it says whether that is true, and exits with 1
when it is not.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).parent.parent
LIBRARY = ROOT / "halfsync" / "src" / "halfsync"
PICTURE = ROOT / "docs" / "house.svg"

WIDTH, HEIGHT, GAP, ROW = 168, 46, 14, 96


def main(arguments: list[str]) -> int:
    """Write or check the picture."""
    drawn = draw()
    if "--check" in arguments:
        if PICTURE.exists() and PICTURE.read_text(encoding="utf-8") == drawn:
            return 0
        sys.stderr.write("docs/house.svg is not the code's: python scripts/house.py\n")
        return 1
    PICTURE.write_text(drawn, encoding="utf-8")
    return 0


def rooms() -> dict[str, Path]:
    """Return the rooms: packages and modules at the top of the library, without the private ones."""
    found = {}
    for path in sorted(LIBRARY.iterdir()):
        name = path.stem
        if name.startswith("_") or path.suffix not in {"", ".py"}:
            continue
        if path.suffix == ".py" or (path / "__init__.py").exists():
            found[name] = path
    return found


def imports(path: Path) -> set[str]:
    """Return the rooms that the modules at a path import when they run, not for types alone."""
    found = set()
    for file in path.rglob("*.py") if path.is_dir() else [path]:
        for node in _run(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "halfsync":
                parts = node.module.split(".")
                found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
            elif isinstance(node, ast.Import):
                names = [alias.name.split(".") for alias in node.names]
                found |= {name[1] for name in names if name[0] == "halfsync" and len(name) > 1}
    return found


def _run(tree: ast.AST) -> list[ast.AST]:
    nodes: list[ast.AST] = []
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        nodes += [child, *_run(child)]
    return nodes


def layers(below: dict[str, set[str]]) -> dict[str, int]:
    """Return the floor of each room: the ground is 0, and every room is above all that it imports."""
    floors: dict[str, int] = {}

    def floor(room: str, seen: tuple[str, ...] = ()) -> int:
        if room in seen:
            raise SystemExit(f"a circle of imports: {' -> '.join((*seen, room))}")
        if room not in floors:
            floors[room] = 1 + max((floor(each, (*seen, room)) for each in below[room]), default=-1)
        return floors[room]

    for room in below:
        floor(room)
    return floors


def _direct(below: dict[str, set[str]]) -> dict[str, set[str]]:
    """Leave out what follows from the rest: an arrow from a to c where there is one from a over b to c."""

    def reach(room: str) -> set[str]:
        return below[room].union(*(reach(each) for each in below[room]))

    return {
        room: {each for each in direct if not any(each in reach(other) for other in direct - {each})}
        for room, direct in below.items()
    }


def draw() -> str:
    """Return the picture as SVG."""
    paths = rooms()
    below = {room: (imports(path) & paths.keys()) - {room} for room, path in paths.items()}
    floors = layers(below)
    highest = max(floors.values())
    rows = [[room for room in paths if floors[room] == floor] for floor in range(highest, -1, -1)]
    width = max(len(row) for row in rows) * (WIDTH + GAP) + GAP
    height = len(rows) * ROW + GAP
    at: dict[str, tuple[float, float]] = {}
    for number, row in enumerate(rows):
        left = (width - len(row) * (WIDTH + GAP) + GAP) / 2
        for index, room in enumerate(row):
            at[room] = (left + index * (WIDTH + GAP), GAP + number * ROW)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" font-family="serif">',
        f'<rect width="{width:g}" height="{height:g}" fill="#fff"/>',
    ]
    for room, direct in _direct(below).items():
        for each in sorted(direct):
            (x1, y1), (x2, y2) = at[room], at[each]
            lines.append(
                f'<line x1="{x1 + WIDTH / 2:g}" y1="{y1 + HEIGHT:g}" x2="{x2 + WIDTH / 2:g}" y2="{y2:g}" '
                'stroke="#9aa" stroke-width="1.2"/>'
            )
    for room, (x, y) in at.items():
        lines += [
            f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="5" fill="#eff" stroke="#467"/>',
            f'<text x="{x + 9:g}" y="{y + 18:g}" font-size="13" font-weight="bold">{room}</text>',
            f'<text x="{x + 9:g}" y="{y + 35:g}" font-size="11">{escape(_said(paths[room]))}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


def _said(path: Path) -> str:
    file = path / "__init__.py" if path.is_dir() else path
    said = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").split("\n")[0]
    short = said.split(":")[0].split(";")[0].split(",")[0].rstrip(".")
    return short if len(short) <= 25 else short[:23].rsplit(" ", 1)[0] + " …"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
