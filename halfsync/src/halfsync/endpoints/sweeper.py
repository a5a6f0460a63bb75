"""Looks at deadlines every so often, but not before those have been heard who kept them.

In a turn of the reactor timers come before sockets. When something has held it up, or the process had no
processor, what clients sent in time still waits in the kernel: to look at deadlines first would cut them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Sweeper:
    """Makes a call every so often, from `begin` to `end`.

    :param period: returns how many seconds later the next one is.
    """

    __slots__ = ("_call", "_heard", "_period", "_reactor", "_sweep")

    def __init__(self, reactor: Any, sweep: Callable[[], object], period: Callable[[], float]) -> None:
        self._reactor = reactor
        self._sweep = sweep
        self._period = period
        self._call: Any = None
        self._heard = False
        """Whether sockets were looked at since the call was due."""

    def begin(self) -> None:
        """Make calls from now on, if that is not so already."""
        if self._call is None:
            self._call = self._reactor.callLater(self._period(), self._due)

    def hurry(self) -> None:
        """Make the next call after a period that has become shorter."""
        if self._call is not None:
            self._call.reset(self._period())

    def go_on(self) -> None:
        """Make the next call in the next turn: there is more to look at."""
        if self._call is not None:
            self._heard = True
            self._call.reset(0)

    def end(self) -> None:
        """Make no more calls until the next `begin`."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self._heard = False

    def _due(self) -> None:
        sweep, self._heard = self._heard, not self._heard
        self._call = self._reactor.callLater(self._period() if sweep else 0, self._due)
        if sweep:
            self._sweep()
