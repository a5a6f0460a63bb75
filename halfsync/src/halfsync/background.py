"""Work that outlives its request: handed over by a handler, run by a thread, waited for at the end.

    background = process.add(Background(reactor=process.reactor))
    ...
    background.start_soon(send_mail, order)       # from a handler, in whichever thread it runs

It is bounded (a handler hears at once when there is no room), visible (`requests()` and USR1 show what runs),
and drained: a stop waits for what was taken.
It lives in memory: what must survive kill -9 belongs into a queue of its own.
"""

from __future__ import annotations

from collections import deque
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec

from twisted.internet.defer import Deferred
from twisted.python.threadable import isInIOThread

from halfsync.logs import get_logger
from halfsync.workers.pool import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure

log = get_logger(__name__)

Ps = ParamSpec("Ps")


class BackgroundFull(Exception):  # noqa: N818  a state, not an error of anybody's
    """As much background work waits as may; what was to be added was not taken."""


class Background(WorkerPool):
    """The part `background`: threads of its own, and a bounded queue before them."""

    def __init__(self, name: str = "background", *, reactor: Any, threads: int = 4, queue: int = 100) -> None:
        """Take at most `threads` calls at a time, and `queue` more that wait."""
        super().__init__(name, threads=threads, queue=queue, reactor=reactor)
        # Counted here as well, since a handler in another thread must hear at once whether there is room.
        self._room: deque[None] = deque([None] * (threads + queue))
        self._drains: list[Deferred[None]] = []

    def start_soon(self, fn: Callable[Ps, object], *args: Ps.args, **kwargs: Ps.kwargs) -> None:
        """Have a thread call a function, soon; for any thread, which goes on at once.

        The call sees the caller's context (so the request's id is in its log lines); its error is logged.
        :raises BackgroundFull: when there is no room.
        """
        try:
            self._room.pop()
        except IndexError:
            raise BackgroundFull(
                f"{self.label}: {self.threads} calls run and {self.queue} wait already"
            ) from None
        call = partial(copy_context().run, self._begin, fn, *args, **kwargs)
        if isInIOThread():
            call()
        else:
            self._reactor.callFromThread(call)

    def _begin(self, fn: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        name = getattr(fn, "__qualname__", repr(fn))

        def fail(failure: Failure) -> None:
            log.error(
                "background.failed",
                function=name,
                exc_info=(failure.type, failure.value, failure.getTracebackObject()),
            )

        done = Deferred.fromCoroutine(self._call(fn, args, kwargs))
        # It fires in whatever context the reactor has; the event names the request that wanted the work.
        here = copy_context()
        done.addErrback(lambda failure: here.run(fail, failure))
        done.addBoth(self._ended)

    def _ended(self, _: object) -> None:
        self._room.append(None)
        if self._is_empty():
            drains, self._drains = self._drains, []
            for each in drains:
                each.callback(None)

    def _is_empty(self) -> bool:
        return len(self._room) == self.threads + self.queue

    async def drain(self) -> None:
        """Return when everything that was taken is done; more is still taken: requests in flight bring it."""
        if not self._is_empty():
            self._drains.append(Deferred())
            await self._drains[-1]

    async def _call(self, fn: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        await self.run(fn, *args, **kwargs)
