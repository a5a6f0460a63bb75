"""A peer for tests: it answers what the test says, to both faces, without a network.

    orders = FakePeer()
    orders.answers("GET", "/orders/1", json={"id": 1})
    assert shop(orders).get("/cart").status == 200
    assert orders.calls[0].target == "/orders/1"

It is an `HttpClient`, to type checkers too: `await orders.get(...)`, `orders.blocking.get(...)`.
"""

from __future__ import annotations

import json as json_module
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers

from halfsync.client.blocking import Blocking
from halfsync.client.body import BodyReader
from halfsync.client.http import HttpClient
from halfsync.client.requests import Request, Response, StreamedResponse

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Mapping

T = TypeVar("T")


class FakePeer(HttpClient):
    """Answers from a list; every request that came is in `calls`."""

    def __init__(self) -> None:
        super().__init__("fake", "http://fake.invalid", reactor=None)
        self.calls: list[Request] = []
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
        self.calls.append(request)
        known = self._answers.get((request.method, request.target))
        if known is None:
            raise AssertionError(f"the test gave no answer to {request.method} {request.target}")
        answer = known.pop(0) if len(known) > 1 else known[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def open(
        self, method: str, path: str, *, deadline: float | None = None, **what: Any
    ) -> StreamedResponse:
        """Answer; the body comes in one piece."""
        answer = await self.request(method, path, deadline=deadline, **what)
        body = BodyReader(lambda _ok: None)
        body.makeConnection(StringTransport())
        if answer.body:
            body.dataReceived(answer.body)
        body.connectionLost(Failure(ResponseDone()))
        return StreamedResponse(answer.status, answer.headers, body, SimpleNamespace(length=len(answer.body)))


class _Waiting(Blocking):
    """The face for threads, which needs none."""

    def request(self, method: str, path: str, **what: Any) -> Response:
        return _result(self._client.request(method, path, **what))

    @contextmanager
    def pieces(self, method: str, path: str, **what: Any) -> Iterator[tuple[int, Iterator[bytes]]]:
        answer = self.request(method, path, **what)
        yield answer.status, iter([answer.body] if answer.body else [])


def _result(coroutine: Coroutine[Any, Any, T]) -> T:
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    raise AssertionError("a fake peer waits for nothing")
