"""Outgoing HTTP beside real peers on loopback: slow, dying, lying, resetting ones."""

from __future__ import annotations

import gzip
import socket
from typing import Any

import pytest
from structlog.contextvars import bound_contextvars
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from halfsync import deadline
from halfsync.client.errors import CallError, CircuitOpen, Interrupted, Overloaded, Unreachable
from halfsync.client.http import HttpClient
from halfsync.deadline import DeadlineExceeded
from halfsync.reactor_calls import from_thread


class Peer(Factory):
    """A server that does to each request what the test's function says."""

    def __init__(self, behave) -> None:
        self.behave = behave
        self.requests: list[bytes] = []
        self.open: set[Any] = set()
        self.most = 0
        self.connections = 0
        self.arrived: list[Deferred[None]] = []
        self.ended: Deferred[None] = Deferred()

    def buildProtocol(self, addr):
        return _Connection(self)


class _Connection(Protocol):
    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.data = b""

    def connectionMade(self):
        self.peer.connections += 1
        self.peer.open.add(self)
        self.peer.most = max(self.peer.most, len(self.peer.open))

    def dataReceived(self, data):
        self.data += data
        while b"\r\n\r\n" in self.data:
            head, _, self.data = self.data.partition(b"\r\n\r\n")
            self.peer.requests.append(head)
            for each in self.peer.arrived:
                each.callback(None)
            self.peer.arrived = []
            self.peer.behave(self, head)

    def connectionLost(self, reason):
        self.peer.open.discard(self)
        if not self.peer.ended.called:
            self.peer.ended.callback(None)

    def answer(self, status: int = 200, body: bytes = b"hello", headers: bytes = b"") -> None:
        self.transport.write(
            b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n%s\r\n%s" % (status, len(body), headers, body)
        )

    def reset(self) -> None:
        self.transport.abortConnection()


class ClientTest(TestCase):
    """One client beside one peer or two, in the reactor."""

    timeout = 60

    def peer(self, behave) -> tuple[Peer, int]:
        peer = Peer(behave)
        port = reactor.listenTCP(0, peer, interface="127.0.0.1")

        def stop() -> Any:
            for each in list(peer.open):
                each.reset()
            return port.stopListening()

        self.addCleanup(stop)
        return peer, port.getHost().port

    def client(self, *ports: int, **options: Any) -> HttpClient:
        client = HttpClient(
            "peer",
            f"http://127.0.0.1:{ports[0]}",
            addresses=[("127.0.0.1", port) for port in ports],
            reactor=reactor,
            **options,
        )
        self.addCleanup(client.stop)
        return client

    async def test_an_answer_whole(self):
        """Status, headers and body, and a connection that is used again."""
        peer, port = self.peer(lambda connection, _: connection.answer(201, b"made", b"X-A: b\r\n"))
        client = self.client(port)
        for _ in range(3):
            response = await client.post("/things", json={"a": 1})
            assert (response.status, response.text, response.header("x-a")) == (201, "made", "b")
        assert peer.connections == 1
        assert client.counts == {("first", "ok"): 3}

    async def test_what_goes_along(self):
        """The request's id, and how much time is left, in seconds."""
        peer, port = self.peer(lambda connection, _: connection.answer())
        with bound_contextvars(request_id="r-1"), deadline.within(5):
            await self.client(port, timeout=30).get("/")
        head = peer.requests[0].lower()
        assert b"x-request-id: r-1" in head
        (left,) = [line for line in head.split(b"\r\n") if line.startswith(b"x-request-timeout")]
        assert 0 < float(left.split()[1]) <= 5

    async def test_the_deadline_holds_for_the_body_too(self):
        """A peer that sends its head at once and its body never is given up; the connection is closed."""

        def behave(connection, _):
            connection.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")

        peer, port = self.peer(behave)
        with pytest.raises(DeadlineExceeded) as caught:
            await self.client(port).get("/", deadline=0.3)
        assert "peer did not answer within 0.3 s" in str(caught.value)
        await peer.ended

    async def test_who_did_not_answer_and_why_is_told(self):
        """An error names the peer, the address and the reason, also when the deadline ends the tries."""
        _, port = self.peer(lambda connection, _: connection.reset())
        reset = f"127.0.0.1:{port}: "
        with pytest.raises(Interrupted) as caught:
            await self.client(port, retries=0).get("/")
        assert str(caught.value).startswith(f"peer: {reset}")
        closed = reactor.listenTCP(0, Factory(), interface="127.0.0.1")
        nobody = closed.getHost().port
        await closed.stopListening()
        with pytest.raises(Unreachable, match=rf"^peer: 127\.0\.0\.1:{nobody}: .*refused"):
            await self.client(nobody, retries=0).get("/")
        late = self.client(nobody, retries=2)
        # The first pause between tries is longer than all that the caller waits for.
        late._attempts._pause = lambda _number: 60.0
        with pytest.raises(
            DeadlineExceeded, match=r"within 0\.5 s; the last try: 127\.0\.0\.1:\d+: .*refused"
        ):
            await late.get("/", deadline=0.5)

    async def test_a_passed_deadline_asks_nobody(self):
        """What the caller does not wait for any more is not done."""
        peer, port = self.peer(lambda connection, _: connection.answer())
        with deadline.within(0), pytest.raises(DeadlineExceeded):
            await self.client(port).get("/")
        assert peer.requests == []

    async def test_a_reset_is_tried_again_at_another_address(self):
        """An idempotent request succeeds although one of two addresses resets every connection."""
        bad, one = self.peer(lambda connection, _: connection.reset())
        good, two = self.peer(lambda connection, _: connection.answer())
        client = self.client(one, two, retries=2)
        for _ in range(30):
            assert (await client.get("/")).status == 200
        assert len(good.requests) == 30
        # Five failures in a row eject it; what went before was drawn at random.
        assert len(bad.requests) <= 15

    async def test_a_body_broken_off_is_tried_again(self):
        """A length that was a lie is no answer."""
        calls = []

        def behave(connection, _):
            calls.append(1)
            if len(calls) == 1:
                connection.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
                connection.transport.loseConnection()
            else:
                connection.answer()

        _, port = self.peer(behave)
        assert (await self.client(port).get("/")).body == b"hello"

    async def test_a_post_is_not_repeated(self):
        """The peer may have done the work; a connection that was refused did nothing, and is repeated."""
        peer, port = self.peer(lambda connection, _: connection.reset())
        with pytest.raises(Interrupted):
            await self.client(port).post("/", data=b"x")
        assert len(peer.requests) == 1
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            good, two = self.peer(lambda connection, _: connection.answer())
            client = self.client(unused.getsockname()[1], two, retries=5)
            for _ in range(8):
                assert (await client.post("/", data=b"x")).status == 200
        assert len(good.requests) == 8

    async def test_nobody_there(self):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            with pytest.raises(Unreachable):
                await self.client(unused.getsockname()[1]).get("/")

    async def test_503_is_tried_again_and_told_in_the_end(self):
        """The last answer is the caller's to see; a 404 is an answer at once."""
        peer, port = self.peer(lambda connection, _: connection.answer(503))
        assert (await self.client(port, retries=2).get("/")).status == 503
        assert len(peer.requests) == 3
        peer, port = self.peer(lambda connection, _: connection.answer(404))
        assert (await self.client(port, retries=2).get("/")).status == 404
        assert len(peer.requests) == 1

    async def test_ten_percent_failures_cause_few_calls_more(self):
        """Never more than 1.3 times the calls, and every caller has an answer."""
        count = iter(range(10**6))
        peer, port = self.peer(lambda connection, _: connection.answer(503 if next(count) % 10 == 0 else 200))
        client = self.client(port, retries=3)
        answers = [(await client.get("/")).status for _ in range(300)]
        assert answers == [200] * 300
        assert len(peer.requests) <= 300 * 1.3

    async def test_a_dead_peer_is_not_multiplied(self):
        """All fail: after the twentieth the circuit is open, and nobody is asked any more."""
        peer, port = self.peer(lambda connection, _: connection.reset())
        client = self.client(port)
        failed = [await self.kind(client.get("/")) for _ in range(60)]
        assert failed[-1] is CircuitOpen
        assert len(peer.requests) <= 24

    async def kind(self, coroutine) -> type[BaseException]:
        try:
            await coroutine
        except CallError as error:
            return type(error)
        raise AssertionError("it was answered")

    async def test_the_cap_on_connections_is_real(self):
        """Fifty calls at a time through a cap of five open five connections."""
        waiting: list[_Connection] = []

        def behave(connection, _):
            waiting.append(connection)
            reactor.callLater(0, lambda: waiting.pop(0).answer())

        peer, port = self.peer(behave)
        client = self.client(port, max_connections=5, max_waiting=100)
        calls = [Deferred.fromCoroutine(client.get("/")) for _ in range(50)]
        results = await DeferredList(calls)
        assert [value.status for _, value in results] == [200] * 50
        assert peer.most == 5

    async def test_too_many_waiting_calls_are_refused(self):
        """The wait is bounded in number."""
        peer, port = self.peer(lambda connection, _: None)
        client = self.client(port, max_connections=1, max_waiting=1)
        arrived: Deferred[None] = Deferred()
        peer.arrived.append(arrived)
        calls = [Deferred.fromCoroutine(client.get("/")) for _ in range(2)]
        await arrived
        with pytest.raises(Overloaded):
            await client.get("/")
        for call in calls:
            call.addErrback(lambda failure: failure.trap(CancelledError))
            call.cancel()
        assert (client.places.taken, client.places.waiting) == (0, 0)

    async def test_a_call_that_is_cancelled_is_nobodys_failure(self):
        """Cancelling closes the connection, is not retried, and counts against nobody."""
        peer, port = self.peer(lambda connection, _: None)
        client = self.client(port)
        arrived: Deferred[None] = Deferred()
        peer.arrived.append(arrived)
        call = Deferred.fromCoroutine(client.get("/"))
        await arrived
        call.cancel()
        with pytest.raises(CancelledError):
            await call
        await peer.ended
        assert client.counts == {("first", "cancelled"): 1}
        assert client.balancer.members[0].failures == 0

    async def test_an_answer_that_is_too_long(self):
        """The caller's memory is bounded; what is longer is streamed."""
        _, port = self.peer(lambda connection, _: connection.answer(200, b"x" * 5_000_000))
        with pytest.raises(CallError):
            await self.client(port, max_body=1000).get("/")

    async def test_nobody_gets_the_cookies_of_another_call(self):
        """What a peer sets for one call is in its answer, and goes along with no later call."""
        cookie = b"Set-Cookie: session=1\r\n"
        peer, port = self.peer(lambda connection, _: connection.answer(200, b"", cookie))
        client = self.client(port)
        for _ in range(2):
            assert (await client.get("/")).header("Set-Cookie") == "session=1"
        assert not [head for head in peer.requests if b"cookie" in head.lower()]

    async def test_a_head_without_an_end(self):
        """An answer whose head, or whose interim answers, do not end holds 64 KiB; its connection ends."""
        lines = b"HTTP/1.1 200 X\r\n" + b"X-A: %b\r\n" % (b"a" * 1000) * 200
        folded = b"HTTP/1.1 200 X\r\nX-A: a\r\n" + b" %b\r\n" % (b"a" * 1000) * 200
        for what in (lines, folded, b"HTTP/1.1 103 X\r\n\r\n" * 10_000):
            peer, port = self.peer(lambda connection, _, what=what: connection.transport.write(what))
            with pytest.raises(Interrupted, match="head of the answer is longer than 65536 bytes"):
                await self.client(port, retries=0).get("/")
            await peer.ended

    async def test_a_large_body_behind_a_small_head_is_no_large_head(self):
        """The bound on heads is not one on bodies, also on a connection that is used again."""
        _, port = self.peer(lambda connection, _: connection.answer(200, b"x" * 300_000))
        client = self.client(port)
        for _ in range(3):
            assert len((await client.get("/")).body) == 300_000

    async def test_a_status_that_is_none(self):
        """A status of more than three digits breaks the protocol."""
        peer, port = self.peer(lambda connection, _: connection.answer(99999, b"x" * 300_000))
        with pytest.raises(Interrupted, match="three digits"):
            await self.client(port, retries=0).get("/")
        await peer.ended

    async def test_gzip_is_undone(self):
        """gzip, of several members too, is undone, and named no more; a HEAD may name it without a body."""
        body = gzip.compress(b"one, ") + gzip.compress(b"two" * 100_000)
        coded = b"Content-Encoding: gzip\r\n"

        def behave(connection, head):
            connection.answer(200, b"" if head.startswith(b"HEAD") else body, coded)

        peer, port = self.peer(behave)
        client = self.client(port)
        for _ in range(2):
            answer = await client.get("/")
            assert answer.body == b"one, " + b"two" * 100_000
            assert (answer.header("Content-Encoding"), answer.header("Content-Length")) == (None, None)
        assert (await client.request("HEAD", "/")).body == b""
        assert b"Accept-Encoding: gzip" in peer.requests[0]

    async def test_a_gzip_bomb(self):
        """Little that stands for much is undone as it is taken: the caller's memory is bounded as ever."""
        bomb = gzip.compress(bytes(100_000_000))
        _, port = self.peer(lambda connection, _: connection.answer(200, bomb, b"Content-Encoding: gzip\r\n"))
        client = self.client(port)
        with pytest.raises(CallError, match="more than 16777216 bytes"):
            await client.get("/")
        response = await client.open("GET", "/")
        taken = 0
        async for piece in response.body:
            assert len(piece) <= 64 * 1024
            taken += len(piece)
        assert taken == 100_000_000

    async def test_what_is_coded_twice_is_undone_once(self):
        """One coding is asked for; what has two reaches its reader with the other, as its head says."""
        once = gzip.compress(b"hello")
        _, port = self.peer(
            lambda connection, _: connection.answer(
                200, gzip.compress(once), b"Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n"
            )
        )
        answer = await self.client(port).get("/")
        assert (answer.body, answer.header("Content-Encoding")) == (once, "gzip")

    async def test_a_gzip_that_is_none_or_has_no_end(self):
        """No one takes a part, or nothing, for the whole: neither ends as an answer."""
        whole = gzip.compress(b"hello" * 1000)
        for body in (b"hello", whole[:-9], whole + b"more", whole + whole[:-1]):
            peer, port = self.peer(
                lambda connection, _, body=body: connection.answer(200, body, b"Content-Encoding: gzip\r\n")
            )
            client = self.client(port, retries=1)
            with pytest.raises(Interrupted, match="gzip"):
                await client.get("/")
            assert len(peer.requests) == 2
            assert client.places.taken == 0

    async def test_a_slow_reader_holds_little(self):
        """While the reader waits, the peer is not read: of 50 MB at most a few hundred KiB are held."""
        _peer, port = self.peer(lambda connection, _: connection.answer(200, b"x" * 50_000_000))
        response = await self.client(port).open("GET", "/")
        first = await response.body.read()
        while not response.body._paused:
            await self.turn()
        held = response.body._held
        for _ in range(20):
            await self.turn()
        assert response.body._held == held < 1_000_000
        taken = len(first)
        async for piece in response.body:
            taken += len(piece)
        assert taken == 50_000_000

    def turn(self) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        reactor.callLater(0, done.callback, None)
        return done

    async def test_ending_early_closes_the_connection(self):
        """Whoever leaves an iteration does not read the rest."""
        peer, port = self.peer(lambda connection, _: connection.answer(200, b"x" * 50_000_000))
        client = self.client(port)
        pieces = client.pieces("/")
        assert await anext(pieces)
        await pieces.aclose()
        await peer.ended
        assert client.places.taken == 0

    async def test_an_upload_in_pieces(self):
        """An asynchronous iterator is sent as it comes, chunked."""

        async def pieces():
            yield b"one"
            await self.turn()
            yield b"two"

        bodies = []

        def behave(connection, head):
            bodies.append(head)

        _peer, port = self.peer(behave)
        original = _Connection.dataReceived
        seen = bytearray()

        def received(connection, data):
            seen.extend(data)
            original(connection, data)
            if seen.endswith(b"0\r\n\r\n"):
                connection.answer()

        self.patch(_Connection, "dataReceived", received)
        assert (await self.client(port).put("/", data=pieces())).status == 200
        assert bytes(seen).partition(b"\r\n\r\n")[2] == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"

    async def test_a_late_answer_is_asked_for_again(self):
        """With hedging, a request later than the others is sent once more, and the faster answer counts."""
        late = []

        def behave(connection, head):
            if b"/late" in head and not late:
                late.append(connection)
            else:
                connection.answer()

        _, port = self.peer(behave)
        client = self.client(port, hedge=True)
        for _ in range(150):
            await client.get("/")
        # Some of those may have been late, too, and have used up the one in a hundred.
        client._attempts._hedge_budget.share = 1.0
        assert (await client.get("/late")).status == 200
        assert late
        assert client.counts["hedge", "ok"] >= 1
        assert client.counts["first", "cancelled"] >= 1

    async def test_the_face_for_threads(self):
        """A thread waits; what is raised in the reactor is raised there; the request's id goes along."""
        peer, port = self.peer(lambda connection, head: connection.answer(200, b"x" * 100_000))
        client = self.client(port)

        def work() -> tuple[int, int]:
            with bound_contextvars(request_id="r-2"):
                whole = client.blocking.get("/")
                with client.blocking.pieces("GET", "/") as (status, pieces):
                    return status, len(whole.body) + sum(map(len, pieces))

        assert await deferToThread(work) == (200, 200_000)
        assert all(b"r-2" in head for head in peer.requests)

    async def test_a_thread_hears_of_the_deadline(self):
        _, port = self.peer(lambda connection, head: None)
        client = self.client(port)
        with pytest.raises(DeadlineExceeded):
            await deferToThread(client.blocking.get, "/", deadline=0.2)


class FromThreadTest(TestCase):
    """What a thread asks of the reactor."""

    timeout = 60

    async def test_it_keeps_context_and_raises(self):
        """The coroutine sees the caller's context; its error is the caller's."""
        from structlog.contextvars import get_contextvars

        async def who() -> Any:
            return get_contextvars().get("request_id")

        async def fail() -> None:
            raise KeyError("x")

        def work() -> Any:
            with bound_contextvars(request_id="r-3"):
                return from_thread(who())

        assert await deferToThread(work) == "r-3"
        with pytest.raises(KeyError):
            await deferToThread(lambda: from_thread(fail()))

    async def test_the_deadline_cancels(self):
        """The caller goes on, and the coroutine ends."""
        ended: Deferred[None] = Deferred()

        async def wait() -> None:
            try:
                await Deferred()
            finally:
                ended.callback(None)

        with pytest.raises(DeadlineExceeded):
            await deferToThread(lambda: from_thread(wait(), deadline=0.1))
        await ended

    async def test_the_reactor_does_not_wait_for_itself(self):
        """One line says what is wrong, where a deadlock would be."""

        async def nothing() -> None: ...

        with pytest.raises(RuntimeError) as caught:
            from_thread(nothing())
        assert "await the coroutine there" in str(caught.value)
