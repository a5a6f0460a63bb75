"""What the tab key offers; as no line in the log says what it did, it runs no code but the library's own."""

from __future__ import annotations

import inspect
import re
import sys
from contextlib import suppress
from types import (
    BuiltinFunctionType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    WrapperDescriptorType,
)
from typing import Any

NOTHING = object()

ROUTINES = (BuiltinFunctionType, FunctionType, MethodDescriptorType, WrapperDescriptorType)
"""What has the same names whether it is bound to an object or not."""


def complete(line: str, namespace: dict[str, Any]) -> tuple[str, list[str]]:
    """Return the last name of a line, and the names with which it could go on.

    Of `a.b.c`, what `a.b` is gets looked up as far as it is there: no property, descriptor, `__getattr__` or
    `__dir__` is called, which may do anything. Objects of the library's own are asked.
    """
    word = re.split(r"[^\w.]", line)[-1]
    first, *more = word.split(".")
    if not more:
        offered = set(_rlcompleter().Completer({}).global_matches(word))
        return word, sorted(offered | {_called(name, namespace[name]) for name in _fitting(word, namespace)})
    value = namespace.get(first, NOTHING)
    for name in more[:-1]:
        value = _attribute(value, name)
    before = word.rpartition(".")[0]
    found = [_called(name, _attribute(value, name)) for name in _fitting(more[-1], _names(value))]
    return word, sorted(f"{before}.{name}" for name in found)


def _fitting(begin: str, names: Any) -> list[str]:
    """Return the names that begin so; those with underscores only when they are asked for."""
    hidden = {"": "_", "_": "__"}.get(begin)
    every = [name for name in names if isinstance(name, str) and name.startswith(begin)]
    return [name for name in every if not (hidden and name.startswith(hidden))] or every


def _called(name: str, value: object) -> str:
    return f"{name}(" if callable(value) else name


def _ours(value: object) -> bool:
    module = type.__dict__["__module__"].__get__(type(value))
    return isinstance(module, str) and module.partition(".")[0] == __name__.partition(".")[0]


def _attribute(value: object, name: str) -> Any:
    if _ours(value):
        with suppress(Exception):
            return getattr(value, name)
        return NOTHING
    found: Any = NOTHING if value is NOTHING else inspect.getattr_static(value, name, NOTHING)
    if type(found) in (staticmethod, classmethod):
        return found.__func__
    if type(found) is MemberDescriptorType and not _is_class(value):
        # A slot.
        with suppress(AttributeError):
            return found.__get__(value)
        return NOTHING
    # What else is bound when it is read has the names of a function, or is whatever its code makes of it.
    bound = inspect.getattr_static(type(found), "__get__", NOTHING) is not NOTHING
    return NOTHING if bound and type(found) not in ROUTINES else found


def _names(value: object) -> set[str]:
    if value is NOTHING:
        return set()
    if _ours(value):
        return set(dir(value))
    # Objects have what is in their own `__dict__`, too, unless a class has put something else there.
    places = []
    names: set[str] = set()
    for base in _bases(value if _is_class(value) else type(value)):
        space = type.__dict__["__dict__"].__get__(base)
        names.update(space)
        places += [space["__dict__"]] if "__dict__" in space else []
    if not _is_class(value) and places and type(places[0]) in (GetSetDescriptorType, MemberDescriptorType):
        names.update(places[0].__get__(value) or ())
    return names


def _is_class(value: object) -> bool:
    # isinstance would ask the value's own `__class__`, which may be a property.
    return issubclass(type(value), type)


def _bases(kind: Any) -> tuple[type, ...]:
    bases: tuple[type, ...] = type.__dict__["__mro__"].__get__(kind)
    return bases


def _rlcompleter() -> Any:
    # It would import readline, and that take over a terminal that is the service's.
    missing = object()
    before: Any = sys.modules.get("readline", missing)
    sys.modules["readline"] = None  # type: ignore[assignment]
    try:
        import rlcompleter  # noqa: PLC0415  in the absence of readline
    finally:
        del sys.modules["readline"]
        if before is not missing:
            sys.modules["readline"] = before
    return rlcompleter
