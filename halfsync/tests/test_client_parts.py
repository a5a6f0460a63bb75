"""What outgoing calls are made of, without a network: budget, breaker, balancer, places, addresses."""

from __future__ import annotations

from random import Random

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.names import dns

from halfsync.client.addresses import Refreshed, Srv
from halfsync.client.balancer import Address, Balancer
from halfsync.client.breaker import Breaker
from halfsync.client.budget import RetryBudget
from halfsync.client.errors import NoAddress, Overloaded
from halfsync.client.fake import FakePeer
from halfsync.client.http import HttpClient
from halfsync.client.latencies import Latencies
from halfsync.client.places import Places
from halfsync.client.requests import Request
from halfsync.client.trust import Trust
from halfsync.life.errors import StartError

A, B, C = (Address(f"192.0.2.{n}", 80) for n in (1, 2, 3))


@pytest.fixture
def clock() -> Clock:
    return Clock()


class TestBudget:
    """How many retries there may be."""

    def test_a_fifth_of_the_calls_may_be_retried(self, clock):
        """Of 1,000 calls in the window 200 may be tried again, and 10 a second besides."""
        budget = RetryBudget(seconds=clock.seconds)
        for _ in range(1000):
            budget.called()
        assert sum(budget.retry() for _ in range(1000)) == 200 + 100

    def test_what_is_ten_seconds_old_does_not_count(self, clock):
        """Neither the calls nor the retries of before give or take anything."""
        budget = RetryBudget(seconds=clock.seconds, minimum=1)
        assert sum(budget.retry() for _ in range(100)) == 10
        clock.advance(10.5)
        assert sum(budget.retry() for _ in range(100)) == 10


class TestBreaker:
    """When a peer is left alone."""

    def fail(self, breaker: Breaker, times: int) -> None:
        for _ in range(times):
            breaker.record(ok=False)

    def test_it_opens_when_half_of_twenty_fail(self, clock):
        """19 calls say nothing; the twentieth opens the circuit when ten have failed."""
        breaker = Breaker(seconds=clock.seconds)
        for _ in range(10):
            breaker.record(ok=True)
        self.fail(breaker, 9)
        assert breaker.allows()
        self.fail(breaker, 1)
        assert not breaker.allows()

    def test_one_trial_decides(self, clock):
        """After five seconds one call is let through; when it fails, the next one comes after ten."""
        breaker = Breaker(seconds=clock.seconds)
        self.fail(breaker, 20)
        clock.advance(5)
        assert [breaker.allows(), breaker.allows()] == [True, False]
        breaker.record(ok=False)
        clock.advance(9)
        assert not breaker.allows()
        clock.advance(1)
        assert breaker.allows()
        breaker.record(ok=True)
        assert breaker.state == "closed"

    def test_a_trial_that_its_caller_cancels_leaves_room_for_another(self, clock):
        """Nobody may wait for ever for a verdict that does not come."""
        breaker = Breaker(seconds=clock.seconds)
        self.fail(breaker, 20)
        clock.advance(5)
        assert breaker.allows()
        breaker.abandon()
        assert breaker.allows()

    def test_old_failures_do_not_count(self, clock):
        """Twenty failures, one a second, are never twenty in ten seconds."""
        breaker = Breaker(seconds=clock.seconds)
        for _ in range(20):
            breaker.record(ok=False)
            clock.advance(1)
        assert breaker.state == "closed"


class TestBalancer:
    """Which address is asked."""

    @pytest.fixture
    def balancer(self, clock) -> Balancer[str]:
        balancer = Balancer(str, seconds=clock.seconds, random=Random(1))
        balancer.replace([A, B, C])
        return balancer

    def test_the_less_loaded_of_two(self, balancer):
        """The busiest of three is never chosen, as one of any two is less busy."""
        balancer.members[0].outstanding = 9
        assert {balancer.pick().address for _ in range(100)} == {B, C}

    def test_another_one_is_tried(self, balancer):
        """What was tried is tried again only when there is nothing else."""
        assert {balancer.pick({A, B}).address for _ in range(20)} == {C}
        assert balancer.pick({A, B, C}).address in {A, B, C}

    def test_outliers_are_ejected_and_come_back(self, balancer, clock):
        """Five failures in a row eject an address, for ten seconds."""
        for _ in range(5):
            balancer.record(balancer.members[0], ok=False)
        assert {balancer.pick().address for _ in range(50)} == {B, C}
        clock.advance(10)
        assert A in {balancer.pick().address for _ in range(50)}

    def test_never_more_than_half(self, balancer):
        """When all fail it is not the addresses: of three, one is left out."""
        for member in balancer.members:
            for _ in range(5):
                balancer.record(member, ok=False)
        assert {balancer.pick().address for _ in range(50)} == {B, C}

    def test_replacing_keeps_what_is_known(self, balancer):
        """An address that stays keeps its connections; those of one that goes are given back."""
        kept = balancer.members[1]
        assert balancer.replace([B]) != []
        assert balancer.members == [kept]
        balancer.replace([])
        with pytest.raises(NoAddress):
            balancer.pick()


class TestPlaces:
    """The cap on what is under way, and the wait below it."""

    def results(self, places: Places, number: int) -> list[object]:
        found: list[object] = []
        for _ in range(number):
            Deferred.fromCoroutine(places.take()).addBoth(found.append)
        return found

    def test_the_cap_is_real_and_the_wait_is_bounded(self, clock):
        """Two have places, one waits in vain, one is refused at once."""
        places = Places(clock, limit=2, waiting=1, timeout=3)
        found = self.results(places, 4)
        assert found[:2] == [None, None]
        assert found[2].check(Overloaded)
        assert len(found) == 3
        clock.advance(3)
        assert found[3].check(Overloaded)
        assert (places.taken, places.waiting, places.refused) == (2, 0, 2)

    def test_a_place_goes_to_the_one_that_has_waited_longest(self, clock):
        """Giving back wakes one, and the number taken stays right."""
        places = Places(clock, limit=1, waiting=5, timeout=3)
        found = self.results(places, 3)
        places.give()
        assert found == [None, None]
        places.give()
        places.give()
        assert places.taken == 0
        assert not clock.getDelayedCalls()

    def test_a_caller_that_leaves_takes_no_place(self, clock):
        """Cancelling a wait leaves nothing behind."""
        places = Places(clock, limit=1, waiting=5, timeout=3)
        self.results(places, 1)
        waiting = Deferred.fromCoroutine(places.take())
        waiting.addErrback(lambda _: None)
        waiting.cancel()
        places.give()
        assert (places.taken, places.waiting, clock.getDelayedCalls()) == (0, 0, [])


class TestAddresses:
    """Where a peer listens."""

    def srv(self, *records: tuple[int, int, bytes]) -> Srv:
        answers = [
            dns.RRHeader(type=dns.SRV, payload=dns.Record_SRV(p, 1, port, host)) for p, port, host in records
        ]
        return Srv("_http._tcp.orders", lambda _: succeed((answers, [], [])))

    def found(self, source) -> object:
        found: list[object] = []
        Deferred.fromCoroutine(source.addresses()).addBoth(found.append)
        return found[0]

    def test_srv_records_of_the_best_priority(self):
        """The lowest number is the best (RFC 2782)."""
        source = self.srv((2, 81, b"spare"), (1, 80, b"one"), (1, 82, b"two"))
        assert self.found(source) == [("one", 80), ("two", 82)]

    def test_no_service_there(self):
        """A target of "." says that there is none."""
        assert self.found(self.srv((1, 80, b"."))).check(NoAddress)

    def test_what_was_known_holds_when_dns_fails(self, clock):
        """A name server's outage is not the peer's."""
        answers: list[object] = [[A], NoAddress("gone"), [B]]

        class Failing:
            async def addresses(self):
                answer = answers.pop(0)
                if isinstance(answer, Exception):
                    raise answer
                return answer

        source = Refreshed(Failing(), seconds=clock.seconds)
        assert self.found(source) == [A]
        clock.advance(31)
        assert self.found(source) == [A]
        clock.advance(31)
        assert self.found(source) == [B]


def test_p95_needs_enough_answers():
    """Twenty answers say something about a quantile, nineteen do not."""
    latencies = Latencies()
    for n in range(19):
        latencies.add(n)
    assert latencies.p95() is None
    latencies.add(19)
    assert latencies.p95() == 19


class TestRequests:
    """What a caller asks for."""

    @pytest.mark.parametrize(
        ("method", "what", "again"),
        [
            ("get", {}, True),
            ("POST", {}, False),
            ("POST", {"idempotent": True}, True),
            ("PUT", {"data": b"x"}, True),
            ("PUT", {"data": iter([b"x"])}, False),
            ("PUT", {"data": [b"x"]}, True),
        ],
    )
    def test_what_may_be_sent_again(self, method, what, again):
        """Idempotent methods (RFC 9110 9.2.2) and what the caller says is; never a body that is sent once."""
        assert Request.made(method, "/", **what).idempotent is again

    def test_bad_input_is_refused(self):
        """The line names the field."""
        with pytest.raises(ValueError, match="path: 'orders'"):
            Request.made("GET", "orders")
        with pytest.raises(ValueError, match="json"):
            Request.made("POST", "/", data=b"", json={})


@pytest.mark.parametrize(
    "url",
    [
        *("", "orders", "orders:8080", "ftp://orders", "http://", "http://orders:99999", "http://orders:x"),
        *("http://orders/path", "http://orders?x=1", "http://orders#x", "http://[::1"),
    ],
)
def test_a_url_that_will_not_do_ends_a_start_by_a_line(url):
    """It names the peer, the value, and what would be right; a test sees the `ValueError` of any argument."""
    with pytest.raises(
        StartError, match=r"^shop: '.*' is no URL of a peer; write scheme, host and port"
    ) as caught:
        HttpClient("shop", url, reactor=None)
    assert repr(url) in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_a_file_of_certificates_that_is_none_ends_a_start_by_a_line(tmp_path):
    """The line names it."""
    for trust in (Trust(ca_file=str(tmp_path)), Trust(certificate=str(tmp_path / "none"))):
        with pytest.raises(StartError, match=f"^'{tmp_path}.*no PEM file that can be used"):
            trust.options("orders")


class TestFakePeer:
    """A peer for tests."""

    def test_both_faces_answer_what_the_test_says(self):
        """Answers come in order, the last one again and again; requests are kept."""
        peer = FakePeer()
        peer.answers("GET", "/1?a=b", status=503)
        peer.answers("GET", "/1?a=b", json={"n": 1})
        assert peer.blocking.get("/1", params={"a": "b"}).status == 503
        assert [peer.blocking.get("/1?a=b").json()["n"] for _ in range(2)] == [1, 1]
        assert [each.target for each in peer.calls] == ["/1?a=b"] * 3

    def test_it_is_what_it_stands_for(self):
        """It may be a part of a process, and everything that takes an `HttpClient` takes it."""
        peer = FakePeer()
        assert isinstance(peer, HttpClient)
        assert (peer.requests(), peer.problems()) == ([], [])
        assert all(metric.name for metric in peer.metrics())

    def test_bodies_in_pieces(self):
        """`open`, `pieces` and the blocking `pieces` give what `answers` said, however long it is."""
        peer, body = FakePeer(), b"x" * 1_000_000
        peer.answers("GET", "/", body=body)
        with peer.blocking.pieces("GET", "/") as (status, pieces):
            assert (status, b"".join(pieces)) == (200, body)

        async def read() -> tuple[int, bytes, bytes]:
            response = await peer.open("GET", "/")
            opened = b"".join([piece async for piece in response.body])
            return response.status, opened, b"".join([piece async for piece in peer.pieces("/")])

        got: list[tuple[int, bytes, bytes]] = []
        Deferred.fromCoroutine(read()).addCallback(got.append)
        assert got == [(200, body, body)]

    def test_what_was_not_said_fails_the_test(self):
        with pytest.raises(AssertionError, match="no answer to GET /x"):
            FakePeer().blocking.get("/x")
