"""The table of docs/rpc.md: each threat has a test that exists; here are those that have no other place."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from halfsync.thrift import errors, sasl
from halfsync.thrift.login import AT_ONCE, LONGEST_DELAY, Failures, Logins
from halfsync.thrift.mechanisms import ALL
from halfsync.thrift.users import Keys
from rpc_tools import InMemory, error_of, framed, hello, message, payloads

TESTS = Path(__file__).parent
DOCUMENT = TESTS.parents[1] / "docs" / "rpc.md"


def rows() -> list[list[str]]:
    section = DOCUMENT.read_text(encoding="utf-8").partition("\n## Hostile input\n")[2]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def test_every_threat_has_a_test_that_exists():
    """A row says what is done by default, and names a test, or a file of tests, that is there."""
    there = {path.name for path in TESTS.glob("test_*.py")}
    for path in TESTS.glob("test_*.py"):
        there |= set(re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8")))
    assert len(rows()) >= 20
    for threat, done, tests in rows():
        assert done, threat
        named = re.findall(r"`(test_\w+(?:\.py)?)`", tests)
        assert named, f"{threat}: no test is named"
        assert set(named) <= there, f"{threat}: there is no {sorted(set(named) - there)}"


@pytest.mark.parametrize(
    "sent",
    [
        b'[1,"hello",1,0,{"1":{"str":"x"}}]',
        b"[" * 100_000,
        b'{"a":' * 10_000,
        b"\x0f\xff\0\0abcd\0\1\1\0\0\0" + b'[1,"hello",1,0,{}]',
    ],
)
def test_json_is_not_spoken(sent):
    """JSON, however deep, and THeader that names JSON, end the connection; nothing is decoded."""
    memory = InMemory()
    connection, transport = memory.connect()
    connection.dataReceived(framed(sent))
    memory.workers.work()
    assert transport.disconnecting
    assert transport.value() == b""
    assert memory.server.counts.calls == {}


def test_a_name_that_is_too_long_or_has_a_strange_prefix():
    """Names are bounded; a prefix of another service is an unknown method, and no key of a metric."""
    memory = InMemory()

    def named(name: bytes) -> bytes:
        return b"\x80\x01\0\1" + struct.pack("!I", len(name)) + name + b"\0\0\0\1\0"

    answers = memory.ask(
        *[named(each) for each in (b"Other:hello", b"Sample:Sample:hello", b":hello", b"x" * 256)]
    )
    assert [error_of(each).type for each in answers] == [errors.UNKNOWN_METHOD] * 4
    assert memory.server.counts.calls == {("other", "unknown_method"): 4}
    connection, transport = memory.connect()
    connection.dataReceived(framed(named(b"x" * 257)))
    memory.workers.work()
    assert transport.disconnecting


def test_half_open_peers_end():
    """A client that is gone without a word is found by the kernel: keep-alive is on."""
    memory = InMemory()
    connection = memory.server.buildProtocol(None)
    seen = []

    class Tcp(type(memory.connect()[1])):
        def setTcpKeepAlive(self, on):
            seen.append(on)

    connection.makeConnection(Tcp())
    assert seen == [1]


class Quick:
    """Users whose keys cost nothing."""

    def keys(self, name: str) -> Keys:
        return Keys(b"salt" * 4, bytes(32), bytes(32), 4096)


def guarded() -> tuple[InMemory, Logins]:
    memory = InMemory()
    logins = Logins(ALL, Quick(), memory.workers, longest=64 * 1024, reactor=memory.clock)
    memory.server.logins = logins
    return memory, logins


WRONG = sasl.pack(sasl.START, b"PLAIN") + sasl.pack(sasl.OK, b"\0anna\0wrong")


def test_login_attempts_are_slowed():
    """Each failure of an address is answered later than the one before, up to a bound."""
    memory, logins = guarded()
    for delay in (0.25, 0.5, 1.0, 2.0, 4.0, 4.0):
        connection, transport = memory.connect()
        connection.dataReceived(WRONG)
        memory.workers.work()
        memory.clock.advance(delay - 0.01)
        assert transport.value() == b""
        memory.clock.advance(0.02)
        assert transport.value() == sasl.pack(sasl.BAD, b"login refused")
        connection.connectionLost(None)
    assert logins.refused == 6
    failures = Failures()
    assert max(failures.add("192.0.2.1") for _ in range(50)) == LONGEST_DELAY


def test_login_attempts_are_bounded():
    """From an address that has failed five times, a few at a time; others are not kept waiting."""
    memory, logins = guarded()
    for _ in range(5):
        logins.failures.add("192.168.1.1")
    begun = [memory.connect()[0] for _ in range(AT_ONCE + 3)]
    first = sasl.pack(sasl.START, b"SCRAM-SHA-256") + sasl.pack(sasl.OK, b"n,,n=anna,r=abc")
    for each in begun:
        each.dataReceived(first)
    assert memory.workers.jobs == []
    for each in begun[AT_ONCE:]:
        each.connectionLost(None)
    begun[0].connectionLost(None)
    connection, transport = memory.connect()
    connection.dataReceived(first)
    memory.workers.work()
    (status, _), *_ = [struct.unpack("!BI", transport.value()[:5])]
    assert status == sasl.OK


def test_the_oldest_login_makes_room():
    """Of clients that are not known yet there are so many; one more cuts the one that has taken longest."""
    memory = InMemory(max_logins=2)
    memory.server.logins = Logins(ALL, Quick(), memory.workers, longest=1024, reactor=memory.clock)
    first, second, third = (memory.connect()[1] for _ in range(3))
    assert (first.aborted, second.aborted, third.aborted) == (True, False, False)
    assert memory.server.counts.refused == {"too_many_logins": 1}


def test_a_flood_of_calls_holds_little():
    """A client that sends calls and takes no answers is not read any more; what it holds is bounded."""
    memory = InMemory(max_frame=10_000)
    connection, transport = memory.connect()
    connection.pauseProducing()
    many = framed(message(lambda each: each.send_hello("x" * 1000))) * 50
    for _ in range(100):
        if transport.producerState == "paused":
            break
        connection.dataReceived(many)
    assert transport.producerState == "paused"
    assert connection.held <= 10_000 + len(many)
    connection.connectionLost(None)
    assert memory.server.held == 0
    assert payloads(transport.value()) == []
    assert hello()
