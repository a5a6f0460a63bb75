"""One call, as often as it takes: which address, when again, when not."""

from __future__ import annotations

from collections import Counter
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred

from halfsync import deadline as deadlines
from halfsync.client.body import BodyReader
from halfsync.client.errors import CallError, CircuitOpen, Interrupted, Unreachable
from halfsync.client.requests import Response, StreamedResponse
from halfsync.logs import get_logger

T = TypeVar("T", Response, StreamedResponse)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from random import Random

    from twisted.python.failure import Failure

    from halfsync.client.addresses import Source
    from halfsync.client.balancer import Address, Balancer, Member
    from halfsync.client.breaker import Breaker
    from halfsync.client.budget import RetryBudget
    from halfsync.client.connector import Connector
    from halfsync.client.latencies import Latencies
    from halfsync.client.places import Places
    from halfsync.client.requests import Request

    Once = Callable[[str, list[Address]], Coroutine[Any, Any, T]]
    Headers = Callable[[], dict[str, str]]

log = get_logger(__name__)

AGAIN = frozenset({502, 503, 504})
"""Statuses of a peer, or of a proxy before it, that is not able to answer now (RFC 9110 15.6)."""

BACKOFF, LONGEST = 0.025, 1.0
"""Seconds before the first retry at most, doubled for each next one up to the second figure; full jitter."""


class Tries:
    """Makes calls to one peer."""

    def __init__(
        self,
        name: str,
        *,
        reactor: Any,
        source: Source,
        balancer: Balancer[Connector],
        breaker: Breaker,
        budget: RetryBudget,
        places: Places,
        latencies: Latencies,
        retries: int,
        max_body: int,
        hedge_budget: RetryBudget | None,
        seconds: Callable[[], float],
        random: Random,
    ) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self._name = name
        self._reactor = reactor
        self._source = source
        self._balancer = balancer
        self._breaker = breaker
        self._budget = budget
        self._places = places
        self._latencies = latencies
        self._retries = retries
        self._max_body = max_body
        self._hedge_budget = hedge_budget
        self._seconds = seconds
        self._random = random
        self._addresses: list[Address] | None = None

    async def head(self, request: Request, headers: Headers) -> StreamedResponse:
        """Return the answer once its head is here; whoever asked reads its body, or aborts it."""
        return await self._call(request, lambda kind, tried: self._once(request, headers, kind, tried))

    async def whole(self, request: Request, headers: Headers) -> Response:
        """Return the whole answer; one whose body breaks off is tried again, too."""

        async def once(kind: str, tried: list[Address]) -> Response:
            response = await self._once(request, headers, kind, tried)
            body = bytearray()
            try:
                async for piece in response.body:
                    body += piece
                    if len(body) > self._max_body:
                        raise CallError(f"{self._name} answered with more than {self._max_body} bytes")
            finally:
                response.body.abort()
            return Response(response.status, response.headers, bytes(body))

        if self._hedge_budget is None or not request.idempotent:
            return await self._call(request, once)
        return await self._call(request, lambda kind, tried: self._hedged(once, kind, tried))

    def timed_out(self) -> None:
        """Take note that a call was given up at its deadline: that is the peer's failure."""
        self.counts["call", "deadline"] += 1
        self._breaker.record(ok=False)

    def given_up(self) -> None:
        """Take note that the caller cancelled a call: that says nothing about the peer."""
        self._breaker.abandon()

    async def _call(self, request: Request, once: Once[T]) -> T:
        self._budget.called()
        tried: list[Address] = []
        for number in count():
            if not self._breaker.allows():
                self.counts["call", "circuit_open"] += 1
                raise CircuitOpen(f"{self._name} was not asked: too many of its last answers were failures")
            try:
                response = await once("retry" if number else "first", tried)
            except CancelledError:
                raise
            except (Unreachable, Interrupted) as error:
                self._breaker.record(ok=False)
                safe = request.idempotent or isinstance(error, Unreachable)
                if not safe or not self._may_retry(number):
                    raise
                pause = self._pause(number)
            except BaseException:
                # It says nothing of the peer: no connection was free, or the caller's own body failed.
                self._breaker.abandon()
                raise
            else:
                again = self._again(request, response, number)
                if again is None:
                    return response
                pause = again
            log.debug("client.retried", peer=self._name, method=request.method, pause=round(pause, 3))
            await self._sleep(pause)
        raise AssertionError  # the loop has no end

    def _again(self, request: Request, response: Response | StreamedResponse, number: int) -> float | None:
        """Return after how many seconds to try again what was answered so; None when the answer holds."""
        self._breaker.record(ok=response.status < 500)
        if response.status not in AGAIN or not request.idempotent or not self._may_retry(number):
            return None
        pause = max(self._pause(number), _retry_after(response))
        left = deadlines.remaining(self._seconds)
        if left is not None and pause >= left:
            return None
        if isinstance(response, StreamedResponse):
            response.body.abort()
        return pause

    async def _once(
        self, request: Request, headers: Headers, kind: str, tried: list[Address]
    ) -> StreamedResponse:
        await self._places.take()
        member: Member[Connector] | None = None
        began = self._seconds()
        try:
            await self._refresh()
            member = self._balancer.pick(tried)
            tried.append(member.address)
            member.outstanding += 1
            raw = await member.connector.send(request, headers())
        except BaseException as error:
            self._places.give()
            self._ended(member, kind, error)
            raise
        self._latencies.add(self._seconds() - began)

        def done(ok: bool) -> None:  # noqa: FBT001  BodyReader calls it
            self._places.give()
            self._ended(member, kind, None if ok and raw.code < 500 else Interrupted())

        body = BodyReader(done)
        raw.original.deliverBody(body) if hasattr(raw, "original") else raw.deliverBody(body)
        return StreamedResponse(raw.code, raw.headers, body, raw)

    async def _refresh(self) -> None:
        addresses = await self._source.addresses()
        if addresses is not self._addresses:
            self._addresses = addresses
            for gone in self._balancer.replace(addresses):
                gone.close()

    def _ended(self, member: Member[Connector] | None, kind: str, error: BaseException | None) -> None:
        # At the deadline the call is cancelled, and that it came to this is the peer's failure.
        given_up = isinstance(error, CancelledError) and deadlines.remaining(self._seconds) != 0
        outcome = "ok" if error is None else "cancelled" if given_up else "failed"
        self.counts[kind, outcome] += 1
        if member is None:
            return
        member.outstanding -= 1
        if outcome != "cancelled":
            self._balancer.record(member, ok=error is None)

    async def _hedged(
        self, once: Callable[[str, list[Address]], Any], kind: str, tried: list[Address]
    ) -> Any:
        budget = self._hedge_budget
        late = self._latencies.p95()
        if budget is None or late is None or kind != "first":
            return await once(kind, tried)
        budget.called()
        first = Deferred.fromCoroutine(once(kind, tried))
        calls = [first]
        decided: Deferred[None] = Deferred()

        def decide(result: Any) -> Any:
            if not decided.called:
                decided.callback(None)
            return result

        first.addBoth(decide)
        delayed = self._reactor.callLater(late, decide, None)
        try:
            await decided
            if not first.called and budget.retry():
                calls.append(Deferred.fromCoroutine(once("hedge", tried)))
            return await _first_answer(calls)
        finally:
            if delayed.active():
                delayed.cancel()
            for call in calls:
                call.addErrback(lambda _: None)
                call.cancel()

    def _may_retry(self, number: int) -> bool:
        return number < self._retries and self._budget.retry()

    def _pause(self, number: int) -> float:
        return self._random.uniform(0, min(LONGEST, BACKOFF * 2**number))

    def _sleep(self, pause: float) -> Deferred[None]:
        call: Any = None
        done: Deferred[None] = Deferred(lambda _: call.cancel())
        call = self._reactor.callLater(pause, done.callback, None)
        return done


async def _first_answer(calls: list[Deferred[Any]]) -> Any:
    """Return the first result; when all fail, raise what the first one raised."""
    answer: Deferred[Any] = Deferred()
    failures: list[Failure] = []

    def succeed(result: Any) -> Any:
        if not answer.called:
            answer.callback(result)
        return result

    def fail(failure: Failure) -> None:
        failures.append(failure)
        if len(failures) == len(calls) and not answer.called:
            answer.errback(failures[0])

    for call in calls:
        call.addCallbacks(succeed, fail)
    return await answer


def _retry_after(response: Any) -> float:
    values = response.headers.getRawHeaders("Retry-After") or ["0"]
    return float(values[0]) if values[0].isdecimal() else 0.0
