"""A connection within its bounds: order, batches, pausing, refusals, deadlines, drain.

Threads and clock are the test's.
"""

from __future__ import annotations

import struct
import zlib
from contextvars import ContextVar, copy_context
from traceback import extract_tb
from typing import Any

import pytest
from structlog.testing import capture_logs
from twisted.internet.defer import Deferred

from halfsync import deadline
from halfsync.thrift import current_call, errors, header
from halfsync.thrift.connection import JOB_CALLS, REFUSALS
from halfsync.thrift.wire import WAITING_CALLS
from rpc_tools import Handler, InMemory, error_of, framed, hello, message, payloads, read_result


@pytest.fixture(autouse=True)
def now(monkeypatch):
    """The monotonic clock, as the test sets it."""

    class Now:
        seconds = 1000.0

        def __call__(self):
            return self.seconds

    clock = Now()
    for name in ("wire", "connection", "server", "processor", "job", "call"):
        monkeypatch.setattr(f"halfsync.thrift.{name}.monotonic", clock)
    return clock


def results(answers: list[bytes]) -> list[str]:
    return [read_result(each, "hello") for each in answers]


def test_order():
    """Pipelined calls are answered in their order, in one job and one write."""
    memory = InMemory()
    connection, transport = memory.connect()
    connection.dataReceived(b"".join(framed(hello(str(n))) for n in range(20)))
    assert len(memory.workers.jobs) == 1
    memory.workers.work()
    assert results(transport.taken()) == [f"Hello, {n}!" for n in range(20)]
    assert memory.server.held == connection.held == 0


def test_one_job_at_a_time():
    """What arrives during a job waits for it; a job is capped, so that others have turns."""
    memory = InMemory()
    connection, transport = memory.connect()
    connection.dataReceived(framed(hello("first")))
    connection.dataReceived(b"".join(framed(hello(str(n))) for n in range(40)))
    assert len(memory.workers.jobs) == 1
    assert memory.workers.work() == 3
    assert results(transport.taken()) == ["Hello, first!", *(f"Hello, {n}!" for n in range(40))]


def test_slow_calls_give_way(now):
    """After a slow call, the answers that are there are sent, and the rest waits for its turn."""
    memory = InMemory()
    connection, transport = memory.connect()

    def slow(name):
        now.seconds += 1
        return name

    memory.processor.methods[b"hello"].function = slow
    connection.dataReceived(framed(hello("a")) + framed(hello("b")))
    copy_context().run(memory.workers.jobs.pop(0))
    assert results(transport.taken()) == ["a"]
    assert len(memory.workers.jobs) == 1
    memory.workers.work()
    assert results(transport.taken()) == ["b"]


def test_reading_stops():
    """With 64 calls that wait, reading stops until they have gone; with the bytes of a frame, too."""
    memory = InMemory()
    connection, transport = memory.connect()
    connection.dataReceived(framed(hello()) * 40)
    assert transport.producerState == "producing"
    connection.dataReceived(framed(hello()) * 64)
    assert transport.producerState == "paused"
    memory.workers.work()
    assert transport.producerState == "producing"
    assert len(transport.taken()) == 104


def test_overload():
    """When no thread and no place is there, each call is answered so, at once; oneway calls are not."""
    memory = InMemory()
    memory.workers.places = 0
    note = message(lambda client: client.send_note("x"))
    answers = memory.ask(hello(), note, hello(compact=True))
    assert [error_of(each).type for each in answers] == [errors.OVERLOADED] * 2
    assert memory.handler.notes == []
    assert memory.server.counts.calls == {("Sample.hello", "overloaded"): 2, ("Sample.note", "overloaded"): 1}
    assert memory.server.held == 0


def test_refusals_have_turns():
    """Of thousands of calls in a piece some are refused, then others have their turn; in the end all are."""
    memory = InMemory()
    memory.workers.places = 0
    turns: list[Any] = []
    memory.server.soon = turns.append
    connection, transport = memory.connect()
    connection.dataReceived(framed(hello()) * (3 * REFUSALS + 1))
    for _ in range(3):
        taken = transport.taken()
        assert [error_of(each).type for each in taken] == [errors.OVERLOADED] * REFUSALS
        assert transport.producerState == "paused"
        turns.pop()()
    assert len(transport.taken()) == 1
    assert (turns, memory.server.held, transport.producerState) == ([], 0, "producing")


def test_frame_too_long():
    """A frame that is too long ends the connection, after the answers to what came before it."""
    memory = InMemory(max_frame=1000)
    connection, transport = memory.connect()
    with capture_logs() as events:
        connection.dataReceived(struct.pack("!I", 1001))
    assert transport.disconnecting
    assert events[-1]["event"] == "rpc.refused"
    assert memory.server.counts.refused == {"frame": 1}


def test_unreadable_message():
    """A message that cannot be answered ends the connection; what was before it is answered."""
    memory = InMemory()
    connection, transport = memory.connect()
    connection.dataReceived(framed(hello()) + framed(b"\x01\x02\x03\x04") + framed(hello()))
    memory.workers.work()
    assert results(transport.taken()) == ["Hello, Anna!"]
    assert transport.disconnecting


def test_slow_reader(now):
    """While a client does not take its answers, nothing more of it runs; after a time it is cut."""
    memory = InMemory(write_timeout=30)
    connection, transport = memory.connect()
    connection.dataReceived(framed(hello()))
    connection.pauseProducing()
    memory.workers.work()
    connection.dataReceived(framed(hello()))
    assert memory.workers.jobs == []
    assert connection.unsent > 0
    now.seconds += 10
    memory.clock.advance(1)
    connection.resumeProducing()
    assert len(memory.workers.jobs) == 1
    memory.workers.work()
    connection.pauseProducing()
    now.seconds += 31
    memory.clock.advance(1)
    assert transport.aborted
    assert memory.server.counts.refused == {"slow_reader": 1}


def test_slow_writer(now):
    """A frame must arrive in time; each byte buys none."""
    memory = InMemory(frame_timeout=30)
    connection, transport = memory.connect()
    for byte in framed(hello())[:8]:
        connection.dataReceived(bytes((byte,)))
        now.seconds += 5
        memory.clock.advance(1)
    assert transport.aborted
    assert memory.server.counts.refused == {"slow_writer": 1}


def test_idle(now):
    """An idle connection is closed after its time, and one with a call that runs is not."""
    memory = InMemory(idle_timeout=60)
    idle, other = memory.connect(), memory.connect()
    other[0].dataReceived(framed(hello()))
    now.seconds += 61
    memory.clock.advance(1)
    assert idle[1].disconnecting
    assert not other[1].disconnecting


def test_memory():
    """When all clients hold too much, the one that holds most is cut."""
    memory = InMemory(memory=100_000)
    small, _ = memory.connect()
    small.dataReceived(struct.pack("!I", 50_000) + bytes(20_000))
    great, transport = memory.connect()
    great.dataReceived(struct.pack("!I", 900_000) + bytes(60_000))
    assert not transport.aborted
    small.dataReceived(bytes(29_000))
    assert transport.aborted
    assert memory.server.held == 49_004
    assert not small.transport.aborted


def test_connections_are_bounded():
    memory = InMemory(max_connections=2)
    first, second, third = (memory.connect()[1] for _ in range(3))
    assert third.aborted
    assert not first.aborted
    assert not second.aborted


def test_async():
    """An `async` handler runs in the reactor and takes no thread; order is kept."""
    memory = InMemory()
    connection, transport = memory.connect()
    later = message(lambda client: client.send_later("Anna"))
    connection.dataReceived(framed(later))
    assert memory.workers.jobs == []
    assert read_result(transport.taken()[0], "later") == "Later, Anna!"
    connection.dataReceived(framed(hello()) + framed(later) + framed(hello("Bob")))
    memory.workers.work()
    memory.clock.advance(0)
    memory.workers.work()
    first, second, third = transport.taken()
    assert results([first, third]) == ["Hello, Anna!", "Hello, Bob!"]
    assert read_result(second, "later") == "Later, Anna!"


def test_async_waits():
    """What comes after an `async` call waits for it; the connection is busy meanwhile."""
    memory = InMemory()
    connection, transport = memory.connect()
    connection.dataReceived(framed(message(lambda client: client.send_wait("x"))) + framed(hello()))
    assert connection.busy.method.label == "Sample.wait"
    assert memory.workers.jobs == []
    memory.handler.waiting[0].callback("done")
    memory.clock.advance(0)
    memory.workers.work()
    first, second = transport.taken()
    assert read_result(first, "wait") == "done"
    assert results([second]) == ["Hello, Anna!"]


def later(name: str) -> bytes:
    return framed(message(lambda client: client.send_later(name)))


def texts(answers: list[bytes]) -> list[str]:
    return [read_result(each, "later") for each in answers]


def test_async_calls_that_end_at_once_are_one_write(monkeypatch):
    """What has arrived is answered in order, in one write, and at most 32 calls in a turn of the reactor."""
    memory = InMemory()
    connection, transport = memory.connect()
    writes = []
    monkeypatch.setattr(transport, "send", writes.append, raising=False)
    connection.dataReceived(b"".join(later(str(n)) for n in range(40)))
    assert texts(payloads(writes.pop())) == [f"Later, {n}!" for n in range(32)]
    assert writes == []
    memory.clock.advance(0)
    assert texts(payloads(writes.pop())) == [f"Later, {n}!" for n in range(32, 40)]
    assert writes == []
    assert connection.held == 0
    assert memory.server.counts.calls["Sample.later", "ok"] == 40
    assert connection.busy is None
    assert connection.deadline > 0


def test_answers_do_not_wait_for_an_async_call_behind_them():
    """What ended at once is sent, though the next call waits; what is behind that waits for it."""
    memory = InMemory()
    connection, transport = memory.connect()
    waits = framed(message(lambda client: client.send_wait("x")))
    connection.dataReceived(later("a") + later("b") + waits + later("c"))
    assert texts(transport.taken()) == ["Later, a!", "Later, b!"]
    assert connection.busy.method.label == "Sample.wait"
    memory.handler.waiting[0].callback("done")
    memory.clock.advance(0)
    first, second = transport.taken()
    assert read_result(first, "wait") == "done"
    assert texts([second]) == ["Later, c!"]


def test_async_calls_of_one_turn_share_nothing():
    """Each has its own call and deadline; what one leaves in context variables, the next does not see."""
    left = ContextVar("left", default="nothing")
    seen = []

    class Leaving(Handler):
        async def later(self, name):
            seen.append((left.get(), current_call().request_id, deadline.remaining() is None))
            left.set(name)
            return name

    memory = InMemory(Leaving())
    connection, _ = memory.connect()
    calls = [message(lambda client: client.send_later("x"))] * 2
    connection.dataReceived(
        framed(with_headers(calls[0], x_request_id="one", client_timeout="9000"))
        + framed(with_headers(calls[1], x_request_id="two"))
    )
    assert seen == [("nothing", "one", False), ("nothing", "two", True)]
    assert left.get() == "nothing"
    with pytest.raises(LookupError):
        current_call()


def test_a_failing_async_handler_is_logged_with_its_traceback():
    """The log says where it was, though the client hears nothing of it; the next call is answered."""

    class Failing(Handler):
        async def later(self, name):
            if name == "fails":
                raise RuntimeError("of the handler")
            return name

    memory = InMemory(Failing())
    connection, transport = memory.connect()
    with capture_logs() as events:
        connection.dataReceived(later("fails") + later("b"))
    first, second = transport.taken()
    assert error_of(first).type == errors.INTERNAL_ERROR
    assert texts([second]) == ["b"]
    (event,) = [each for each in events if each["event"] == "rpc.handler_failed"]
    _, error, traceback = event["exc_info"]
    assert str(error) == "of the handler"
    assert "later" in [frame.name for frame in extract_tb(traceback)]


def test_an_async_handler_that_cuts_its_client():
    """Nothing more of that client is begun."""
    begun = []

    class Cutting(Handler):
        async def later(self, name):
            begun.append(name)
            memory.server.abort()
            return name

    memory = InMemory(Cutting())
    connection, transport = memory.connect()
    connection.dataReceived(later("a") + later("b"))
    memory.clock.advance(0)
    assert begun == ["a"]
    assert transport.aborted
    assert transport.value() == b""


def test_what_is_no_message_ends_what_async_calls_began():
    """The calls before it are answered, then the connection ends."""
    memory = InMemory()
    connection, transport = memory.connect()
    reply = later("x")[4:].replace(b"\x80\x01\x00\x01", b"\x80\x01\x00\x02", 1)
    connection.dataReceived(later("a") + framed(reply) + later("b"))
    assert texts(transport.taken()) == ["Later, a!"]
    assert transport.disconnecting
    assert connection.busy is None


def with_headers(payload: bytes, **headers: str) -> bytes:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    if "client-timeout" in named:
        named["client_timeout"] = named.pop("client-timeout")
    return header.wrap(payload, sequence=b"abcd", protocol=header.BINARY, headers=named)[4:]


def test_deadline_of_async(now):
    """A deadline ends an `async` handler, and its client is told; a client that goes ends it, too."""
    memory = InMemory()
    connection, transport = memory.connect()
    sent = with_headers(message(lambda client: client.send_wait("x")), client_timeout="2000")
    connection.dataReceived(framed(sent))
    now.seconds += 2
    memory.clock.advance(2)
    assert memory.handler.cancelled == ["x"]
    _, payload = header.unwrap(transport.taken()[0], 1000)
    assert error_of(payload).type == errors.DEADLINE_EXCEEDED
    connection.dataReceived(framed(message(lambda client: client.send_wait("x"))))
    memory.clock.advance(0)
    with capture_logs() as events:
        connection.connectionLost(None)
    assert memory.handler.cancelled == ["x", "x"]
    assert "rpc.handler_failed" not in [each["event"] for each in events]
    assert memory.server.counts.calls["Sample.wait", "client_gone"] == 1


def test_deadline_passed(now):
    """A call whose time is over when its turn comes is not run."""
    memory = InMemory()
    connection, transport = memory.connect()
    connection.dataReceived(framed(with_headers(hello(), client_timeout="100")))
    now.seconds += 0.2
    memory.workers.work()
    head, payload = header.unwrap(transport.taken()[0], 1000)
    assert head.sequence == b"abcd"
    assert error_of(payload).type == errors.DEADLINE_EXCEEDED


def test_request_id():
    """The client's name for its call is that of the handler and of the log."""
    memory = InMemory()
    with capture_logs() as events:
        (got,) = memory.ask(with_headers(message(lambda client: client.send_whoami()), x_request_id="abc-1"))
    assert read_result(header.unwrap(got, 1000)[1], "whoami") == "nobody abc-1"
    assert [(each["event"], each["request_id"]) for each in events] == [("rpc.call", "abc-1")]


def test_access_log():
    """An event a call: method, outcome, time, peer."""
    with capture_logs() as events:
        InMemory().ask(
            hello(), hello(""), message(lambda client: client.send_ping()).replace(b"ping", b"p\n\xffg")
        )
    assert [(each["method"], each["outcome"]) for each in events] == [
        ("Sample.hello", "ok"),
        ("Sample.hello", "InvalidName"),
        ("other", "unknown_method"),
    ]
    assert set(events[0]) == {
        "event",
        "log_level",
        "method",
        "outcome",
        "bytes",
        "seconds",
        "peer",
        "request_id",
    }


def heavy() -> bytes:
    return b"\x80\x01\x00\x01" + struct.pack("!I", 5) + b"count" + bytes(4 + 70_000)


def test_heavy_calls_have_turns():
    """Calls that would hold the process up run a few at a time; others do not wait for them."""
    memory = InMemory()
    clients = [memory.connect()[0] for _ in range(3)]
    for each in clients:
        each.dataReceived(framed(heavy()))
    assert len(memory.workers.jobs) == 1
    light, transport = memory.connect()
    light.dataReceived(framed(hello()))
    assert len(memory.workers.jobs) == 2
    copy_context().run(memory.workers.jobs.pop(0))
    memory.clock.advance(0)
    assert len(memory.workers.jobs) == 2
    clients[2].connectionLost(None)
    while memory.workers.work():
        memory.clock.advance(0)
    assert results(transport.taken()) == ["Hello, Anna!"]
    assert memory.server._heavy_turns == 1


def test_zlib_bomb():
    """What is longer once unpacked than a frame may be is refused; what fits is answered."""
    memory = InMemory(max_frame=100_000)

    def packed(payload: bytes) -> bytes:
        info = header.put_varint(0) + header.put_varint(1) + header.put_varint(1) + b"\0"
        return header.MAGIC + bytes(6) + struct.pack("!H", 1) + info + zlib.compress(payload)

    (got,) = memory.ask(packed(hello()))
    assert results([header.unwrap(got, 1000)[1]]) == ["Hello, Anna!"]
    connection, transport = memory.connect()
    connection.dataReceived(framed(packed(bytes(1_000_000))))
    memory.workers.work()
    assert transport.disconnecting
    assert transport.value() == b""


def test_drain(now):
    """In a drain, what arrives within the grace is answered; what arrives later is told to go elsewhere."""
    memory = InMemory()
    idle, idle_transport = memory.connect()
    busy, transport = memory.connect()
    busy.dataReceived(framed(hello()))
    drained = Deferred.fromCoroutine(memory.server.drain())
    idle.dataReceived(framed(hello("late")))
    memory.workers.work()
    assert results(idle_transport.taken()) == ["Hello, late!"]
    assert results(transport.taken()) == ["Hello, Anna!"]
    busy.dataReceived(framed(message(lambda client: client.send_wait("x"))))
    now.seconds += 0.6
    memory.clock.advance(0.2)
    assert idle_transport.disconnecting
    assert not transport.disconnecting
    busy.dataReceived(framed(hello()))
    memory.handler.waiting[0].callback("done")
    memory.clock.advance(0)
    first, second = transport.taken()
    assert read_result(first, "wait") == "done"
    assert error_of(second).type == errors.DRAINING
    now.seconds += 0.1
    memory.clock.advance(0.2)
    assert transport.disconnecting
    for each in (idle, busy):
        each.connectionLost(None)
    assert drained.called


def test_oneway_is_drained(now):
    """A oneway call that runs holds the drain."""
    memory = InMemory()
    connection, transport = memory.connect()
    connection.dataReceived(framed(message(lambda client: client.send_note("x"))))
    Deferred.fromCoroutine(memory.server.drain())
    now.seconds += 5
    memory.clock.advance(0.2)
    assert not transport.disconnecting
    memory.workers.work()
    assert memory.handler.notes == ["x"]
    memory.clock.advance(0.2)
    assert transport.disconnecting


def test_lost_during_a_job():
    """An answer whose client is gone goes nowhere, and nothing stays held."""
    memory = InMemory()
    connection, _ = memory.connect()
    connection.dataReceived(framed(hello()) * 2)
    connection.connectionLost(None)
    memory.workers.work()
    assert memory.server.connections == {}
    assert memory.server.held == 0


def test_caps():
    """What the tests above lean on."""
    assert (JOB_CALLS, WAITING_CALLS) == (32, 64)
    assert payloads(b"") == []
