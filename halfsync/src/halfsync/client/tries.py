"""One HTTP call, as often as it takes: what a status says of the peer, and when an answer is whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from halfsync.client.attempts import Verdict
from halfsync.client.body import BodyReader
from halfsync.client.coding import undone
from halfsync.client.errors import CallError, Interrupted
from halfsync.client.requests import Response, StreamedResponse

if TYPE_CHECKING:
    from collections.abc import Callable

    from halfsync.client.attempts import Attempts
    from halfsync.client.balancer import Address
    from halfsync.client.connector import Connector
    from halfsync.client.requests import Request

    Headers = Callable[[], dict[str, str]]

AGAIN = frozenset({502, 503, 504})
"""Statuses of a peer, or of a proxy before it, that is not able to answer now (RFC 9110 15.6)."""


class Tries:
    """Makes HTTP calls to one peer."""

    def __init__(self, attempts: Attempts[Connector], *, max_body: int, reactor: Any) -> None:
        self.attempts = attempts
        self._max_body = max_body
        self._reactor = reactor

    async def head(self, request: Request, headers: Headers) -> StreamedResponse:
        """Return the answer once its head is here; whoever asked reads its body, or aborts it."""
        return await self.attempts.call(
            lambda kind, tried: self._once(request, headers, kind, tried),
            lambda response: _verdict(request, response),
            idempotent=request.idempotent,
            method=request.method,
            discard=lambda response: response.body.abort(),
        )

    async def whole(self, request: Request, headers: Headers) -> Response:
        """Return the whole answer; one whose body breaks off is tried again, too."""

        async def once(kind: str, tried: list[Address]) -> Response:
            response = await self._once(request, headers, kind, tried)
            body = bytearray()
            try:
                async for piece in response.body:
                    body += piece
                    if len(body) > self._max_body:
                        name = self.attempts.name
                        raise CallError(f"{name} answered with more than {self._max_body} bytes")
            finally:
                response.body.abort()
            return Response(response.status, response.headers, bytes(body))

        return await self.attempts.call(
            once,
            lambda response: _verdict(request, response),
            idempotent=request.idempotent,
            method=request.method,
            hedge=True,
        )

    async def _once(
        self, request: Request, headers: Headers, kind: str, tried: list[Address]
    ) -> StreamedResponse:
        attempt = await self.attempts.begin(kind, tried)
        try:
            raw = await attempt.member.connector.send(request, headers())
        except BaseException as error:
            attempt.end(error)
            raise
        attempt.answered()

        def done(ok: bool) -> None:  # noqa: FBT001  BodyReader calls it
            attempt.end(None if ok and raw.code < 500 else Interrupted())

        body = BodyReader(done, coding=undone(raw.headers), reactor=self._reactor)
        raw.deliverBody(body)
        return StreamedResponse(raw.code, raw.headers, body, raw)


def _verdict(request: Request, response: Response | StreamedResponse) -> Verdict:
    again = response.status in AGAIN and request.idempotent
    return Verdict(response.status < 500, again, _retry_after(response) if again else 0.0)


def _retry_after(response: Any) -> float:
    values = response.headers.getRawHeaders("Retry-After") or ["0"]
    return float(values[0]) if values[0].isdecimal() else 0.0
