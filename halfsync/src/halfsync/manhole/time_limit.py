"""A limit on how long a statement may hold the reactor, which meanwhile reads no Ctrl-C."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 10.0
"""Seconds."""


class HeldTooLong(BaseException):
    """The statement was interrupted; like KeyboardInterrupt, for no `except Exception` may catch it."""


@contextmanager
def time_limit(seconds: float = LIMIT) -> Iterator[None]:
    """Interrupt what runs within after so many seconds, as Ctrl-C would.

    Nothing is bounded outside of the main thread, or when the service has another use for SIGALRM.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGALRM) != signal.SIG_DFL:
        yield
        return

    def interrupt(_number: int, _frame: object) -> NoReturn:
        raise HeldTooLong(f"it held the reactor for {seconds:g} s; with & before it, it runs in a thread")

    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
