"""Declaring flags, where they are used."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from halfsync import flag
from halfsync.flags.values import FlagError, assign, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

T = TypeVar("T")


AT_START = "read_at_start"
"""The attribute of a flag by which `declare` notes that it is not live."""


PUBLIC = "public"
"""The attribute by which `declare` notes that a flag is no secret, whatever it is called."""


RENAMED = "renamed_from"
"""The attribute by which `declare` notes the names that a flag had before."""


def declare(
    namespace: flag.NamespaceFlagSet,
    *,
    at_start: bool | Collection[str] = False,
    public: Collection[str] = (),
    renamed: Mapping[str, str] = MappingProxyType({}),
) -> Callable[[type[T]], type[T]]:
    """Make a class of declarations the flags of a namespace of oscar's.

    The class is replaced by the namespace, whose attributes are the flags' values.
    A flag is live: code that reads it gets the value that it has at that moment.
    One that is read once, when the service starts, is declared so, and is not set while the service runs:
    the new value would be shown, and not be used.

    The value of a secret is shown nowhere: of a flag that is `secure`, and of a text that is called like one
    (`password`, `secret`, `token`, `key`, `dsn`) and is not declared public.

    :param at_start: all flags of the class are read at the start only, or those of these names.
    :param public: the names of flags that are no secrets.
    :param renamed: old names, and what the flags are called now: the old ones are taken with a warning.
    :raises FlagException: when a flag is declared twice, or its own default is none that it takes.
    """

    def register(declarations: type[T]) -> type[T]:
        for name, var in vars(declarations).items():
            if isinstance(var, flag.Var):
                _check_default(name, var)
                setattr(var, AT_START, at_start if isinstance(at_start, bool) else name in at_start)
                setattr(var, PUBLIC, name in public)
                setattr(var, RENAMED, [old for old, new in renamed.items() if new == name])
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
