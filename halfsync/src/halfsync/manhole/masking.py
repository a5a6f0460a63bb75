"""Secrets that are typed, kept out of the log; code is never.

Only a constant that an assignment gives to a secret flag is masked: a constant does nothing by itself.
Nothing runs before such an assignment but others like it, or it might no longer be one: a call could have
made `flags` something that runs what it is given.
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
    So is what comes after a statement of another kind, or within one.
    :param source: a statement from its first line on, as it will be run.
    """
    if not secrets:
        return source
    prefix = source[:1] if source[:1] in ("&", "!") else ""
    lines = source.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    # As the interpreter reads it: the prefix and the blanks after it are no code.
    blanks = len(lines[0]) - len(lines[0][len(prefix) :].lstrip(" ")) if prefix else 0
    tree = _parse("\n".join([lines[0][blanks:], *lines[1:]]))
    if tree is None:
        return source
    encoded = [line.encode() for line in lines]
    # The last first, so that places before it stay what they are.
    for value in reversed(_constants(tree, secrets)):
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


def _constants(tree: ast.Module, secrets: Collection[str]) -> list[ast.Constant]:
    found = []
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[target], value=ast.Constant() as value) if name := _flag(target):
                if name in secrets:
                    found.append(value)
            case ast.Pass() | ast.Expr(ast.Constant()):
                pass
            case _:
                break
    return found


def _flag(target: ast.expr) -> str:
    """Return the flag that `flags.<name>` means; nothing for any other target."""
    words: list[str] = []
    while isinstance(target, ast.Attribute):
        words.append(target.attr)
        target = target.value
    return ".".join(reversed(words)) if isinstance(target, ast.Name) and target.id == "flags" else ""
