"""Routes: what the code of a session prints goes to that session, everything else where it always went.

`sys.stdout`, `sys.stderr` and `sys.displayhook` belong to the whole process,
so while a session is open each is stood in for by one that asks the current context for its session.
Twisted and asyncio carry the context across every `await`; a thread starts with an empty one.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TextIO


class Route(Protocol):
    """A session, as the code that runs in it meets it."""

    def write(self, text: str, *, error: bool = False) -> None:
        """Show text to the person; from any thread."""

    def display(self, value: object) -> None:
        """Show the value of an expression, as the prompt of Python does."""


current: ContextVar[Route | None] = ContextVar("manhole_route", default=None)


class _Stream:
    """Stands in for `sys.stdout` or `sys.stderr`."""

    def __init__(self, original: TextIO | None, *, error: bool) -> None:
        self._original = original
        self._error = error

    def write(self, text: str) -> int:
        route = current.get()
        if route:
            route.write(text, error=self._error)
        elif self._original:
            self._original.write(text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if self._original and not current.get():
            self._original.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


class _Display:
    """Stands in for `sys.displayhook`."""

    def __init__(self, original: Callable[[object], Any]) -> None:
        self._original = original

    def __call__(self, value: object) -> None:
        route = current.get()
        if route:
            route.display(value)
        else:
            self._original(value)


_holders = 0
_installed: dict[str, tuple[Any, Any]] = {}
"""name in sys: (what stands there, what stood there before)."""


def hold() -> None:
    """Put the stand-ins in place, until as many `release` as `hold` were called."""
    global _holders  # noqa: PLW0603  sys.stdout is as global
    _holders += 1
    if _holders > 1:
        return
    _installed["stdout"] = (_Stream(sys.stdout, error=False), sys.stdout)
    _installed["stderr"] = (_Stream(sys.stderr, error=True), sys.stderr)
    _installed["displayhook"] = (_Display(sys.displayhook), sys.displayhook)
    for name, (ours, _) in _installed.items():
        setattr(sys, name, ours)


def release() -> None:
    """Undo one `hold`; what somebody else has put in place meanwhile is left alone."""
    global _holders  # noqa: PLW0603  as above
    _holders -= 1
    if _holders:
        return
    for name, (ours, before) in _installed.items():
        if getattr(sys, name) is ours:
            setattr(sys, name, before)
    _installed.clear()
