"""Outgoing RPC beside real peers on loopback: slow, dying, lying, resetting ones, and our own server."""

from __future__ import annotations

import re
import shutil
import socket
import tempfile
from collections import Counter
from typing import Any

import pytest
from structlog.contextvars import bound_contextvars
from thrift.Thrift import TApplicationException
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from halfsync import deadline
from halfsync.client.errors import CircuitOpen, Interrupted, Overloaded, Unreachable
from halfsync.deadline import DeadlineExceeded
from halfsync.thrift import RemoteError, RpcClient, codec, errors
from halfsync.thrift import message as messages
from halfsync.thrift.framing import FrameReader
from halfsync.thrift.message import EXCEPTION, REPLY
from rpc_tools import Handler, InMemory
from sample_rpc import Sample
from sample_rpc.ttypes import InvalidName, Part

HOSTILE = [
    (b"\x7f\xff\xff\xff", "longer than"),
    (b"\0\0\0\2xx", "is no message"),
    (b"HTTP/1.1 400 Bad Request\r\n\r\n", "longer than"),
    (b"\0\0\0\x0c\x80\1\0\1\0\0\0\0\0\0\0\1", "no answer"),
    (b"\0\0\0\x0c\x80\1\0\2\0\0\0\0\0\0\0\x63", "to no call"),
    (b"\0\0\0\x0c\x80\1\0\2\xff\xff\xff\xff\0\0\0\1", "too long"),
]
"""What a peer may say that is none, and what the caller hears of it."""


class Peer(Factory):
    """A server that does to each call what the test's function says."""

    def __init__(self, behave) -> None:
        self.behave = behave
        self.calls: list[Any] = []
        self.open: set[Any] = set()
        self.connections = 0
        self.arrived: list[Deferred[Any]] = []
        self.ended: Deferred[None] = Deferred()

    def buildProtocol(self, addr):
        return _Connection(self)

    def next_call(self) -> Deferred[Any]:
        """Fires with the connection at which the next call arrives."""
        self.arrived.append(Deferred())
        return self.arrived[-1]


class _Connection(Protocol):
    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.reader = FrameReader(1 << 20)

    def connectionMade(self):
        self.peer.connections += 1
        self.peer.open.add(self)

    def dataReceived(self, data):
        for frame in self.reader.feed(data):
            call = messages.read(frame, 1 << 20)
            self.peer.calls.append(call)
            self.peer.behave(self, call)
            waiting, self.peer.arrived = self.peer.arrived, []
            for each in waiting:
                each.callback(self)

    def connectionLost(self, reason):
        self.peer.open.discard(self)
        if not self.peer.ended.called:
            self.peer.ended.callback(None)

    def answer(self, call, value="hello") -> None:
        body = codec.encode(Sample.hello_result(success=value), call.protocol)
        self.transport.write(messages.write(call, REPLY, b"hello", body))

    def refuse(self, call, number, text="no") -> None:
        body = codec.encode(TApplicationException(number, text), call.protocol)
        self.transport.write(messages.write(call, EXCEPTION, b"hello", body))

    def reset(self) -> None:
        self.transport.abortConnection()


class Base(TestCase):
    """Clients and peers, in the reactor."""

    timeout = 60

    def listen(self, factory) -> int:
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return port.getHost().port

    def peer(self, behave) -> tuple[Peer, int]:
        peer = Peer(behave)
        port = self.listen(peer)

        def stop() -> Any:
            for each in list(peer.open):
                each.reset()

        self.addCleanup(stop)
        return peer, port

    def client(self, *ports: int, **options: Any) -> RpcClient[Sample.Client]:
        options.setdefault("idempotent", ["hello"])
        addresses = [f"tcp:127.0.0.1:{port}" for port in ports]
        client = RpcClient(Sample.Client, addresses, reactor=reactor, **options)
        self.addCleanup(client.stop)
        return client


class ClientTest(Base):
    """One client beside one peer or two."""

    async def test_what_goes_along(self):
        """The request's id, and how much time is left, in milliseconds; nothing without THeader."""
        peer, port = self.peer(lambda connection, call: connection.answer(call))
        with bound_contextvars(request_id="r-1"), deadline.within(5):
            assert await self.client(port, timeout=30).hello("x") == "hello"
            assert await self.client(port, theader=False).hello(name="x") == "hello"
        first, second = peer.calls
        assert first.headers["x-request-id"] == "r-1"
        assert 0 < int(first.headers["client_timeout"]) <= 5000
        assert (second.headers, second.sequence) == ({}, None)

    async def test_a_trace_is_handed_on(self):
        """What a handler calls belongs to the trace of its own call."""
        from halfsync.thrift.call import Call, set_current

        peer, port = self.peer(lambda connection, call: connection.answer(call))
        trace = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
        set_current(Call("s", "m", None, "p", {"traceparent": trace, "cookie": "x"}, "r", None))
        await self.client(port).hello("x")
        assert peer.calls[0].headers["traceparent"] == trace
        assert "cookie" not in peer.calls[0].headers

    async def test_many_calls_share_few_connections(self):
        """Hundreds at a time go over at most so many connections, and each gets its own answer."""
        waiting: list[Any] = []

        def behave(connection, call):
            waiting.append((connection, call))
            name = codec.decode(Sample.hello_args(), call.protocol, call.payload, call.body, None).name
            # In an order of its own: numbers tell answers apart.
            reactor.callLater(0, connection.answer, call, f"to {name}")

        peer, port = self.peer(behave)
        client = self.client(port, max_connections=3)
        results = await DeferredList(Deferred.fromCoroutine(client.hello(str(n))) for n in range(200))
        assert [value for _, value in results] == [f"to {n}" for n in range(200)]
        assert peer.connections <= 3
        assert client.counts == {("first", "ok"): 200}

    async def test_answers_out_of_order(self):
        """An answer belongs to the call of its number."""
        calls: list[Any] = []
        _peer, port = self.peer(lambda connection, call: calls.append((connection, call)))
        client = self.client(port, max_connections=1)
        asked = []
        for n in range(2):
            # One after the other: which of two that are made at once goes first is nobody's promise.
            asked.append(Deferred.fromCoroutine(client.hello("x")))
            while len(calls) == n:
                await _peer.next_call()
        for n in (1, 0):
            calls[n][0].answer(calls[n][1], str(n))
        assert [await each for each in asked] == ["0", "1"]

    async def test_the_deadline(self):
        """A peer that does not answer is given up, and its connection not used again."""
        peer, port = self.peer(lambda connection, call: None)
        client = self.client(port)
        with deadline.within(0.3), pytest.raises(DeadlineExceeded):
            await client.hello("x")
        await peer.ended
        with deadline.within(0), pytest.raises(DeadlineExceeded):
            await client.hello("x")
        assert len(peer.calls) == 1

    async def test_a_late_answer_is_nobodys(self):
        """What comes to a call that was given up is thrown away, and the connection goes on."""
        calls: list[Any] = []

        def behave(connection, call):
            calls.append((connection, call))
            if len(calls) != 2:
                connection.answer(call, str(len(calls)))

        peer, port = self.peer(behave)
        client = self.client(port, max_connections=1)
        assert await client.hello("x") == "1"
        arrived = peer.next_call()
        late = Deferred.fromCoroutine(client.hello("x"))
        await arrived
        assert await client.hello("x") == "3"
        late.cancel()
        with pytest.raises(CancelledError):
            await late
        calls[1][0].answer(calls[1][1], "late")
        assert await client.hello("x") == "4"
        assert peer.connections == 1
        assert client.counts["first", "cancelled"] == 1

    async def test_a_reset_is_tried_again_at_another_address(self):
        """An idempotent call succeeds although one of two addresses resets every connection."""
        bad, one = self.peer(lambda connection, call: connection.reset())
        good, two = self.peer(lambda connection, call: connection.answer(call))
        client = self.client(one, two)
        for _ in range(30):
            assert await client.hello("x") == "hello"
        assert len(good.calls) == 30
        assert len(bad.calls) <= 15

    async def test_a_call_that_is_not_idempotent_is_not_repeated(self):
        """The peer may have begun it; where no connection was made, it has not."""
        peer, port = self.peer(lambda connection, call: connection.reset())
        with pytest.raises(Interrupted):
            await self.client(port, idempotent=()).hello("x")
        assert len(peer.calls) == 1
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            good, two = self.peer(lambda connection, call: connection.answer(call))
            client = self.client(unused.getsockname()[1], two, idempotent=(), retries=5)
            for _ in range(8):
                assert await client.hello("x") == "hello"
        assert len(good.calls) == 8

    async def test_nobody_there(self):
        """The error names service, address and reason."""
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            where = f"127.0.0.1:{unused.getsockname()[1]}"
            with pytest.raises(Unreachable, match=rf"^\w+: {re.escape(where)}: .*refused"):
                await self.client(unused.getsockname()[1]).hello("x")

    async def test_not_begun_is_tried_again(self):
        """`overloaded` and `draining` say that nothing was begun: any call is tried again."""
        numbers = iter([errors.OVERLOADED, errors.DRAINING])

        def behave(connection, call):
            number = next(numbers, None)
            connection.answer(call) if number is None else connection.refuse(call, number)

        peer, port = self.peer(behave)
        assert await self.client(port, idempotent=()).hello("x") == "hello"
        assert len(peer.calls) == 3
        peer, port = self.peer(lambda connection, call: connection.refuse(call, errors.OVERLOADED))
        with pytest.raises(RemoteError) as caught:
            await self.client(port, idempotent=()).hello("x")
        assert (caught.value.name, caught.value.retryable, len(peer.calls)) == ("overloaded", True, 3)

    async def test_other_errors_hold(self):
        """What the server decided is not asked again; a number that nobody knows is told as it is."""
        for number, name in (
            (errors.FORBIDDEN, "forbidden"),
            (errors.UNKNOWN_METHOD, "unknown_method"),
            (77, "other"),
        ):
            peer, port = self.peer(lambda connection, call, n=number: connection.refuse(call, n))
            with pytest.raises(RemoteError) as caught:
                await self.client(port).hello("x")
            assert (caught.value.number, caught.value.name, len(peer.calls)) == (number, name, 1)
        peer, port = self.peer(lambda connection, call: connection.refuse(call, errors.DEADLINE_EXCEEDED))
        with pytest.raises(DeadlineExceeded):
            await self.client(port).hello("x")
        assert len(peer.calls) == 1

    async def test_a_lie_ends_the_connection(self):
        """Lengths that cannot be, bytes of no protocol, answers that nobody asked for: told at once."""
        for said, reason in HOSTILE:
            peer, port = self.peer(lambda connection, call, said=said: connection.transport.write(said))
            client = self.client(port, idempotent=())
            with pytest.raises(Interrupted) as caught:
                await client.hello("x")
            assert reason in str(caught.value)
            await peer.ended
            assert client.balancer.members[0].connector.open == []

    async def test_an_answer_that_is_none(self):
        """A frame that is right with a result that is not: the caller hears it, other calls go on."""
        bodies = iter([b"\x0b\0\0\x7f\xff\xff\xff", b"\x0c", b"\0more"])

        def behave(connection, call):
            body = next(bodies, None)
            if body is None:
                connection.answer(call)
            else:
                connection.transport.write(messages.write(call, REPLY, b"hello", body))

        peer, port = self.peer(behave)
        client = self.client(port)
        for _ in range(3):
            with pytest.raises(Interrupted):
                await client.hello("x")
        assert await client.hello("x") == "hello"
        assert peer.connections == 1

    async def test_an_answer_that_is_too_long(self):
        """The caller's memory is bounded by what an answer may have."""
        _, port = self.peer(lambda connection, call: connection.answer(call, "x" * 100_000))
        with pytest.raises(Interrupted):
            await self.client(port, max_answer=1000).hello("x")
        assert await self.client(port).hello("x") == "x" * 100_000

    async def test_the_peer_dies_with_calls_in_flight(self):
        """Every call that waits hears it; those that may be are made again on a new connection."""
        dead = []

        def behave(connection, call):
            if not dead:
                if len(peer.calls) == 10:
                    dead.append(1)
                    connection.reset()
            else:
                connection.answer(call)

        peer, port = self.peer(behave)
        client = self.client(port, max_connections=1)
        results = await DeferredList(Deferred.fromCoroutine(client.hello("x")) for _ in range(10))
        assert [value for _, value in results] == ["hello"] * 10
        assert peer.connections == 2

    async def test_a_dead_peer_is_not_multiplied(self):
        """All fail: after the twentieth the circuit is open, and nobody is asked any more."""
        peer, port = self.peer(lambda connection, call: connection.reset())
        client = self.client(port)
        seen: Counter[type] = Counter()
        for _ in range(60):
            try:
                await client.hello("x")
            except (Interrupted, CircuitOpen) as error:
                seen[type(error)] += 1
        assert seen[CircuitOpen] > 40
        assert len(peer.calls) <= 24

    async def test_too_many_waiting_calls_are_refused(self):
        """The wait is bounded in number."""
        peer, port = self.peer(lambda connection, call: None)
        client = self.client(port, max_calls=1, max_waiting=1)
        arrived = peer.next_call()
        calls = [Deferred.fromCoroutine(client.hello("x")) for _ in range(2)]
        await arrived
        with pytest.raises(Overloaded):
            await client.hello("x")
        for call in calls:
            call.addErrback(lambda failure: failure.trap(CancelledError))
            call.cancel()
        assert (client.places.taken, client.places.waiting) == (0, 0)

    async def test_wrong_arguments_are_not_sent(self):
        """Too many, too few, of another name or type: the caller's bug, told there."""
        peer, port = self.peer(lambda connection, call: connection.answer(call))
        client = self.client(port)
        for args, kwargs in (((), {}), (("a", "b"), {}), (("a",), {"name": "b"}), ((), {"x": 1})):
            with pytest.raises(TypeError):
                await client.hello(*args, **kwargs)
        for wrong in (b"bytes", 7):
            with pytest.raises(ValueError, match="where text"):
                await client.hello(wrong)
        with pytest.raises(ValueError, match="Required"):
            await client.part(Part())
        with pytest.raises(AttributeError):
            await client.nope()
        assert peer.calls == []

    async def test_a_late_answer_is_asked_for_again(self):
        """With hedging, a call later than the others is made once more, and the faster answer counts."""
        late: list[Any] = []

        def behave(connection, call):
            if b"late" in call.payload and not late:
                late.append(call)
            else:
                connection.answer(call)

        _, port = self.peer(behave)
        client = self.client(port, hedge=True)
        for _ in range(150):
            await client.hello("x")
        # Some of those may have been late, too, and have used up the one in a hundred.
        client._attempts._hedge_budget.share = 1.0
        assert await client.hello("late") == "hello"
        assert late
        assert client.counts["hedge", "ok"] >= 1

    async def test_metrics(self):
        """Tries by kind and outcome, and the open connections, by peer."""
        _, port = self.peer(lambda connection, call: connection.answer(call))
        client = self.client(port, name="greeter")
        await client.hello("x")
        tries, connections = client.metrics()
        assert [(each.value, each.labels) for each in tries.samples] == [
            (1, {"peer": "greeter", "kind": "first", "outcome": "ok"})
        ]
        assert connections.samples[0].value == 1

    def test_wrong_settings(self):
        """Each is told at once, in one line."""
        for options, reason in (
            ({"address": "localhost:9091"}, "write tcp:host:port"),
            ({"address": ["tcp:a:1", "tls:a:1"]}, "of the same kind"),
            ({"idempotent": ["helo"]}, "'helo' is no method"),
        ):
            given = {"address": "tcp:a:1", **options}
            with pytest.raises(ValueError, match=reason):
                RpcClient(Sample.Client, given.pop("address"), reactor=reactor, **given)
        with pytest.raises(TypeError, match="no Client"):
            RpcClient(dict, "tcp:a:1", reactor=reactor)


class OursTest(Base):
    """Our client beside our server."""

    def serve(self, handler: Any = None, **bounds: Any) -> tuple[Any, int]:
        from halfsync.thrift.bounds import Bounds
        from halfsync.thrift.server import RpcServer
        from halfsync.workers.pool import WorkerPool
        from rpc_tools import make_processor

        handler = handler or Handler()
        workers = WorkerPool("rpc", threads=2, queue=10, reactor=reactor)
        server = RpcServer(
            make_processor(handler, **bounds),
            workers,
            bounds=Bounds(**bounds),
            logins=None,
            access_log=False,
            reactor=reactor,
        )
        port = self.listen(server)

        async def stop() -> None:
            server.abort()
            await workers.stop()

        self.addCleanup(stop)
        return handler, port

    async def test_every_kind_of_result(self):
        """Text, binary, structs, maps, nothing, declared exceptions, inherited methods, oneway."""
        handler, port = self.serve()
        client = self.client(port)
        assert await client.hello("Zoë") == "Hello, Zoë!"
        assert await client.echo(b"\xff\0") == b"\xff\0"
        assert await client.ping() == "pong"
        assert await client.later("x") == "Later, x!"
        assert await client.lengths({"a", "bcd"}) == {"a": 1, "bcd": 3}
        assert (await client.part(Part("a", parts=[Part("b")]))).parts[0].name == "b"
        assert await client.nothing() is None
        with pytest.raises(InvalidName) as caught:
            await client.hello("")
        assert caught.value.reason == "a name is wanted"
        assert await client.note("x") is None
        assert await client.call(Sample.Client.ping) == "pong"
        # After it, on the same connection or not: a oneway call is not waited for.
        while not handler.notes:
            await client.ping()

    async def test_the_face_for_threads(self):
        """A thread waits; a declared exception is raised there; large answers, too."""
        _, port = self.serve()
        client = self.client(port)

        def work() -> list[Any]:
            found = [client.blocking.hello("x"), len(client.blocking.echo(b"x" * 300_000))]
            with pytest.raises(InvalidName):
                client.blocking.hello("")
            with pytest.raises(RemoteError), bound_contextvars(request_id="r"):
                client.blocking.hello("boom")
            return found

        assert await deferToThread(work) == ["Hello, x!", 300_000]
        assert len(await client.echo(b"x" * 300_000)) == 300_000

    async def test_the_server_drops_dead_calls(self):
        """A call whose deadline has passed when its turn comes is not run; its answer says so."""
        memory = InMemory()
        connection, transport = memory.connect()
        from halfsync.thrift import header
        from rpc_tools import framed, hello

        sent = header.wrap(hello(), sequence=b"abcd", protocol=0, headers={"client_timeout": "0"})[4:]
        connection.dataReceived(framed(sent))
        memory.workers.work()
        (answer,) = transport.taken()
        from halfsync.thrift.client.methods import remote_error

        assert isinstance(remote_error(messages.read(answer, 1000), "x"), DeadlineExceeded)
        assert memory.server.counts.calls == {("Sample.hello", "deadline_exceeded"): 1}

    async def test_an_error_of_another_server_is_not_ours(self):
        """A handler whose own call fails answers `internal error`, and never `overloaded, try again`."""
        _peer, port = self.peer(lambda connection, call: connection.refuse(call, errors.OVERLOADED))
        other = self.client(port, retries=0)

        class Calls(Handler):
            def whoami(self):
                return other.blocking.hello("x")

        _, port = self.serve(Calls())
        with pytest.raises(RemoteError) as caught:
            await self.client(port, retries=0).whoami()
        assert caught.value.number == errors.INTERNAL_ERROR

    async def test_a_deadline_is_handed_down(self):
        """A handler's own call ends at the deadline of the handler's client, who is told so."""
        peer, port = self.peer(lambda connection, call: None)
        other = self.client(port)

        class Calls(Handler):
            async def later(self, name):
                return await other.hello(name)

        _, port = self.serve(Calls())
        arrived = peer.next_call()
        with deadline.within(0.5), pytest.raises(DeadlineExceeded):
            await self.client(port).later("x")
        await arrived
        assert int(peer.calls[0].headers["client_timeout"]) <= 500

    async def test_unix(self):
        """`unix:` reaches a socket by its path."""
        from halfsync.thrift.bounds import Bounds
        from halfsync.thrift.server import RpcServer
        from halfsync.workers.pool import WorkerPool
        from rpc_tools import make_processor

        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        path = f"{folder}/rpc.sock"
        workers = WorkerPool("rpc", threads=1, queue=10, reactor=reactor)
        server = RpcServer(
            make_processor(Handler()),
            workers,
            bounds=Bounds(),
            logins=None,
            access_log=False,
            reactor=reactor,
        )
        port = reactor.listenUNIX(path, server)
        self.addCleanup(workers.stop)
        self.addCleanup(port.stopListening)
        client = RpcClient(Sample.Client, f"unix:{path}", reactor=reactor)
        self.addCleanup(client.stop)
        assert await client.hello("x") == "Hello, x!"
