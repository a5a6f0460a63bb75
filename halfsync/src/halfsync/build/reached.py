"""Which modules a service may import: the others need not be compiled for its start.

Where the name of a module is put together when a program runs, nobody can tell it before; so only those
packages are looked through that are known not to name their own modules so.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

LOOKED_THROUGH = frozenset({"automat", "cffi", "packaging", "pycparser", "twisted"})
"""Packages whose modules import one another by statements; Twisted's commands, which do not, are not run."""
PLUGINS = "twisted.plugins."
"""What Twisted finds by a look into the folder."""


def reached(sources: Mapping[str, Path]) -> set[str]:
    """Return the modules that others may import.

    Of `LOOKED_THROUGH` those to which an import statement leads, or a string with the whole name, from the
    service or from another package; and all modules of other packages.

    :param sources: the file of each module by its full name, that of a package being its `__init__.py`.
    """
    found: set[str] = set()
    wanted = [name for name in sources if not _is_looked_through(name) or name.startswith(PLUGINS)]
    while wanted:
        name = wanted.pop()
        if name in sources and name not in found:
            found.add(name)
            wanted += [name.rpartition(".")[0], *_named(name, sources)]
    return found


def _is_looked_through(name: str) -> bool:
    return name.partition(".")[0] in LOOKED_THROUGH


def _named(name: str, sources: Mapping[str, Path]) -> Iterator[str]:
    """Tell what a module names; other things than modules, too."""
    path = sources[name]
    try:
        nodes = ast.walk(ast.parse(path.read_bytes()))
    except (SyntaxError, ValueError):
        return  # what no Python 3 reads
    package = (name if path.name == "__init__.py" else name.rpartition(".")[0]).split(".")
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{each.name}" for each in node.names)
        elif isinstance(node, ast.Constant) and not _is_looked_through(name):
            yield from _as_module(node.value, sources)


def _as_module(value: object, sources: Collection[str]) -> Iterator[str]:
    if isinstance(value, str) and value in sources:
        yield value
