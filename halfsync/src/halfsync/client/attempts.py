"""One call to a peer, as often as it takes: which address, when again, when not. No HTTP and no RPC in it."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from twisted.internet.defer import CancelledError, Deferred

from halfsync import deadline as deadlines
from halfsync.client.errors import CircuitOpen, Interrupted, NoAddress, Overloaded, Unreachable
from halfsync.deadline import DeadlineExceeded
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator
    from random import Random

    from twisted.python.failure import Failure

    from halfsync.client.addresses import Source
    from halfsync.client.balancer import Address, Balancer, Member
    from halfsync.client.breaker import Breaker
    from halfsync.client.budget import RetryBudget
    from halfsync.client.latencies import Latencies
    from halfsync.client.places import Places

C = TypeVar("C")
T = TypeVar("T")

log = get_logger(__name__)

BACKOFF, LONGEST = 0.025, 1.0
"""Seconds before the first retry at most, doubled for each next one up to the second figure; full jitter."""


class Verdict(NamedTuple):
    """What an answer says of its peer."""

    ok: bool
    """Whether the peer works."""
    retryable: bool = False
    """Whether the call may be made again, which this answer shows to be harmless or useful."""
    pause: float = 0.0
    """Seconds that the peer wants to be left alone before."""


class Attempt(Generic[C]):
    """One try of a call, from the place that it takes to the one that it gives back."""

    def __init__(self, attempts: Attempts[C], kind: str, member: Member[C], began: float) -> None:
        self.member = member
        self._attempts = attempts
        self._kind = kind
        self._began = began

    def answered(self) -> None:
        """Take note that the answer has come."""
        self._attempts.latencies.add(self._attempts.seconds() - self._began)

    def end(self, error: BaseException | None) -> None:
        """Give the place back; `error` is why there is no good answer."""
        self._attempts.places.give()
        self._attempts.ended(self.member, self._kind, error)


@contextmanager
def _telling(failed: list[str]) -> Iterator[None]:
    """Have a call that is cancelled say how its last try failed, for whoever cancelled it."""
    try:
        yield
    except CancelledError:
        raise CancelledError(*failed[-1:]) from None


class Attempts(Generic[C]):
    """Makes calls to one peer; `C` is what reaches one address of it."""

    def __init__(
        self,
        name: str,
        *,
        reactor: Any,
        source: Source,
        balancer: Balancer[C],
        close: Callable[[C], object],
        breaker: Breaker,
        budget: RetryBudget,
        places: Places,
        latencies: Latencies,
        retries: int,
        hedge_budget: RetryBudget | None,
        seconds: Callable[[], float],
        random: Random,
    ) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.name = name
        self.latencies = latencies
        self.places = places
        self.seconds = seconds
        self._reactor = reactor
        self._source = source
        self._balancer = balancer
        self._close = close
        self._breaker = breaker
        self._budget = budget
        self._retries = retries
        self._hedge_budget = hedge_budget
        self._random = random
        self._addresses: list[Address] | None = None

    async def within(self, longest: float, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Make a call with one deadline over all of its tries, which is never later than the caller's own.

        :param longest: seconds.
        :raises DeadlineExceeded: when they are over; the call is cancelled. It says how the last try failed.
        """
        with deadlines.within(longest, self.seconds):
            left = deadlines.remaining(self.seconds) or 0.0
            if left <= 0:
                raise DeadlineExceeded(f"{self.name} was not asked: the caller's deadline has passed")
            under_way = Deferred.fromCoroutine(call())
        late = False

        def expire() -> None:
            nonlocal late
            late = True
            under_way.cancel()

        timer = self._reactor.callLater(left, expire)
        try:
            return await under_way
        except CancelledError as cancelled:
            if not late:
                # That says nothing of the peer.
                self._breaker.abandon()
                raise
            self.counts["call", "deadline"] += 1
            self._breaker.record(ok=False)
            last = f"; the last try: {cancelled}" if str(cancelled) else ""
            raise DeadlineExceeded(f"{self.name} did not answer within {left:.3g} s{last}") from None
        except (Unreachable, Interrupted, Overloaded, NoAddress) as error:
            # What fails below knows an address at most; several calls may share it.
            if not str(error).startswith(self.name):
                error.args = (f"{self.name}: {error}",)
            raise
        finally:
            if timer.active():
                timer.cancel()

    async def call(
        self,
        once: Callable[[str, list[Address]], Awaitable[T]],
        judge: Callable[[T], Verdict],
        *,
        idempotent: bool,
        method: str,
        hedge: bool = False,
        discard: Callable[[T], object] | None = None,
    ) -> T:
        """Try until there is an answer that holds.

        :param once: makes one try; gets its kind, and the list of the addresses tried, to add its own to.
        :param idempotent: whether a call may be made again that the peer may have seen.
        :param discard: is told of an answer that does not hold.
        :raises CallError: when there is none; its subclasses say why.
        """
        if hedge and idempotent and self._hedge_budget is not None:
            plain, once = once, lambda kind, tried: self._hedged(plain, kind, tried)
        self._budget.called()
        tried: list[Address] = []
        failed: list[str] = []
        with _telling(failed):
            for number in count():
                self._require_closed()
                try:
                    answer = await once("retry" if number else "first", tried)
                except CancelledError:
                    raise
                except (Unreachable, Interrupted) as error:
                    failed.append(str(error))
                    self._breaker.record(ok=False)
                    safe = idempotent or isinstance(error, Unreachable)
                    if not safe or not self._may_retry(number):
                        raise
                    pause = self._pause(number)
                except BaseException:
                    # It says nothing of the peer: no connection was free, or the caller's own body failed.
                    self._breaker.abandon()
                    raise
                else:
                    again = self._again(judge(answer), number)
                    if again is None:
                        return answer
                    if discard is not None:
                        discard(answer)
                    pause = again
                log.debug("client.retried", peer=self.name, method=method, pause=round(pause, 3))
                await self._sleep(pause)
        raise AssertionError  # the loop has no end

    async def begin(self, kind: str, tried: list[Address]) -> Attempt[C]:
        """Take a place, and choose the address to ask, which is added to `tried`.

        :raises Overloaded: when there is no place.
        :raises NoAddress: when the peer has none.
        """
        await self.places.take()
        began = self.seconds()
        try:
            await self._refresh()
            member = self._balancer.pick(tried)
        except BaseException as error:
            self.places.give()
            self._count(kind, error)
            raise
        tried.append(member.address)
        member.outstanding += 1
        return Attempt(self, kind, member, began)

    def ended(self, member: Member[C], kind: str, error: BaseException | None) -> None:
        """Hear that a try has ended; `Attempt.end` calls it."""
        outcome = self._count(kind, error)
        member.outstanding -= 1
        if outcome != "cancelled":
            self._balancer.record(member, ok=error is None)

    def _count(self, kind: str, error: BaseException | None) -> str:
        # At the deadline the call is cancelled, and that it came to this is the peer's failure.
        given_up = isinstance(error, CancelledError) and deadlines.remaining(self.seconds) != 0
        outcome = "ok" if error is None else "cancelled" if given_up else "failed"
        self.counts[kind, outcome] += 1
        return outcome

    def _require_closed(self) -> None:
        if not self._breaker.allows():
            self.counts["call", "circuit_open"] += 1
            raise CircuitOpen(f"{self.name} was not asked: too many of its last answers were failures")

    async def _refresh(self) -> None:
        addresses = await self._source.addresses()
        if addresses is not self._addresses:
            self._addresses = addresses
            for gone in self._balancer.replace(addresses):
                self._close(gone)

    def _again(self, verdict: Verdict, number: int) -> float | None:
        """Return after how many seconds to try again what was answered so; None when the answer holds."""
        self._breaker.record(ok=verdict.ok)
        if not verdict.retryable or not self._may_retry(number):
            return None
        pause = max(self._pause(number), verdict.pause)
        left = deadlines.remaining(self.seconds)
        return None if left is not None and pause >= left else pause

    async def _hedged(
        self, once: Callable[[str, list[Address]], Any], kind: str, tried: list[Address]
    ) -> Any:
        budget = self._hedge_budget
        late = self.latencies.p95()
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
