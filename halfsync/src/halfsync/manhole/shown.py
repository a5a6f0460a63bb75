"""What a session shows of what its code prints, from whichever thread: so much for each statement."""

from __future__ import annotations

import threading
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ENDING = 10_000
"""Characters that may tell how a statement ended, on top of what it may print."""


class Shown:
    """Takes text in any thread, and shows it in the one that made this.

    What another thread prints is counted there, and shown by one call in the reactor however much it is:
    a loop that prints without end would keep the reactor from reading Ctrl-C, and from all else.
    """

    def __init__(self, show: Callable[[str, bool], None], *, limit: int, reactor: Any) -> None:
        """Show by `show(text, is_error)`.

        :param limit: characters of a statement; the rest is cut with a note.
        """
        self._show = show
        self._limit = self._left = limit
        self._reactor = reactor
        self._thread = threading.get_ident()
        # Code that the collector runs may print in the middle of a print.
        self._lock = threading.RLock()
        self._waiting: list[tuple[str, bool]] = []
        self._due = False
        """Whether a call in the reactor is to show what waits."""
        self._closed = False

    def begin(self) -> None:
        """Begin a statement, which may print as much as any."""
        self._left = self._limit

    def close(self) -> None:
        """Show nothing any more."""
        self._closed = True

    def write(self, text: str, *, error: bool) -> None:
        """Show text, up to the limit; from any thread."""
        with self._lock:
            if self._closed or self._left <= 0 or not text:
                return
            self._left -= len(text)
            self._waiting.append((text if self._left > 0 else text[: self._left or None], error))
            if self._left <= 0:
                cut = f"\n[cut: a statement may print {self._limit} characters]\n"
                self._waiting.append((cut, True))
            due, self._due = self._due, True
        if threading.get_ident() == self._thread:
            self._show_waiting()
        elif not due:
            self._reactor.callFromThread(self._show_waiting)

    def tell_end(self, text: str) -> None:
        """Show how a statement ended, also when it has printed all that it may."""
        self._left = max(self._left, ENDING)
        self.write(text, error=True)

    def _show_waiting(self) -> None:
        with self._lock:
            waiting, self._waiting, self._due = self._waiting, [], False
        for error, texts in groupby(waiting, key=itemgetter(1)):
            if not self._closed:
                self._show("".join(text for text, _ in texts), error)
