"""A real cap on what is under way at a peer, and a bounded wait for a place below it.

treq's `maxPersistentPerHost` caps idle connections only: 50 concurrent GETs opened 50.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from halfsync.client.errors import Overloaded

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime


class Places:
    """At most `limit` calls at a time, and `waiting` more that wait, for `timeout` seconds at most."""

    def __init__(self, reactor: IReactorTime, *, limit: int, waiting: int, timeout: float) -> None:
        self.limit = limit
        self.taken = 0
        self.refused = 0
        """How often there was no place."""
        self._reactor = reactor
        self._most = waiting
        self._timeout = timeout
        self._queue: deque[Deferred[None]] = deque()

    @property
    def waiting(self) -> int:
        """How many calls wait for a place."""
        return len(self._queue)

    async def take(self) -> None:
        """Take a place; it is given back by `give`.

        :raises Overloaded: when none becomes free in time, or too many wait already.
        """
        if self.taken < self.limit and not self._queue:
            self.taken += 1
            return
        if len(self._queue) >= self._most:
            self.refused += 1
            raise Overloaded(f"all {self.limit} connections are in use, and {self._most} calls wait")
        place: Deferred[None] = Deferred(self._left)
        self._queue.append(place)
        timer = self._reactor.callLater(self._timeout, self._late, place)
        try:
            await place
        finally:
            if timer.active():
                timer.cancel()

    def give(self) -> None:
        """Give a place back: the call that has waited longest takes it."""
        if self._queue:
            self._queue.popleft().callback(None)
        else:
            self.taken -= 1

    def _left(self, place: Deferred[None]) -> None:
        self._queue.remove(place)

    def _late(self, place: Deferred[None]) -> None:
        self._queue.remove(place)
        self.refused += 1
        place.errback(Overloaded(f"all {self.limit} connections were in use for {self._timeout:g} s"))
