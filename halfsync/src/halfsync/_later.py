"""Modules that are imported when they are first used.

What only a running service needs, Twisted and structlog above all, takes half a second to import;
`--help`, `--version`, `--check_config` and `--probe`, which health checks run all the time, do without.

    if TYPE_CHECKING:
        from twisted.internet import defer
    else:
        defer = later("twisted.internet.defer")
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def later(name: str) -> Any:
    """Return what stands for a module: its attributes are the module's, which is imported for the first."""
    return _Later(name)


class _Later:
    """A module that may not be imported yet; an attribute costs once more than a module's."""

    def __init__(self, name: str) -> None:
        self._module = name

    def __getattr__(self, name: str) -> Any:
        value = getattr(import_module(self._module), name)
        self.__dict__[name] = value
        return value

    def __repr__(self) -> str:
        return f"<{self._module}, imported when it is used>"
