"""A WSGI application that goes on only while a test waits for it, which sees each piece as it comes.

The application has a thread of its own, as in the service, but never runs at the same time as the test:
what it hands to the reactor is done by the test, and the application waits until the test wants more.
"""

from __future__ import annotations

from contextvars import ContextVar
from queue import Empty, SimpleQueue
from threading import Semaphore, Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 30.0
"""Seconds after which an application that hands on nothing, and does not end, has failed."""


class Steps:
    """One call of an application."""

    def __init__(self) -> None:
        self._thread: Thread | None = None
        self._waits = True
        """Whether the application is still, until it is told to go on."""
        self._turn = Semaphore(0)
        self._handed: SimpleQueue[Callable[[], object] | None] = SimpleQueue()

    def begin(self, call: Callable[[], object]) -> None:
        """Have a thread that makes the call, once the test waits for it."""
        self._thread = Thread(target=self._run, args=(call,), daemon=True)
        self._thread.start()

    def go_on(self) -> bool:
        """Let the application run until it hands something over, and do that; return False at its end.

        :raises TimeoutError: when it does neither in time.
        """
        if self._thread is None:
            return False
        if self._waits:
            self._waits = False
            self._turn.release()
        try:
            handed = self._handed.get(timeout=PATIENCE)
        except Empty:
            raise TimeoutError(f"the application handed on nothing for {PATIENCE:g} s") from None
        self._waits = True
        if handed is None:
            self._thread.join()
            self._thread = None
            return False
        handed()
        return True

    # In the application's thread.

    def hand_over(self, call: Callable[[], object]) -> None:
        """Have the test make a call, and wait until it wants more."""
        self._handed.put(call)
        self._turn.acquire()

    def _run(self, call: Callable[[], object]) -> None:
        self._turn.acquire()
        try:
            call()
        finally:
            self._handed.put(None)


STEPS: ContextVar[Steps | None] = ContextVar("STEPS", default=None)
"""Set while a request is handed over whose application is to run in steps, and in the context of that."""
