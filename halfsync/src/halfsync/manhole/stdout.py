"""Routes: what the code of a session prints goes to that session, everything else where it always went.

`sys.stdout`, `sys.stderr` and `sys.displayhook` belong to the whole process,
so while a session is open each is stood in for by one that looks for the session it is called for.
The current context knows it; Twisted and asyncio carry that across every `await`.
A thread or a delayed call starts without: there it is the session whose code is among the callers.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType
    from typing import TextIO


class Route(Protocol):
    """A session, as the code that runs in it meets it."""

    namespace: dict[str, Any]
    """The globals of its code."""

    def write(self, text: str, *, error: bool = False) -> None:
        """Show text to the person; from any thread."""

    def display(self, value: object) -> None:
        """Show the value of an expression, as the prompt of Python does."""


current: ContextVar[Route | None] = ContextVar("manhole_route", default=None)


def find() -> Route | None:
    """Return the session that the calling code belongs to."""
    route = current.get()
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  documented
    while frame and not route:
        route = _open.get(id(frame.f_globals))
        frame = frame.f_back
    return route


class _Stream:
    """Stands in for `sys.stdout` or `sys.stderr`."""

    def __init__(self, original: TextIO | None, *, error: bool) -> None:
        self._original = original
        self._error = error

    def write(self, text: str) -> int:
        route = find()
        if route:
            route.write(text, error=self._error)
        elif self._original:
            self._original.write(text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if self._original and not find():
            self._original.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


class _Display:
    """Stands in for `sys.displayhook`."""

    def __init__(self, original: Callable[[object], Any]) -> None:
        self._original = original

    def __call__(self, value: object) -> None:
        route = find()
        if route:
            route.display(value)
        else:
            self._original(value)


_open: dict[int, Route] = {}
"""Sessions by the identity of their namespace."""

_holders = 0
_installed: dict[str, tuple[Any, Any]] = {}
"""name in sys: (what stands there, what stood there before)."""


def enter(route: Route) -> None:
    """Route to a session, until it is left."""
    _open[id(route.namespace)] = route
    hold()


def leave(route: Route) -> None:
    """Undo `enter`."""
    del _open[id(route.namespace)]
    release()


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
