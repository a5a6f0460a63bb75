"""Declaring flags, where they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from halfsync import flag
from halfsync.flags.values import FlagError, assign, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def declare(namespace: flag.NamespaceFlagSet) -> Callable[[type[T]], type[T]]:
    """Make a class of declarations the flags of a namespace of oscar's.

    The class is replaced by the namespace, whose attributes are the flags' values.
    :raises FlagException: when a flag is declared twice, or its own default is none that it takes.
    """

    def register(declarations: type[T]) -> type[T]:
        for name, var in vars(declarations).items():
            if isinstance(var, flag.Var):
                _check_default(name, var)
                setattr(namespace, name, var)
        return cast("type[T]", namespace)

    return register


def _check_default(name: str, var: flag.Var[Any]) -> None:
    if var.default is flag.REQUIRED:
        return
    try:
        assign(var, text_of(var, var.default))
    except FlagError as error:
        raise flag.FlagException(f"the default of {name} {error}") from error
    var.value = flag.UNSET
