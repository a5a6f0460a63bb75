"""Calls in a thread: which functions may be called there, and how their results come back."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Generic, TypeVar

from halfsync._later import later

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet import defer
    from twisted.python import failure
else:
    defer = later("twisted.internet.defer")
    failure = later("twisted.python.failure")

T = TypeVar("T")


class Busy(Exception):  # noqa: N818  a state of the pool, not an error of anybody's
    """Every thread is taken and every place in the queue, or the pool has stopped."""

    def __init__(self, retry_after: int = 1) -> None:
        super().__init__("every worker thread and every place in the queue is taken")
        self.retry_after = retry_after
        """Seconds after which it is worth trying again."""


class DeferredCall(Generic[T]):
    """A call in a thread whose result comes back as a Deferred."""

    __slots__ = ("_result", "deferred", "function")

    def __init__(self, function: Callable[[], T]) -> None:
        self.function = function
        self.deferred: defer.Deferred[T] = defer.Deferred()
        self._result: T | failure.Failure

    def __call__(self) -> None:
        """Make the call, in a thread."""
        try:
            self._result = self.function()
        except BaseException:  # noqa: BLE001  SystemExit, too, belongs to who asked for the call
            self._result = failure.Failure()

    def deliver(self) -> None:
        """Hand the result to who asked for it."""
        # It may have been cancelled meanwhile.
        if not self.deferred.called:
            self.deferred.callback(self._result)

    def discard(self) -> None:
        """Tell whatever waits that the call will not be made."""
        if not self.deferred.called:
            self.deferred.errback(failure.Failure(defer.CancelledError("the workers stopped first")))

    def expire(self) -> None:
        """Tell whatever waits that the call has waited too long."""
        if not self.deferred.called:
            self.deferred.errback(failure.Failure(Busy()))


def is_coroutine_function(fn: Callable[[], object]) -> bool:
    """Say whether a call of it returns a coroutine."""
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(type(fn).__call__)


def refusing_waitables(fn: Callable[[], object]) -> Callable[[], object]:
    """Return it so that a function which belongs in the reactor, and was taken for a blocking one, fails."""

    @functools.wraps(fn)
    def call() -> object:
        result = fn()
        if isinstance(result, defer.Deferred) or inspect.iscoroutine(result):
            raise TypeError("the task's function returned something to wait for; declare it with async def")
        return result

    return call
