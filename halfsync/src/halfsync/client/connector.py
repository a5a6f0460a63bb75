"""Reaches one address of a peer: an agent of twisted.web with connections of its own.

Not by treq: its client keeps the cookies of all answers and sends them with everybody's requests, and undoes
codings without a bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hyperlink import EncodedURL
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.protocol import Protocol
from twisted.web.client import (
    Agent,
    HTTPConnectionPool,
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from halfsync import _twisted
from halfsync.client.coding import GZIP
from halfsync.client.connection import Connections
from halfsync.client.errors import CallError, Interrupted, Unreachable

if TYPE_CHECKING:
    from halfsync.client.balancer import Address
    from halfsync.client.requests import Request
    from halfsync.client.trust import Trust

IDLE = 30
"""Seconds for which an unused connection is kept: less than the 60 s after which servers close theirs."""

HIGHEST = 999
"""A status has three digits (RFC 9112 section 4)."""

BROKEN = (ResponseNeverReceived, ResponseFailed, RequestTransmissionFailed)
"""What twisted.web raises once a request has begun; each has `reasons`."""


@implementer(IAgentEndpointFactory)
class _Endpoints:
    """Connects to one address, whatever host the URL names."""

    def __init__(self, reactor: Any, address: Address, trust: Trust, timeout: float) -> None:
        self._reactor = reactor
        self._address = address
        self._trust = trust
        self._timeout = timeout

    def endpointForURI(self, uri: Any) -> Any:
        plain = HostnameEndpoint(self._reactor, self._address.host, self._address.port, timeout=self._timeout)
        if uri.scheme != b"https":
            return plain
        return wrapClientTLS(self._trust.options(uri.host.decode("ascii")), plain)


class _Unread(Protocol):
    """A body that nobody wants: its connection is closed."""

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.loseConnection()


class Connector:
    """The connections to one address."""

    def __init__(
        self, reactor: Any, base: str, address: Address, *, trust: Trust, most: int, connect_timeout: float
    ) -> None:
        self._base = base
        self._where = f"{address.host}:{address.port}"
        self._pool = HTTPConnectionPool(reactor)
        self._pool.maxPersistentPerHost = most
        self._pool.cachedConnectionTimeout = IDLE
        endpoints = _Endpoints(reactor, address, trust, connect_timeout)
        _twisted.connects_by(self._pool, Connections)
        self._agent = Agent.usingEndpointFactory(reactor, endpoints, self._pool)

    async def send(self, request: Request, headers: dict[str, str]) -> Any:
        """Send a request once; return the `IResponse` once its head is here.

        :raises Unreachable: when the peer has not seen the request.
        :raises Interrupted: when it may have.
        :raises CancelledError: when the caller did not want to wait any longer.
        """
        cancelled = False

        def cancel(_: object) -> None:
            # What a cancelled request fails with depends on how far it had come, and is easily taken for
            # the peer's failure: UserError while it connects, ResponseNeverReceived later.
            nonlocal cancelled
            cancelled = True
            sent.cancel()

        response: Deferred[Any] = Deferred(cancel)
        fields = Headers({name: [value] for name, value in headers.items()})
        if not fields.hasHeader("Accept-Encoding"):
            fields.setRawHeaders("Accept-Encoding", [GZIP])
        # A redirection leads to another host, which this connector does not reach: it is an answer.
        sent: Deferred[Any] = self._agent.request(
            request.method.encode("ascii"),
            EncodedURL.from_text(self._base + request.target).to_uri().to_text().encode("ascii"),
            fields,
            request.producer(),
        )
        sent.addBoth(response.callback)
        try:
            answer = await response
        except Exception as error:
            if cancelled:
                raise CancelledError from None
            raise _failure(error, self._where) from error
        if answer.code > HIGHEST:
            answer.deliverBody(_Unread())
            raise Interrupted(f"{self._where}: the status of the answer has more than three digits")
        return answer

    def close(self) -> Any:
        """Close the connections that no request uses; return a Deferred."""
        return self._pool.closeCachedConnections()


def _failure(error: Any, where: str) -> Exception:
    if isinstance(error, ConnectError | DNSLookupError):
        return Unreachable(f"{where}: {str(error) or type(error).__name__}")
    if isinstance(error, RequestGenerationFailed):
        return CallError(f"the request's own body failed: {error.reasons[0].getErrorMessage()}")
    if isinstance(error, BROKEN):
        return Interrupted(f"{where}: {'; '.join(reason.getErrorMessage() for reason in error.reasons)}")
    return CallError(f"{where}: the request could not be sent: {error!r}")
