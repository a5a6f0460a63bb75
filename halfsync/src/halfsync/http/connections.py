"""The connections of a listener: how many there may be, their deadlines, and how they end.

A connection has one deadline at a time, a plain attribute that the sweep looks at.
A timer for each, reset by every byte as Twisted's is, costs more, and a client that trickles its headers
keeps it for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred

from halfsync.endpoints.addresses import address_text
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from halfsync.endpoints.addresses import Address
    from halfsync.http.bounds import Bounds
    from halfsync.http.stream import Stream

log = get_logger(__name__)

GRACE = 0.5
"""Seconds that an idle connection stays open in a drain.

A client may just have sent a request on it. Closing at once lost 5 to 12 requests a restart under load,
closing after this time none.
"""


class Connection(Protocol):
    """One connection, of HTTP/1.1 or HTTP/2, as its listener sees it."""

    transport: Any

    @property
    def deadline(self) -> float:
        """When `expire` has something to do, in the reactor's seconds; `inf` for never."""

    @property
    def since(self) -> float:
        """When it was opened, in the reactor's seconds."""

    @property
    def asked(self) -> int:
        """How many requests have arrived."""

    @property
    def client(self) -> Address:
        """The other end."""

    def streams(self) -> list[Stream]:
        """Return the requests that have arrived whole and are not answered to their end."""

    def expire(self, now: float) -> None:
        """Do what the deadline is for."""

    def wind_down(self, deadline: float) -> None:
        """Wait for a request no longer than that, and end with the requests there are."""

    def abort(self) -> None:
        """Cut the connection; its requests are told, and accounted for, before this returns."""


class Connections:
    """Every connection of one listener."""

    def __init__(self, bounds: Bounds, reactor: Any) -> None:
        self.draining = False
        """Whether each response is to be the last on its connection."""
        self.accepted = 0
        """Connections since the start."""
        self._bounds = bounds
        self._reactor = reactor
        self._open: set[Connection] = set()
        self._turned_away: set[Connection] = set()
        self._period = min(1.0, *(time / 4 for time in _times(bounds)))
        self._sweeper: Any = None
        self._empty: list[Deferred[None]] = []

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._open)

    def __iter__(self) -> Any:
        """Go over those that are open now."""
        return iter(list(self._open))

    @property
    def full(self) -> bool:
        """Whether there are more than there may be."""
        return len(self._open) - len(self._turned_away) > self._bounds.max_connections

    @property
    def flooded(self) -> bool:
        """Whether so many are being refused that there is no time to be polite to them."""
        most = self._bounds.max_connections
        return len(self._open) > most + most // 8 + 64

    def opened(self, connection: Connection) -> None:
        """Take a connection into account."""
        self._open.add(connection)
        self.accepted += 1
        if self._sweeper is None:
            self._sweeper = self._reactor.callLater(self._period, self._sweep)

    def turned_away(self, connection: Connection) -> None:
        """Let a connection that is only told so take nobody's place while it closes."""
        self._turned_away.add(connection)

    def replaced(self, connection: Connection, other: Connection) -> None:
        """Go on with another protocol on the same transport."""
        if connection in self._open:
            self._open.remove(connection)
            self._open.add(other)

    def lost(self, connection: Connection) -> None:
        """Forget a connection."""
        self._open.discard(connection)
        self._turned_away.discard(connection)
        if not self._open:
            if self._sweeper is not None:
                self._sweeper.cancel()
                self._sweeper = None
            waiting, self._empty = self._empty, []
            for each in waiting:
                each.callback(None)

    def idle_deadline(self) -> float:
        """Return until when a connection may wait for a request from now on."""
        now: float = self._reactor.seconds()
        return now + (GRACE if self.draining else self._bounds.idle_timeout)

    async def drain(self) -> None:
        """Answer what is in flight and what still comes on open connections, then close each.

        Returns when no connection is open. Cancelling it leaves the listener draining.
        """
        self.draining = True
        deadline = self.idle_deadline()
        for connection in self:
            connection.wind_down(deadline)
        if self._open:
            self._period = min(self._period, GRACE / 5)
            self._sweeper.reset(self._period)
            empty: Deferred[None] = Deferred(self._empty.remove)
            self._empty.append(empty)
            await empty

    def abort(self) -> None:
        """Cut every connection."""
        for connection in self:
            connection.abort()

    def _sweep(self) -> None:
        """Look at every deadline.

        8,000 connections take under a millisecond a sweep, and each connection is spared a timer,
        and each request two resets of it.
        """
        self._sweeper = self._reactor.callLater(self._period, self._sweep)
        now = self._reactor.seconds()
        for connection in [each for each in self._open if each.deadline <= now]:
            try:
                connection.expire(now)
            except Exception:
                # The deadlines of all others are behind it.
                log.exception("http.expiry_failed", peer=address_text(connection.client))
                connection.abort()


def _times(bounds: Bounds) -> tuple[float, ...]:
    return bounds.idle_timeout, bounds.request_timeout, bounds.write_timeout
