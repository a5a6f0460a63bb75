"""Declaring flags, where they are used."""

from __future__ import annotations

import warnings
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


class Reading:
    """Whether flags have values yet."""

    def __init__(self) -> None:
        self.allowed = False
        """Whether `flags.parse` has set them, or a test wants their defaults."""
        self.parsed = False
        """Whether `flags.parse` has returned: what is declared from now on can be given no value."""


reading = Reading()


class Declared:
    """The flags of a namespace: their values as attributes, once there are any."""

    __slots__ = ("_flags", "_name")

    def __init__(self, name: str, flags: flag.NamespaceFlagSet) -> None:
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_flags", flags)

    def __getattr__(self, name: str) -> Any:
        flags, space = object.__getattribute__(self, "_flags"), object.__getattribute__(self, "_name")
        if name not in dir(flags):
            raise AttributeError(f"{space} has no flag {name}")
        if not reading.allowed:
            full = f"{space}.{name}".lstrip(".")
            raise flag.FlagException(
                f"the flag {full} is read before flags.parse, and would have its default whatever was given:"
                " read it in what runs later, such as make_app, parts or a handler"
                " (in a test: within halfsync.testing.flags_set)"
            )
        return getattr(flags, name)

    def __setattr__(self, name: str, value: object) -> None:
        del value
        raise flag.FlagException(f"{name}: a flag is set by its sources, or by flags.set_live while it runs")

    def __dir__(self) -> list[str]:
        return dir(object.__getattribute__(self, "_flags"))


def declare(
    namespace: flag.NamespaceFlagSet,
    *,
    at_start: bool | Collection[str] = False,
    public: Collection[str] = (),
    renamed: Mapping[str, str] = MappingProxyType({}),
) -> Callable[[type[T]], type[T]]:
    """Make a class of declarations the flags of a namespace of oscar's.

    The class is replaced by an object whose attributes are the flags' values,
    which can be read once `flags.parse` has set them.
    A flag is live: code that reads it gets the value that it has at that moment.
    One that is read once, when the service starts, is declared so, and is not set while the service runs:
    the new value would be shown, and not be used.

    The value of a secret is shown nowhere: of a flag that is `secure`, and of a text that is called like one
    (`password`, `secret`, `token`, `key`, `dsn`) and is not declared public.

    :param at_start: all flags of the class are read at the start only, or those of these names.
    :param public: the names of flags that are no secrets.
    :param renamed: old names, and what the flags are called now: the old ones are taken with a warning.
    :raises FlagException: when a flag is declared twice, or its own default is none that it takes;
        and when one is read too early.
    """

    def register(declarations: type[T]) -> type[T]:
        space = next(
            (each for each, kept in flag.GLOBAL_FLAGS.namespace_flags.items() if kept is namespace), ""
        )
        if reading.parsed:
            warnings.warn(
                f"the flags of {space} are declared after flags.parse, and keep their defaults:"
                f" import {declarations.__module__} before it is called",
                RuntimeWarning,
                stacklevel=2,
            )
        for name, var in vars(declarations).items():
            if isinstance(var, flag.Var):
                _check_default(name, var)
                setattr(var, AT_START, at_start if isinstance(at_start, bool) else name in at_start)
                setattr(var, PUBLIC, name in public)
                setattr(var, RENAMED, [old for old, new in renamed.items() if new == name])
                setattr(namespace, name, var)
        return cast("type[T]", Declared(space, namespace))

    return register


def _check_default(name: str, var: flag.Var[Any]) -> None:
    if var.default is flag.REQUIRED:
        return
    try:
        assign(var, text_of(var, var.default))
    except FlagError as error:
        raise flag.FlagException(f"the default of {name} {error}") from error
    var.value = flag.UNSET
