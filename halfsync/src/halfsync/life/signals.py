"""What each signal does, from the first line of a program on.

    TERM, INT   drain and end; a second one ends at once
    HUP         read again what may have changed on disk
    USR1        every thread's stack, every request and task, into the log
    USR2        open or close the manhole

`hold_signals()` is for the first line of a program, before its imports: they take a second,
in which TERM would be lost by process 1 (signal(7): the kernel keeps from it what it does not handle),
and HUP, USR1 and USR2 would end any other process.
Little is imported here for that reason.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from types import FrameType

STOP = (signal.SIGTERM, signal.SIGINT)

ALL = (*STOP, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

FORCED = 3
"""Exit code of a process that was told twice to stop."""


class Actions(Protocol):
    """What a process does about signals; called between two bytecodes of the main thread."""

    def told_to_stop(self, name: str) -> None:
        """TERM or INT has come."""

    def told_to_reload(self) -> None:
        """HUP has come."""

    def told_to_dump(self, interrupted: FrameType | None) -> None:
        """USR1 has come, and has interrupted the main thread in this frame."""

    def told_to_toggle(self) -> None:
        """USR2 has come."""


class Held:
    """The handler of a process that cannot do anything about a signal yet."""

    def __init__(self) -> None:
        self.come: list[int] = []
        """What has come, and is to be obeyed later."""

    def __call__(self, number: int, _frame: FrameType | None = None) -> None:
        """Keep a signal; end at the second one to stop, as an import may be stuck."""
        if number in STOP and any(each in STOP for each in self.come):
            os._exit(FORCED)
        if number != signal.SIGUSR1:
            # The bare stack is on standard error: where the imports were.
            self.come.append(number)


def hold_signals() -> None:
    """Have signals do no harm until the service runs; they are obeyed then. For the main thread."""
    held = Held()
    for number in ALL:
        signal.signal(number, held)
    _dump_in_c()
    _let_through()


def held() -> list[int]:
    """Return the signals that came while they were held, and those that come until `handle`."""
    handler = signal.getsignal(signal.SIGTERM)
    return handler.come if isinstance(handler, Held) else []


def handle(actions: Actions) -> None:
    """Do about each signal what the module's text says. For the main thread."""
    # It does not notice that another handler has taken its place.
    faulthandler.unregister(signal.SIGUSR1)
    for number in ALL:
        signal.signal(number, lambda number, frame: act(actions, number, frame))
    _dump_in_c()
    _let_through()


def act(actions: Actions, number: int, frame: FrameType | None = None) -> None:
    """Do what a signal asks for."""
    match number:
        case signal.SIGHUP:
            actions.told_to_reload()
        case signal.SIGUSR1:
            actions.told_to_dump(frame)
        case signal.SIGUSR2:
            actions.told_to_toggle()
        case _:
            actions.told_to_stop(signal.Signals(number).name)


def ignore() -> None:
    """Have no signal do anything any more. For the main thread."""
    faulthandler.unregister(signal.SIGUSR1)
    for number in ALL:
        signal.signal(number, signal.SIG_IGN)


def _dump_in_c() -> None:
    # A bare stack on standard error, before the handler: a call into C that keeps the interpreter's lock lets
    # no Python code run, and of such a process this is all that can be had.
    # Of the thread alone that takes the signal, mostly the main one: another may run meanwhile, and to read
    # its frames then has crashed a process.
    with suppress(OSError, ValueError, AttributeError):
        faulthandler.register(signal.SIGUSR1, sys.__stderr__ or 2, all_threads=False, chain=True)


def _let_through() -> None:
    # Whoever starts the process may block the signals until now: env --block-signal=TERM,HUP,USR1,USR2.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ALL)
