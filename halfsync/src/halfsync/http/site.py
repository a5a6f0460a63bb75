"""The front of a listener: every connection and request of it, what they may cost, and how they end.

It serves any twisted.web resource: the gateway to a WSGI application, klein's, the admin pages.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from importlib.util import find_spec
from time import time
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.web import server
from twisted.web.http import RESPONSES, datetimeToString

from halfsync.http.access_log import Counts, log_refusal, log_request
from halfsync.http.channel import Channel
from halfsync.http.request import Request, address_text
from halfsync.http.spool import Space
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress
    from twisted.web.resource import IResource

    from halfsync.http.bounds import Bounds
    from halfsync.http.h2 import H2Channel
    from halfsync.http.h2_stream import Stream
    from halfsync.http.proxies import Proxies

log = get_logger(__name__)

GRACE = 0.5
"""Seconds that an idle connection stays open in a drain.

A client may just have sent a request on it. Closing at once lost 5 to 12 requests a restart under load,
closing after this time none.
"""

KNOWN_ADDRESSES = 100
"""Addresses of ours that are remembered; on IPv6 they may be many."""


REASONS: dict[int, bytes] = {**RESPONSES, 431: b"Request Header Fields Too Large"}

IN_MEMORY = 64 * 1024 * 1024
"""Bytes of long bodies that may wait in memory: of requests, and as much of responses made in one piece."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """A request that has arrived and is not answered to its end."""

    method: str
    path: str
    peer: str
    since: float
    """When its first byte arrived, in the reactor's seconds."""
    thread: str | None
    """The worker that is at it."""


class Site(server.Site):
    """A factory of HTTP connections that bounds, counts and drains them."""

    requestFactory = Request
    displayTracebacks = False
    has_h2 = find_spec("h2") is not None
    """Whether HTTP/2 can be spoken: the package h2 is installed."""

    def __init__(self, resource: IResource, *, bounds: Bounds, access_log: bool, reactor: Any) -> None:
        server.Site.__init__(self, resource, reactor=reactor)
        self.bounds = bounds
        self.space = Space(bounds.spool)
        self.memory = Space(IN_MEMORY)
        self.uploads = Space(IN_MEMORY)
        self.access_log = access_log
        self.draining = False
        self.counts = Counts()
        self.proxies: Proxies | None = None
        """Whose word is taken on where a request comes from; None for nobody's."""
        self.reads_forms = not getattr(resource, "reads_own_body", False)
        """Whether `request.args` holds the query and forms; a gateway leaves that to its application."""
        self._channels: set[Channel | H2Channel] = set()
        self._turned_away: set[Channel] = set()
        self._period = min(1.0, bounds.idle_timeout / 4, bounds.request_timeout / 4, bounds.write_timeout / 4)
        self._sweeper: Any = None
        self._empty: Deferred[None] | None = None
        self._date = (0, b"")
        self._own_addresses: dict[IAddress, IAddress] = {}

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._channels)

    @property
    def full(self) -> bool:
        """Whether there are more connections than there may be."""
        return len(self._channels) - len(self._turned_away) > self.bounds.max_connections

    @property
    def flooded(self) -> bool:
        """Whether so many are being refused that there is no time to be polite to them."""
        most = self.bounds.max_connections
        return len(self._channels) > most + most // 8 + 64

    def channels(self) -> list[Channel | H2Channel]:
        """Return the open connections."""
        return list(self._channels)

    def in_flight(self) -> list[InFlight]:
        """Name the requests that are being answered."""
        threads = {thread.ident: thread.name for thread in threading.enumerate()}
        return [
            InFlight(
                request.method.decode("ascii", "backslashreplace"),
                request.path.decode("ascii", "backslashreplace"),
                address_text(request.client),
                request.since,
                threads.get(request.thread),
            )
            for channel in self._channels
            for request in channel.requests
            if request.since is not None
        ]

    async def drain(self) -> None:
        """Answer what is in flight and what still comes on open connections, then close each.

        Returns when no connection is open. Cancelling it leaves the site draining.
        """
        self.draining = True
        deadline = self.idle_deadline()
        for channel in list(self._channels):
            channel.wind_down(deadline)
        if self._channels:
            self._period = min(self._period, GRACE / 5)
            self._sweeper.reset(self._period)
            self._empty = Deferred()
            await self._empty

    def abort(self) -> None:
        """Cut every connection."""
        for channel in list(self._channels):
            channel.abort()

    # Channels and requests call these.

    def turned_away(self, channel: Channel) -> None:
        """Let a connection that is only told so take no one's place while it closes."""
        self._turned_away.add(channel)

    def opened(self, channel: Channel) -> float:
        """Take a connection into account; return the deadline of its first byte."""
        self._channels.add(channel)
        self.counts.connections += 1
        channel.since = self.reactor.seconds()
        if self._sweeper is None:
            self._sweeper = self.reactor.callLater(self._period, self._sweep)
        return self.idle_deadline()

    def speak_h2(self, channel: Channel) -> H2Channel:
        """Go on with a connection that turns out to speak HTTP/2."""
        from halfsync.http.h2 import H2Channel  # noqa: PLC0415  what it needs may not be there

        other = H2Channel(self)
        other.since = channel.since
        self._channels.remove(channel)
        self._channels.add(other)
        other.take_over(channel.transport)
        return other

    def lost(self, channel: Channel | H2Channel) -> None:
        """Forget a connection."""
        self._channels.discard(channel)
        self._turned_away.discard(channel)
        if not self._channels:
            if self._sweeper is not None:
                self._sweeper.cancel()
                self._sweeper = None
            if self._empty is not None:
                empty, self._empty = self._empty, None
                empty.callback(None)

    def idle_deadline(self) -> float:
        """Return until when a connection may wait for a request from now on."""
        return self.reactor.seconds() + (GRACE if self.draining else self.bounds.idle_timeout)

    def log(self, request: Request) -> None:  # type: ignore[override]
        """Account for a request that has been answered, or cut off; called by twisted.web."""
        seconds = 0.0 if request.since is None else self.reactor.seconds() - request.since
        self.counts.add(request.method, request.code, seconds, request.sentLength)
        if self.access_log:
            log_request(request, seconds)

    def refused(self, channel: Channel | Stream, code: int) -> None:
        """Account for what was refused before there was a whole request."""
        self.counts.refused[code] = self.counts.refused.get(code, 0) + 1
        if self.access_log:
            log_refusal(address_text(channel.getPeer()), code)

    def plain(self, code: int) -> tuple[bytes, list[tuple[bytes, bytes]], bytes]:
        """Return reason, headers and body of a short answer of our own."""
        reason = REASONS[code]
        body = reason + b"\n"
        headers = [
            (b"Content-Type", b"text/plain"),
            (b"Content-Length", b"%d" % len(body)),
            (b"Date", self.date()),
        ]
        return reason, headers, body

    def own_address(self, address: IAddress) -> IAddress:
        """Return the one object there is for an address of ours: thousands of connections share it."""
        known = self._own_addresses.get(address)
        if known is None:
            if len(self._own_addresses) >= KNOWN_ADDRESSES:
                return address
            known = self._own_addresses[address] = address
        return known

    def date(self) -> bytes:
        """Return the present date as HTTP writes it."""
        now = int(time())
        if self._date[0] != now:
            self._date = (now, datetimeToString(now))
        return self._date[1]

    # Twisted calls these.

    def buildProtocol(self, addr: IAddress | None) -> Channel:  # type: ignore[override]
        """Make a connection speak HTTP/1.1."""
        del addr
        return Channel(self)

    def acceptableProtocols(self) -> list[bytes]:
        """Offer HTTP/2 and HTTP/1.1 by ALPN."""
        return [b"h2", b"http/1.1"] if self.has_h2 else [b"http/1.1"]

    def startFactory(self) -> None:
        """Do without Twisted's log file and its timer a second."""

    def stopFactory(self) -> None:
        """There is nothing to undo."""

    def _sweep(self) -> None:
        """Look at every deadline.

        8,000 connections take under a millisecond a sweep, and each connection is spared a timer,
        and each request two resets of it.
        """
        self._sweeper = self.reactor.callLater(self._period, self._sweep)
        now = self.reactor.seconds()
        for channel in [each for each in self._channels if each.deadline <= now]:
            try:
                channel.expire(now)
            except Exception:
                # The deadlines of all others are behind it.
                log.exception("http.expiry_failed", peer=address_text(channel.getPeer()))
                channel.abort()
