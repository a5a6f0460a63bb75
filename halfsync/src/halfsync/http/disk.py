"""A thread for what may have to wait for the disk: where that hangs, the reactor goes on."""

from __future__ import annotations

from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.interfaces import IReactorFromThreads

if TYPE_CHECKING:
    from collections.abc import Callable

    Done = Callable[[OSError | None], None]


class Disk:
    """Makes calls one after the other, in a daemon thread that starts with the first of them.

    With a reactor that knows no threads, as one in memory, they are made at once.
    """

    def __init__(self, reactor: Any, name: str = "disk") -> None:
        self._name = name
        self._reactor = reactor if IReactorFromThreads.providedBy(reactor) else None
        self._calls: SimpleQueue[tuple[Callable[[], object], Done]] = SimpleQueue()
        self._thread: Thread | None = None

    def make(self, call: Callable[[], object], done: Done) -> None:
        """Make a call that raises nothing but OSError, then tell the reactor how it went."""
        if self._reactor is None:
            done(_made(call))
            return
        if self._thread is None:
            self._thread = Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        self._calls.put((call, done))

    def _work(self) -> None:
        while True:
            call, done = self._calls.get()
            cast("Any", self._reactor).callFromThread(done, _made(call))
            del call, done


def _made(call: Callable[[], object]) -> OSError | None:
    try:
        call()
    except OSError as error:
        return error
    return None
