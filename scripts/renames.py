"""Rewrites, in a service's own code, names that have moved since the version that it came from.

`update.py` runs it after the merge. What it cannot rewrite it returns as a list for a person.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import libcst
from libcst.helpers import get_full_name_for_node

if TYPE_CHECKING:
    from collections.abc import Iterable

LIBRARY = Path(__file__).resolve().parent.parent / "halfsync" / "src" / "halfsync"

FLAGS: dict[str, str] = {}
"""Flags that have another name now, `{"web.old": "web.new"}`: none so far, says a test of the history."""

OLD = re.compile(r"^(?:\w+\.)?chassis(?:\.|$)")
"""The modules of a service that was generated before the library existed, below its package."""


def public(module: Path) -> frozenset[str]:
    """Return what a module says is public."""
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return frozenset(ast.literal_eval(node.value))
    return frozenset()


FACE = public(LIBRARY / "__init__.py")
FLAG_TYPES = public(LIBRARY / "flags" / "__init__.py")
TESTING = frozenset({"AsyncClient", "Client", "Response", "Unanswered", "flags_set"})


def moved(module: str, name: str) -> tuple[str, str] | None:
    """Return where a name of an earlier module is now, as module and name; none when it is not public.

    :param module: as it was imported, without leading dots.
    """
    below = OLD.sub("chassis.", module)
    place: tuple[str, str] | None = None
    if module == "oscar.flag":
        place = "halfsync.flag", name
    elif below == "chassis.testing" and name in TESTING:
        place = "halfsync.testing", name
    elif below in ("chassis.flagtypes", "chassis.flags") and name in FLAG_TYPES:
        place = "halfsync.flags", name
    elif name in FACE or (below, name) == ("chassis.", "testing"):
        place = "halfsync", name
    elif (below, name) == ("chassis.", "flagtypes"):
        place = "halfsync", "flags"
    return place


class Imports(libcst.CSTTransformer):
    """Rewrites `from ... import` statements, and notes those that have no new place."""

    def __init__(self) -> None:
        super().__init__()
        self.left: list[str] = []
        """Names that a person has to see to."""

    def leave_SimpleStatementLine(
        self,
        original_node: libcst.SimpleStatementLine,  # noqa: ARG002 - libcst's way to call
        updated_node: libcst.SimpleStatementLine,
    ) -> libcst.SimpleStatementLine | libcst.FlattenSentinel[libcst.SimpleStatementLine]:
        """Put in the place of an import the imports of its names from where they are now."""
        node = updated_node.body[0]
        if len(updated_node.body) != 1 or not isinstance(node, libcst.ImportFrom):
            return updated_node
        module = (get_full_name_for_node(node.module) if node.module else "") or ""
        concerned = OLD.match(module) or (module in ("oscar", "oscar.flag") and not node.relative)
        if not concerned or isinstance(node.names, libcst.ImportStar):
            return updated_node
        found: dict[str, list[libcst.ImportAlias]] = {}
        kept: list[libcst.ImportAlias] = []
        for alias in node.names:
            place = moved(module, str(alias.evaluated_name))
            if place is None:
                kept.append(alias.with_changes(comma=libcst.MaybeSentinel.DEFAULT))
                self.left.append(f"{module}.{alias.evaluated_name}")
            else:
                found.setdefault(place[0], []).append(_alias(alias, place[1]))
        lines = [
            updated_node.with_changes(
                body=[libcst.ImportFrom(_dotted(of), names)],
                leading_lines=[],
            )
            for of, names in found.items()
        ]
        if kept:
            lines.append(updated_node.with_changes(body=[node.with_changes(names=kept)], leading_lines=[]))
        lines[0] = lines[0].with_changes(leading_lines=updated_node.leading_lines)
        return libcst.FlattenSentinel(lines)


def _dotted(name: str) -> libcst.Attribute | libcst.Name:
    first, *rest = name.split(".")
    node: libcst.Attribute | libcst.Name = libcst.Name(first)
    for each in rest:
        node = libcst.Attribute(node, libcst.Name(each))
    return node


def _alias(alias: libcst.ImportAlias, name: str) -> libcst.ImportAlias:
    """Return an import of a name that the code goes on calling as it did."""
    called = alias.evaluated_alias or alias.evaluated_name
    named = None if called == name else libcst.AsName(libcst.Name(str(called)))
    return libcst.ImportAlias(libcst.Name(name), asname=named)


def rewrite(folder: Path, names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Rewrite files of a service, and return those that changed, and a line for each name that is left.

    :param names: of the files, relative to the folder; those that are no text are let be.
    """
    changed: list[str] = []
    left: list[str] = []
    for name in names:
        path = folder / name
        try:
            before = path.read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        text = before
        for old, new in FLAGS.items():
            text = re.sub(rf"(?<=--){re.escape(old)}(?![\w.])", new, text)
        if path.suffix == ".py" and re.search(r"\bchassis\b|\boscar\b", text):
            text, unknown = _imports(text)
            left += [f"{name}: {each} is no public name of halfsync (docs/library.md)" for each in unknown]
        if text != before:
            path.write_bytes(text.encode("utf-8"))
            changed.append(name)
    return changed, left


def _imports(text: str) -> tuple[str, list[str]]:
    imports = Imports()
    try:
        return libcst.parse_module(text).visit(imports).code, imports.left
    except libcst.ParserSyntaxError:
        return text, []
