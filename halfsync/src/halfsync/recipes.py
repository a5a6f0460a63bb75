"""Whole programs on halfsync, each a screen or two: `python -m halfsync.recipes [NAME]` lists or prints them.

They are `halfsync/examples/` of the repository, where a test runs each; the wheel has them, too.
"""

from __future__ import annotations

import ast
import sys
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.resources.abc import Traversable


def programs() -> dict[str, Traversable]:
    """Return every program by its short name: `shop` for `shop_app.py`."""
    folder = files("halfsync") / "examples"
    if not folder.is_dir():
        folder = Path(__file__).parents[2] / "examples"
    if not folder.is_dir():
        return {}
    found = [each for each in folder.iterdir() if each.name.endswith(".py")]
    return {each.name.removesuffix(".py").removesuffix("_app"): each for each in found}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what there is, or one program; return 2 for a name that there is not, 1 where there is none."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    found = programs()
    if not found:
        print("halfsync.recipes: the programs are not here, only in the wheel", file=sys.stderr)  # noqa: T201  for a person
        return 1
    if not words:
        width = max(map(len, found))
        for name in sorted(found):
            told = ast.get_docstring(ast.parse(found[name].read_text("utf-8"))) or ""
            print(f"{name:{width}}  {told.partition(chr(10))[0]}")  # noqa: T201  for a person
        print("\npython -m halfsync.recipes NAME prints one.")  # noqa: T201  the same
    elif len(words) == 1 and words[0] in found:
        sys.stdout.write(found[words[0]].read_text("utf-8"))
    else:
        told = f"{' '.join(words)!r} is none of {', '.join(sorted(found))}"
        print(f"halfsync.recipes: {told}", file=sys.stderr)  # noqa: T201  the same
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
