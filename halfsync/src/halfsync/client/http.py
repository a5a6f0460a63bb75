"""Outgoing HTTP to one peer that survives what the peer does: `HttpClient`.

    orders = process.add(HttpClient("orders", "http://orders.internal:8080", reactor=process.reactor))

    response = await orders.get("/orders/1")                  # in the reactor
    response = orders.blocking.get("/orders/1")               # in a thread

One deadline holds for all tries together, body included, and never exceeds what is left of the caller's own;
the peer is told how much there is (`X-Request-Timeout`, in seconds).
Idempotent requests are tried again within a budget; a circuit breaker leaves a failing peer alone;
of several addresses the less loaded of two is asked; connections have a cap, and waiting for one has a bound.
"""

from __future__ import annotations

from random import Random, SystemRandom
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import SplitResult, urlsplit

from structlog.contextvars import get_contextvars

from halfsync import deadline as deadlines
from halfsync.client.addresses import Dns, Refreshed, Srv, Static
from halfsync.client.attempts import Attempts
from halfsync.client.balancer import Address, Balancer
from halfsync.client.blocking import Blocking
from halfsync.client.breaker import Breaker
from halfsync.client.budget import RetryBudget
from halfsync.client.connector import Connector
from halfsync.client.latencies import Latencies
from halfsync.client.places import Places
from halfsync.client.requests import Request
from halfsync.client.tries import Tries
from halfsync.client.trust import Trust
from halfsync.life.errors import UnusableError
from halfsync.life.parts import Part

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence

    from halfsync.client.addresses import Source
    from halfsync.client.requests import Response, StreamedResponse

T = TypeVar("T")

REQUEST_ID, TIMEOUT = "X-Request-Id", "X-Request-Timeout"


class HttpClient(Part):
    """A part of the process: calls to one peer. Its methods are for the reactor, `blocking` for threads."""

    def __init__(
        self,
        name: str,
        url: str,
        *,
        reactor: Any,
        addresses: Sequence[tuple[str, int]] | None = None,
        srv: str | None = None,
        timeout: float = 10.0,
        connect_timeout: float = 2.0,
        retries: int = 2,
        max_connections: int = 64,
        max_waiting: int = 256,
        max_body: int = 16 * 1024 * 1024,
        hedge: bool = False,
        trust: Trust | None = None,
        source: Source | None = None,
        seconds: Callable[[], float] = monotonic,
        random: Random | None = None,
    ) -> None:
        """Reach a peer.

        :param name: how logs and metrics call the peer.
        :param url: scheme, host and port, such as `https://orders.internal`; no path.
        :param addresses: where it listens; by default all addresses of the URL's host.
        :param srv: an SRV record that says where it listens, such as `_http._tcp.orders.internal`.
        :param timeout: seconds for a call, all tries and the body included.
        :param retries: how often a call is tried again at most, within the budget.
        :param max_connections: open to the peer at a time, and so the calls under way.
        :param max_waiting: calls that may wait for a connection.
        :param max_body: bytes of an answer that is not streamed, its gzip undone.
        :param hedge: send an idempotent request again when its answer is later than 95 of 100 are;
            for at most one request in a hundred.
        :raises UnusableError: a `ValueError` and `StartError`, when the URL will not do.
        """
        super().__init__(name)
        parts, host, port = _peer_of(name, url)
        self.timeout = timeout
        self.blocking = Blocking(self)
        """The same calls for threads: they wait."""
        self.breaker = Breaker(seconds=seconds)
        self.budget = RetryBudget(seconds=seconds)
        self.places = Places(reactor, limit=max_connections, waiting=max_waiting, timeout=timeout)
        self._seconds = seconds
        base = f"{parts.scheme}://{parts.netloc}"

        def connect(address: Address) -> Connector:
            return Connector(
                reactor,
                base,
                address,
                trust=trust or Trust(),
                most=max_connections,
                connect_timeout=connect_timeout,
            )

        self.balancer = Balancer(connect, seconds=seconds, random=random or SystemRandom())
        if source is None:
            if addresses is not None:
                source = Static([Address(*each) for each in addresses])
            elif srv is not None:
                source = Refreshed(Srv(srv), seconds=seconds)
            else:
                source = Refreshed(Dns(reactor, host, port), seconds=seconds)
        self._attempts = Attempts(
            name,
            reactor=reactor,
            source=source,
            balancer=self.balancer,
            close=lambda connector: connector.close(),
            breaker=self.breaker,
            budget=self.budget,
            places=self.places,
            latencies=Latencies(),
            retries=retries,
            hedge_budget=RetryBudget(seconds=seconds, share=0.01, minimum=0) if hedge else None,
            seconds=seconds,
            random=random or SystemRandom(),
        )
        self._tries = Tries(self._attempts, max_body=max_body, reactor=reactor)

    @property
    def counts(self) -> dict[tuple[str, str], int]:
        """How many tries ended how, by kind (`first`, `retry`, `hedge`) and outcome, since the start."""
        return self._attempts.counts

    async def request(
        self, method: str, path: str, *, deadline: float | None = None, **what: Any
    ) -> Response:
        """Call the peer and return its whole answer, of whichever status.

        :param deadline: seconds, instead of the client's own.
        :param what: params, headers, data, json; `idempotent=True` lets a POST be tried again.
        :raises DeadlineExceeded: when it did not answer in time.
        :raises CallError: when it gave no answer; its subclasses say why.
        """
        request = Request.made(method, path, **what)
        return await self._within(deadline, lambda: self._tries.whole(request, self._headers(request)))

    async def get(self, path: str, **what: Any) -> Response:
        """GET; see `request`."""
        return await self.request("GET", path, **what)

    async def post(self, path: str, **what: Any) -> Response:
        """POST; see `request`."""
        return await self.request("POST", path, **what)

    async def put(self, path: str, **what: Any) -> Response:
        """PUT; see `request`."""
        return await self.request("PUT", path, **what)

    async def delete(self, path: str, **what: Any) -> Response:
        """DELETE; see `request`."""
        return await self.request("DELETE", path, **what)

    async def open(
        self, method: str, path: str, *, deadline: float | None = None, **what: Any
    ) -> StreamedResponse:
        """Call the peer and return its answer once the head is here; read its body, or abort it.

        The deadline holds for the head; whoever reads the body says how long that may take.
        :raises DeadlineExceeded: when the head did not come in time.
        :raises CallError: when it gave no answer.
        """
        request = Request.made(method, path, **what)
        return await self._within(deadline, lambda: self._tries.head(request, self._headers(request)))

    async def pieces(self, path: str, **what: Any) -> AsyncIterator[bytes]:
        """GET a body piece by piece; the connection is closed when the iteration ends early."""
        response = await self.open("GET", path, **what)
        try:
            async for piece in response.body:
                yield piece
        finally:
            response.body.abort()

    async def stop(self) -> None:
        """Close the idle connections."""
        for member in self.balancer.members:
            await member.connector.close()

    def _headers(self, request: Request) -> Callable[[], dict[str, str]]:
        def headers() -> dict[str, str]:
            fields = dict(request.headers)
            if (request_id := get_contextvars().get("request_id")) is not None:
                fields.setdefault(REQUEST_ID, request_id)
            if (left := deadlines.remaining(self._seconds)) is not None:
                fields.setdefault(TIMEOUT, f"{left:.3f}")
            return fields

        return headers

    async def _within(self, deadline: float | None, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return await self._attempts.within(self.timeout if deadline is None else deadline, call)


def _peer_of(name: str, url: str) -> tuple[SplitResult, str, int]:
    """Return the parts of a peer's URL, its host and its port."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (ValueError, KeyError):
        parts, port = SplitResult("", "", "", "", ""), 0
    if not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment:
        raise UnusableError(
            f"{name}: {url!r} is no URL of a peer; write scheme, host and port, such as 'http://orders:8080'"
        )
    return parts, parts.hostname, port
