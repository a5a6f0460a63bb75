"""Where a peer listens: given as a list, or asked from DNS (addresses or SRV records) again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IResolutionReceiver
from zope.interface import implementer

from halfsync.client.balancer import Address
from halfsync.client.errors import NoAddress
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

log = get_logger(__name__)

REFRESH = 30.0
"""Seconds after which DNS is asked anew: the resolvers of systems seldom tell how long an answer holds."""


class Source(Protocol):
    """Says where a peer listens."""

    async def addresses(self) -> list[Address]:
        """Return the addresses.

        :raises NoAddress: when there is none.
        """


class Static:
    """Addresses that are known."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = list(addresses)

    async def addresses(self) -> list[Address]:
        """Return them."""
        return self._addresses


@implementer(IResolutionReceiver)
class _Receiver:
    """Collects what the reactor's resolver finds."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.done: Deferred[list[str]] = Deferred()

    def resolutionBegan(self, resolutionInProgress: Any) -> None:
        """Nothing is to be done yet."""

    def addressResolved(self, address: Any) -> None:
        self.found.append(address.host)

    def resolutionComplete(self) -> None:
        self.done.callback(self.found)


class Dns:
    """All addresses of a host name, by the system's resolver."""

    def __init__(self, reactor: Any, host: str, port: int) -> None:
        self._reactor = reactor
        self._host = host
        self._port = port

    async def addresses(self) -> list[Address]:
        """Ask the resolver.

        :raises NoAddress: when it knows none.
        """
        receiver = _Receiver()
        self._reactor.nameResolver.resolveHostName(receiver, self._host, self._port)
        found = await receiver.done
        if not found:
            raise NoAddress(f"{self._host} has no address")
        return [Address(host, self._port) for host in dict.fromkeys(found)]


class Srv:
    """Hosts and ports of an SRV record of the best priority (RFC 2782), as in `_http._tcp.orders.example`."""

    def __init__(self, name: str, lookup: Callable[[str], Deferred[Any]] | None = None) -> None:
        """Ask for a name; `lookup` stands in for `twisted.names.client.lookupService` in tests."""
        self._name = name
        self._lookup = lookup

    async def addresses(self) -> list[Address]:
        """Ask the name servers.

        :raises NoAddress: when there is no such record.
        """
        from twisted.names import client, dns  # noqa: PLC0415  it reads /etc/resolv.conf; most do without
        from twisted.names.error import DomainError  # noqa: PLC0415  the same

        try:
            answers, _, _ = await (self._lookup or client.lookupService)(self._name)
        except DomainError as error:
            raise NoAddress(f"{self._name} has no SRV record: {error!r}") from error
        records = [answer.payload for answer in answers if answer.type == dns.SRV]
        best = min((record.priority for record in records), default=0)
        found = [
            Address(record.target.name.decode("ascii"), record.port)
            for record in records
            if record.priority == best and record.target.name != b"."
        ]
        if not found:
            raise NoAddress(f"{self._name} has no SRV record")
        return found


class Refreshed:
    """A source that is asked every REFRESH seconds; when it fails, the last answer holds."""

    def __init__(self, source: Source, *, seconds: Callable[[], float]) -> None:
        self._source = source
        self._seconds = seconds
        self._known: list[Address] = []
        self._asked: float | None = None

    async def addresses(self) -> list[Address]:
        """Return the present addresses.

        :raises NoAddress: when there is none, and never was.
        """
        now = self._seconds()
        if self._asked is None or now - self._asked >= REFRESH:
            # Set first: while one call asks, the others go on with what is known.
            self._asked = now
            try:
                self._known = await self._source.addresses()
            except NoAddress as error:
                self._asked = None if not self._known else now
                if not self._known:
                    raise
                log.warning("client.addresses_stale", reason=str(error))
        if not self._known:
            self._known = await self._source.addresses()
        return self._known
