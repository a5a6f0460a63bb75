"""Secrets that are typed, kept out of the log; code is never.

Only a constant that an assignment gives to a secret flag is masked: a constant does nothing by itself.
"""

from __future__ import annotations

import ast
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

MASK = "'********'"


def masked(source: str, secrets: Collection[str]) -> str:
    """Return source for the log, with constants that are assigned to a secret flag left out.

    `flags.db.token = 'hush'` is such an assignment for a secret flag `db.token`; an f-string is no constant.
    What does not parse by itself is returned as it is: it cannot be told there what is a constant.
    So is a statement that gives the name `flags` to something else, which may run what it is given.
    :param source: a statement from its first line on, as it will be run.
    """
    if not secrets:
        return source
    prefix = source[:1] if source[:1] in ("&", "!") else ""
    lines = source.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    # As the interpreter reads it: the prefix and the blanks after it are no code.
    blanks = len(lines[0]) - len(lines[0][len(prefix) :].lstrip(" ")) if prefix else 0
    tree = _parse("\n".join([lines[0][blanks:], *lines[1:]]))
    if tree is None or any(_names_flags(node) for node in ast.walk(tree)):
        return source
    encoded = [line.encode() for line in lines]
    # The last first, so that places before it stay what they are.
    constants = sorted(_constants(tree, secrets), key=lambda each: (each.lineno, each.col_offset))
    for value in reversed(constants):
        first, last = value.lineno - 1, (value.end_lineno or value.lineno) - 1
        begin = value.col_offset + (blanks if first == 0 else 0)
        end = (value.end_col_offset or 0) + (blanks if last == 0 else 0)
        before, after = encoded[first][:begin], encoded[last][end:]
        whole = b"\n".join(encoded[first : last + 1])
        if _is(value, whole[begin : len(whole) - len(after)].decode("utf-8", "replace")):
            encoded[first : last + 1] = [before + MASK.encode() + after]
    return b"\n".join(encoded).decode()


def _parse(source: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            # The compiler warns of an odd escape when the statement is run.
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _is(value: ast.Constant, text: str) -> bool:
    """Make sure that a text is the constant and nothing else."""
    tree = _parse(f"({text})")
    match tree.body if tree else []:
        case [ast.Expr(ast.Constant(found))]:
            return type(found) is type(value.value) and found == value.value
    return False


def _constants(tree: ast.AST, secrets: Collection[str]) -> list[ast.Constant]:
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.value, ast.Constant)
        if _flag(node.targets[0]) in secrets
    ]


def _names_flags(node: ast.AST) -> bool:
    """Say whether a node gives the name `flags` to something else, as an assignment, or a parameter."""
    if isinstance(node, ast.Name):
        return node.id == "flags" and not isinstance(node.ctx, ast.Load)
    if isinstance(node, ast.alias):
        return (node.asname or node.name.partition(".")[0]) in ("flags", "*")
    # Other nodes have such a name as a text: a function, a parameter, an exception, a pattern.
    others = isinstance(node, ast.Attribute | ast.Constant | ast.keyword | ast.Global | ast.Nonlocal)
    return not others and any(value == "flags" for _, value in ast.iter_fields(node))


def _flag(target: ast.expr) -> str:
    """Return the flag that `flags.<name>` means; nothing for any other target."""
    words: list[str] = []
    while isinstance(target, ast.Attribute):
        words.append(target.attr)
        target = target.value
    return ".".join(reversed(words)) if isinstance(target, ast.Name) and target.id == "flags" else ""
