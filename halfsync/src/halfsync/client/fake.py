"""A peer for tests: it answers what the test says, to both faces, without a network.

    orders = FakePeer()
    orders.answers("GET", "/orders/1", json={"id": 1})
    assert shop(orders).get("/cart").status == 200
    assert orders.requests[0].target == "/orders/1"

It stands where an `HttpClient` does: `await orders.get(...)`, `orders.blocking.get(...)`.
"""

from __future__ import annotations

import json as json_module
from typing import TYPE_CHECKING, Any

from twisted.web.http_headers import Headers

from halfsync.client.requests import Request, Response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Mapping


class FakePeer:
    """Answers from a list; every request that came is in `requests`."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.blocking = _Waiting(self)
        self._answers: dict[tuple[str, str], list[Response | BaseException]] = {}

    def answers(
        self,
        method: str,
        target: str,
        *,
        status: int = 200,
        body: bytes = b"",
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        error: BaseException | None = None,
    ) -> None:
        """Say what to answer to a method and a path with its query; given twice, one after the other.

        The last answer is given again and again.
        :param error: what to raise instead, such as `DeadlineExceeded()`.
        """
        fields = {name: [value] for name, value in (headers or {}).items()}
        if json is not None:
            body = json_module.dumps(json).encode()
            fields.setdefault("Content-Type", ["application/json"])
        answer = error or Response(status, Headers(fields), body)
        self._answers.setdefault((method, target), []).append(answer)

    async def request(
        self, method: str, path: str, *, deadline: float | None = None, **what: Any
    ) -> Response:
        """Answer; see `HttpClient.request`.

        :raises AssertionError: when the test did not say what to answer.
        """
        del deadline
        request = Request.made(method, path, **what)
        self.requests.append(request)
        known = self._answers.get((request.method, request.target))
        if known is None:
            raise AssertionError(f"the test gave no answer to {request.method} {request.target}")
        answer = known.pop(0) if len(known) > 1 else known[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def get(self, path: str, **what: Any) -> Response:
        """GET."""
        return await self.request("GET", path, **what)

    async def post(self, path: str, **what: Any) -> Response:
        """POST."""
        return await self.request("POST", path, **what)

    async def put(self, path: str, **what: Any) -> Response:
        """PUT."""
        return await self.request("PUT", path, **what)

    async def delete(self, path: str, **what: Any) -> Response:
        """DELETE."""
        return await self.request("DELETE", path, **what)

    async def pieces(self, path: str, **what: Any) -> AsyncIterator[bytes]:
        """GET a body, in one piece."""
        yield (await self.request("GET", path, **what)).body


class _Waiting:
    """The face for threads."""

    def __init__(self, peer: FakePeer) -> None:
        self._peer = peer

    def request(self, method: str, path: str, **what: Any) -> Response:
        return _result(self._peer.request(method, path, **what))

    def get(self, path: str, **what: Any) -> Response:
        return self.request("GET", path, **what)

    def post(self, path: str, **what: Any) -> Response:
        return self.request("POST", path, **what)

    def put(self, path: str, **what: Any) -> Response:
        return self.request("PUT", path, **what)

    def delete(self, path: str, **what: Any) -> Response:
        return self.request("DELETE", path, **what)


def _result(coroutine: Coroutine[Any, Any, Response]) -> Response:
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    raise AssertionError("a fake peer waits for nothing")
