"""What the code of a session prints goes to that session, everything else where it always went.

`sys.stdout`, `sys.stderr` and `sys.displayhook` belong to the whole process,
so while a session is open each is stood in for by one that looks for the session it is called for.
The current context knows the session; Twisted and asyncio carry that across every `await`.
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


class Output(Protocol):
    """A session, as the code that runs in it meets it."""

    namespace: dict[str, Any]
    """The globals of its code."""

    def write(self, text: str, *, error: bool = False) -> None:
        """Show text to the person; from any thread."""

    def display(self, value: object) -> None:
        """Show the value of an expression, as the prompt of Python does."""


current: ContextVar[Output | None] = ContextVar("manhole_output", default=None)


class Redirection:
    """The three stand-ins in `sys`, there while anything is to be redirected; each manhole has one."""

    def __init__(self) -> None:
        self._sessions: dict[int, Output] = {}
        """Open sessions, by the identity of their namespace."""
        self._holders = 0
        self._installed: dict[str, tuple[Any, Any]] = {}
        """Name in sys: (what stands there, what stood there before)."""

    def enter(self, session: Output) -> None:
        """Redirect to a session, until it leaves."""
        self._sessions[id(session.namespace)] = session
        self.hold()

    def leave(self, session: Output) -> None:
        """Undo `enter`."""
        del self._sessions[id(session.namespace)]
        self.release()

    def hold(self) -> None:
        """Put the stand-ins in place, until `release` was called as often as `hold`."""
        self._holders += 1
        if self._holders > 1:
            return
        self._installed["stdout"] = (_Stream(self, sys.stdout, error=False), sys.stdout)
        self._installed["stderr"] = (_Stream(self, sys.stderr, error=True), sys.stderr)
        self._installed["displayhook"] = (_Display(self, sys.displayhook), sys.displayhook)
        for name, (ours, _) in self._installed.items():
            setattr(sys, name, ours)

    def release(self) -> None:
        """Undo one `hold`; what other code has put in place meanwhile is left alone."""
        self._holders -= 1
        if self._holders:
            return
        for name, (ours, before) in self._installed.items():
            if getattr(sys, name) is ours:
                setattr(sys, name, before)
        self._installed.clear()

    def find(self) -> Output | None:
        """Return the session that the calling code belongs to."""
        session = current.get()
        frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  documented
        while frame and not session:
            session = self._sessions.get(id(frame.f_globals))
            frame = frame.f_back
        return session


class _Stream:
    """Stands in for `sys.stdout` or `sys.stderr`."""

    def __init__(self, redirection: Redirection, original: TextIO | None, *, error: bool) -> None:
        self._redirection = redirection
        self._original = original
        self._error = error

    def write(self, text: str) -> int:
        session = self._redirection.find()
        if session:
            session.write(text, error=self._error)
        elif self._original:
            self._original.write(text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if self._original and not self._redirection.find():
            self._original.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


class _Display:
    """Stands in for `sys.displayhook`."""

    def __init__(self, redirection: Redirection, original: Callable[[object], Any]) -> None:
        self._redirection = redirection
        self._original = original

    def __call__(self, value: object) -> None:
        session = self._redirection.find()
        if session:
            session.display(value)
        else:
            self._original(value)
