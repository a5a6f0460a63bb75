"""The front of a listener: a factory of connections around one handler."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IProtocolNegotiationFactory
from twisted.internet.protocol import Factory
from zope.interface import implementer

from halfsync.endpoints.addresses import address_text
from halfsync.http.connection import H1Connection
from halfsync.http.context import Context
from halfsync.http.handlers import as_handler
from halfsync.life.facts import RunningRequest

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress

    from halfsync.http.access_log import Counts
    from halfsync.http.bounds import Bounds
    from halfsync.http.proxies import Proxies


@implementer(IProtocolNegotiationFactory)
class Site(Factory):
    """A factory of HTTP connections that bounds, counts and drains them.

    :param handler: what answers requests: a handler, a resource of twisted.web, a klein application.
    """

    noisy = False

    def __init__(
        self,
        handler: Any,
        *,
        bounds: Bounds,
        access_log: bool,
        reactor: Any,
        proxies: Proxies | None = None,
    ) -> None:
        self.context = Context(
            as_handler(handler),
            bounds=bounds,
            access_log=access_log,
            reactor=reactor,
            proxies=proxies,
            make_h2=_make_h2,
        )

    @property
    def proxies(self) -> Proxies | None:
        """Whose word is taken on where a request comes from; None for nobody's."""
        return self.context.proxies

    @proxies.setter
    def proxies(self, proxies: Proxies | None) -> None:
        self.context.proxies = proxies

    @property
    def access_log(self) -> bool:
        """Whether each request is an event of the log."""
        return self.context.access_log

    @access_log.setter
    def access_log(self, wanted: bool) -> None:
        self.context.access_log = wanted

    @property
    def bounds(self) -> Bounds:
        """What a client may cost."""
        return self.context.bounds

    @property
    def counts(self) -> Counts:
        """What is known of requests since the start."""
        return self.context.counts

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self.context.connections)

    @property
    def draining(self) -> bool:
        """Whether connections are being ended."""
        return self.context.connections.draining

    def in_flight(self, name: str = "") -> list[RunningRequest]:
        """Return the requests that are being answered, for the part of that name."""
        threads = {thread.ident: thread.name for thread in threading.enumerate()}
        return [
            RunningRequest(
                name,
                stream.head.method,
                stream.head.target.partition("?")[0],
                address_text(stream.client),
                stream.since,
                threads.get(stream.thread),
                stream.request_id,
            )
            for connection in self.context.connections
            for stream in connection.streams()
        ]

    async def drain(self) -> None:
        """Answer what is in flight and what still comes on open connections, then close each."""
        await self.context.connections.drain()

    def abort(self) -> None:
        """Cut every connection."""
        self.context.connections.abort()

    # Twisted calls these.

    def buildProtocol(self, addr: IAddress | None) -> H1Connection:
        """Make a connection speak HTTP/1.1."""
        del addr
        return H1Connection(self.context)

    def acceptableProtocols(self) -> list[bytes]:
        """Offer HTTP/2 and HTTP/1.1 by ALPN."""
        return [b"h2", b"http/1.1"]


def _make_h2(context: Context) -> Any:
    from halfsync.http.h2.connection import H2Connection  # noqa: PLC0415  a service may never be asked for it

    return H2Connection(context)
