"""From a worker thread into the reactor and back, as an ordinary call."""

from __future__ import annotations

from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.python.threadable import isInIOThread

from halfsync import deadline as deadlines
from halfsync.deadline import DeadlineExceeded

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from contextvars import Context

T = TypeVar("T")

LOOK = 0.5
"""Seconds after which a waiting thread looks whether the reactor still runs."""


def from_thread(coroutine: Coroutine[Any, Any, T], *, deadline: float | None = None) -> T:
    """Run a coroutine in the reactor and return what it returns; called by a thread, which waits.

    The coroutine runs in a copy of the caller's context: request id, span and deadline go with it.
    :param deadline: seconds; the earlier of this and the request's own deadline holds.
    :raises DeadlineExceeded: when it passes; the coroutine is cancelled.
    :raises RuntimeError: in the reactor's thread, which would wait for itself, or when no reactor runs.
    """
    from twisted.internet import reactor as any_reactor  # noqa: PLC0415  importing this module chooses no reactor

    reactor = cast("Any", any_reactor)
    fault = (
        "the reactor itself called from_thread: await the coroutine there"
        if isInIOThread()
        else None
        if reactor.running
        else "from_thread needs a running reactor"
    )
    if fault:
        coroutine.close()
        raise RuntimeError(fault)
    with deadlines.within(deadline):
        left = deadlines.remaining()
        context = copy_context()
    call: Any = _Call(coroutine, context)
    reactor.callFromThread(call.start)
    try:
        result = call.wait(reactor, left)
    except DeadlineExceeded:
        reactor.callFromThread(call.cancel)
        raise
    if isinstance(result, Failure):
        result.raiseException()
    return cast("T", result)


class _Call:
    """A coroutine that runs in the reactor while a thread waits."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], context: Context) -> None:
        self._coroutine = coroutine
        self._context = context
        self._results: SimpleQueue[Any] = SimpleQueue()
        self._running: Deferred[Any] | None = None

    def start(self) -> None:
        self._running = self._context.run(Deferred.fromCoroutine, self._coroutine)
        self._running.addBoth(self._results.put)

    def cancel(self) -> None:
        if self._running is not None:
            self._running.cancel()

    def wait(self, reactor: Any, left: float | None) -> Any:
        """Return the result, or a Failure; in slices, as a reactor that stops answers nobody."""
        while left is None or left > 0:
            pause = LOOK if left is None else min(left, LOOK)
            try:
                return self._results.get(timeout=pause)
            except Empty:
                left = None if left is None else left - pause
            if not reactor.running:
                raise RuntimeError("the reactor stopped before the call was done")
        raise DeadlineExceeded("the deadline passed while a thread waited")
