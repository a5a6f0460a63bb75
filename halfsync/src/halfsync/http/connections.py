"""The connections of a listener: how many there may be, their deadlines, and how they end.

A connection has one deadline at a time, a plain attribute that the sweep looks at.
A timer for each, reset by every byte as Twisted's is, costs more, and a client that trickles its headers
keeps it for ever.
"""

from __future__ import annotations

from heapq import nsmallest
from math import inf
from operator import itemgetter
from socket import AF_INET, AF_INET6, inet_pton
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred

from halfsync.endpoints.addresses import address_text
from halfsync.endpoints.sweeper import Sweeper
from halfsync.endpoints.tls_transport import tls_below
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from halfsync.endpoints.addresses import Address
    from halfsync.endpoints.tls_transport import TlsTransport
    from halfsync.http.account import Account
    from halfsync.http.bounds import Bounds
    from halfsync.http.stream import Stream

log = get_logger(__name__)

GRACE = 0.5
"""Seconds that an idle connection stays open in a drain.

A client may just have sent a request on it. Closing at once lost 5 to 12 requests a restart under load,
closing after this time none.
"""


A_SLICE = 200
"""Connections that are swept in a turn of the reactor: all at once took 30 ms of 9,000 with heads in part."""

AT_A_LOOK = 100
"""Idle connections that are remembered when all are looked at for one to make room."""


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

    @property
    def idle(self) -> bool:
        """Whether it waits for a request, and has nothing else to do."""

    def weigh(self) -> None:
        """Have the account know what is in buffers of it at the moment."""

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

    def __init__(self, bounds: Bounds, reactor: Any, memory: Account) -> None:
        self.memory = memory
        self.draining = False
        """Whether each response is to be the last on its connection."""
        self.accepted = 0
        """Connections since the start."""
        self.bounds = bounds
        self._reactor = reactor
        self._open: dict[Connection, bytes | None] = {}
        """With each, by what its client's connections are counted."""
        self._tls: dict[Connection, TlsTransport] = {}
        """What is below those that are over TLS."""
        self._clients: dict[bytes, int] = {}
        """How many connections each client has."""
        self._idle: list[tuple[float, Connection]] = []
        """Some that were idle when they were looked for, by their deadlines then, the longest last."""
        self._none_idle_until = -inf
        self._turned_away: set[Connection] = set()
        self._period = min(1.0, *(time / 4 for time in _times(bounds)))
        self._sweeper = Sweeper(reactor, self._sweep, lambda: self._period)
        self._looks: Iterator[None] | None = None
        """The present sweep."""
        self._empty: list[Deferred[None]] = []

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._open)

    def __iter__(self) -> Any:
        """Go over those that are open now."""
        return iter(list(self._open))

    @property
    def flooded(self) -> bool:
        """Whether so many are being refused that there is no time to be polite to them."""
        return len(self._turned_away) > self.bounds.most_turned_away

    def find_place(self, connection: Connection) -> bool:
        """Say whether a connection that has been opened may stay; an idle one makes room for it."""
        client = self._open[connection]
        if client is not None and self._clients[client] > self.bounds.share:
            return False
        if len(self._open) - len(self._turned_away) <= self.bounds.max_connections:
            return True
        idle = self._longest_idle(connection)
        if idle is None:
            return False
        self.turned_away(idle)
        # As if its time were over.
        idle.expire(idle.deadline)
        return True

    def client_of(self, connection: Connection) -> bytes | None:
        """Return by what the client of a connection is counted; None when it is not."""
        return self._open.get(connection)

    def opened(self, connection: Connection, client: bytes | None) -> None:
        """Take a connection into account.

        :param client: by what the client's connections are counted; None when they are not.
        """
        self._open[connection] = client
        if client is not None:
            self._clients[client] = self._clients.get(client, 0) + 1
        self.accepted += 1
        tls = tls_below(connection.transport)
        if tls is not None:
            self._tls[connection] = tls
            self.memory.weigh_tls(connection, tls.overhead)
        self._sweeper.begin()

    def turned_away(self, connection: Connection) -> None:
        """Let a connection that is only told so take nobody's place while it closes."""
        self._turned_away.add(connection)
        self._uncount(connection)

    def replaced(self, connection: Connection, other: Connection) -> None:
        """Go on with another protocol on the same transport."""
        if connection in self._open:
            self.memory.weigh(connection, 0)
            self._open[other] = self._open.pop(connection)
            tls = self._tls.pop(connection, None)
            if tls is not None:
                self._tls[other] = tls
                self.memory.weigh_tls(connection, 0)
                self.memory.weigh_tls(other, tls.overhead)
        if connection in self._turned_away:
            self._turned_away.remove(connection)
            self._turned_away.add(other)

    def lost(self, connection: Connection) -> None:
        """Forget a connection."""
        self._uncount(connection)
        self._open.pop(connection, None)
        if self._tls.pop(connection, None) is not None:
            self.memory.weigh_tls(connection, 0)
        self._turned_away.discard(connection)
        if not self._open:
            self._sweeper.end()
            self._looks = None
            waiting, self._empty = self._empty, []
            for each in waiting:
                each.callback(None)

    def idle_deadline(self) -> float:
        """Return until when a connection may wait for a request from now on."""
        now: float = self._reactor.seconds()
        return now + (GRACE if self.draining else self.bounds.idle_timeout)

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
            self._sweeper.hurry()
            empty: Deferred[None] = Deferred(self._empty.remove)
            self._empty.append(empty)
            await empty

    def abort(self) -> None:
        """Cut every connection."""
        for connection in self:
            connection.abort()

    def _longest_idle(self, new: Connection) -> Connection | None:
        """Return the connection whose time between requests is over first.

        All are looked at for every so many that make room, and not again at once when none was idle:
        a flood of new connections must not pay for that each time.
        """
        now = self._reactor.seconds()
        for _ in range(2):
            while self._idle:
                deadline, each = self._idle.pop()
                # One that was asked since it was looked at is not the longest idle any more.
                if each.deadline == deadline and each in self._open and self._is_idle(each):
                    return each
            if now < self._none_idle_until:
                break
            found = ((each.deadline, each) for each in self._open if each is not new and self._is_idle(each))
            self._idle = nsmallest(AT_A_LOOK, found, key=itemgetter(0))
            self._idle.reverse()
            if not self._idle:
                self._none_idle_until = now + self._period
        return None

    def _is_idle(self, connection: Connection) -> bool:
        return connection.idle and connection not in self._turned_away

    def _uncount(self, connection: Connection) -> None:
        client = self._open.get(connection)
        if client is not None:
            self._open[connection] = None
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]

    def _sweep(self) -> None:
        """Look at every deadline, of some connections in a turn.

        8,000 connections take under a millisecond a sweep, and each connection is spared a timer,
        and each request two resets of it.
        """
        if self._looks is None:
            self._looks = self._look_at_all()
        if next(self._looks, self) is self:
            self._looks = None
        else:
            self._sweeper.go_on()

    def _look_at_all(self) -> Iterator[None]:
        for some in _slices(list(self._open)):
            self._expire(some)
            if len(some) == A_SLICE:
                yield
        # A client takes what waits for it without a word.
        for some in _slices(self.memory.weighed()):
            for connection in self._open.keys() & some:
                connection.weigh()
            if len(some) == A_SLICE:
                yield
        # Records that come in part, or are not taken, are not heard of.
        for some in _slices(list(self._tls)):
            for connection in some:
                if (tls := self._tls.get(connection)) is not None:
                    self.memory.weigh_tls(connection, tls.overhead)
            if len(some) == A_SLICE:
                yield

    def _expire(self, connections: list[Connection]) -> None:
        now = self._reactor.seconds()
        for connection in [each for each in connections if each.deadline <= now]:
            try:
                connection.expire(now)
            except Exception:
                # The deadlines of all others are behind it.
                log.exception("http.expiry_failed", peer=address_text(connection.client))
                connection.abort()


def _slices(connections: list[Connection]) -> Iterator[list[Connection]]:
    return (connections[at : at + A_SLICE] for at in range(0, len(connections), A_SLICE))


def client_key(peer: Address) -> bytes | None:
    """Return by what a client's connections are counted: its address, or an IPv6 network of 64 bits.

    A client of IPv6 has a whole such network (RFC 6177). None on a UNIX socket.
    """
    if isinstance(peer, IPv4Address):
        return inet_pton(AF_INET, peer.host)
    if isinstance(peer, IPv6Address):
        return inet_pton(AF_INET6, peer.host.partition("%")[0])[:8]
    return None


def _times(bounds: Bounds) -> tuple[float, ...]:
    return bounds.idle_timeout, bounds.request_timeout, bounds.write_timeout
