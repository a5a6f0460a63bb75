"""Frames, headers and logins of RPC bent at random: nothing raises, hangs, holds memory, or harms others.

What shows a behaviour that was not seen before joins the inputs that are bent next.

    python halfsync/tests/fuzz_rpc.py 60          fuzz for so many seconds, from a new seed
"""

from __future__ import annotations

import logging
import random
import struct
import sys
import time
import zlib
from typing import Any

import structlog
from twisted.internet.defer import Deferred

from halfsync.client.errors import CallError
from halfsync.thrift import header, sasl
from halfsync.thrift import message as messages
from halfsync.thrift.client.connection import ClientConnection
from halfsync.thrift.login import Logins
from halfsync.thrift.mechanisms import ALL
from halfsync.thrift.users import Keys
from rpc_tools import InMemory, Transport, framed, hello, message, read_result

MAX_FRAME = 4096
MEMORY = 64 * 1024
SLOW = 10.0
"""Seconds for one input, on a machine that does much else: more is a hang."""


def packed(payload: bytes) -> bytes:
    info = header.put_varint(0) + header.put_varint(1) + header.put_varint(1) + b"\0"
    return header.MAGIC + bytes(6) + struct.pack("!H", 1) + info + zlib.compress(payload)


def wrapped(payload: bytes, protocol: int = 0, **headers: str) -> bytes:
    return header.wrap(payload, sequence=b"abcd", protocol=protocol, headers=headers)[4:]


CALLS = [
    hello(),
    hello(compact=True),
    hello(""),
    message(lambda each: each.send_echo(b"\xff" * 20)),
    message(lambda each: each.send_sums([[1, 2], [3]])),
    message(lambda each: each.send_sums([[1, 2], [3]]), compact=True),
    message(lambda each: each.send_lengths({"a", "b"})),
    message(lambda each: each.send_note("x")),
    message(lambda each: each.send_later("x")),
    wrapped(hello(), client_timeout="1000", x_request_id="r-1"),
    wrapped(hello(compact=True), 2, traceparent="00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"),
    packed(hello()),
    packed(bytes(100_000)),
    b"\x80\x01\x00\x01\0\0\0\x0cSample:hello\0\0\0\1\0",
]

SPICES = [
    b"\0",
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0",
    b"\x80\x01\0\1",
    b"\x82\x21",
    header.MAGIC,
    b"\x0b\0\1",
    b"\x0f\0\1\x0c",
    b"\x0c" * 30,
    b"\x1b" * 30,
    b"\xff\xff\xff\xff\x0f",
    b"\xc3\x28",
    b"n,,n=anna,r=abc",
    b"c=biws,r=",
    b",m=x",
    b"y,,",
    b"p=tls-server-end-point,,",
]

LOGINS = [
    [(sasl.START, b"SCRAM-SHA-256"), (sasl.OK, b"n,,n=anna,r=fyko+d2lbbFgONRv9qkxdawL")],
    [(sasl.START, b"SCRAM-SHA-256"), (sasl.OK, b"y,,n=anna,r=fyko"), (sasl.OK, b"c=eSws,r=fyko,p=AAAA")],
    [(sasl.START, b"SCRAM-SHA-256-PLUS"), (sasl.OK, b"p=tls-server-end-point,,n=anna,r=x")],
    [(sasl.START, b"PLAIN"), (sasl.OK, b"\0anna\0pencil")],
    [(sasl.OK, b""), (sasl.COMPLETE, b"x"), (sasl.BAD, b"")],
]

ANSWERS = [
    b"\x80\x01\0\2\0\0\0\5hello\0\0\0\1\x0b\0\0\0\0\0\2ok\0",
    b"\x80\x01\0\3\0\0\0\5hello\0\0\0\1\x0b\0\1\0\0\0\2no\x08\0\2\0\0\0\x0b\0",
    b"\x82\x41\1\5hello\x18\2ok\0",
    wrapped(b"\x80\x01\0\2\0\0\0\5hello\0\0\0\1\x0b\0\0\0\0\0\2ok\0"),
]


class Quick:
    """Users whose keys cost nothing to make."""

    made = Keys(b"salt" * 4, bytes(32), bytes(32), 4096)

    def keys(self, name: str) -> Keys:
        return self.made


class Fuzzer:
    """Inputs, and what they showed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.seen: set[Any] = set()
        self.frames = [framed(each) for each in CALLS]
        self.logins = [b"".join(sasl.pack(*each) for each in login) for login in LOGINS]
        self.answers = [framed(each) for each in ANSWERS]

    def once(self) -> None:
        """Bend one input of each kind and check what comes of it."""
        for corpus, check in (
            (self.frames, self.check_frames),
            (self.logins, self.check_login),
            (self.answers, self.check_answer),
        ):
            data = self.bent(corpus)
            begun = time.monotonic()
            try:
                found = (check.__name__, check(data))
            except Exception as error:
                error.add_note(f"{check.__name__}: {data!r}")
                raise
            assert time.monotonic() - begun < SLOW, ("hang", check.__name__, data)
            if found not in self.seen:
                self.seen.add(found)
                if len(corpus) < 500 and len(data) < 2 * MAX_FRAME:
                    corpus.append(data)

    def bent(self, corpus: list[bytes]) -> bytes:
        """Return one input, or several in a row, with a few faults; lengths are mostly put right again."""
        rng = self.rng
        data = bytearray(b"".join(rng.choice(corpus) for _ in range(rng.choice([1, 1, 2, 5]))))
        for _ in range(rng.choice([0, 1, 1, 2, 4])):
            at = rng.randrange(len(data) + 1)
            match rng.randrange(5):
                case 0:
                    data[at:at] = rng.choice(SPICES)
                case 1:
                    del data[at : at + rng.choice([1, 1, 2, 4, 9])]
                case 2:
                    data[at : at + 1] = bytes([rng.randrange(256)])
                case 3:
                    start = rng.randrange(len(data) + 1)
                    data[at:at] = data[start : start + rng.randrange(30)]
                case 4:
                    data[at : at + 4] = struct.pack("!I", rng.choice([0, 1, 4, 5, MAX_FRAME, 1 << 31]))
        if corpus is not self.logins and rng.random() < 0.7 and len(data) > 8:
            data[:4] = struct.pack("!I", len(data) - 4)
        return bytes(data)

    def feed(self, protocol: Any, data: bytes) -> None:
        """Give bytes to a protocol in pieces."""
        at = 0
        while at < len(data):
            step = self.rng.choice([1, 3, 17, 200, len(data)])
            protocol.dataReceived(data[at : at + step])
            at += step

    def check_frames(self, data: bytes) -> Any:
        """Our server takes calls that are bent, and answers those of another client meanwhile."""
        memory = InMemory(max_frame=MAX_FRAME, memory=MEMORY)
        connection, transport = memory.connect()
        self.feed(connection, data)
        assert 0 <= memory.server.held <= MEMORY
        other, other_transport = memory.connect()
        other.dataReceived(framed(hello("other")))
        while memory.workers.work():
            memory.clock.advance(0)
        (answer,) = other_transport.taken()
        assert read_result(answer, "hello") == "Hello, other!"
        for each in transport.taken():
            messages.read(each, 1 << 20)
        connection.connectionLost(None)
        other.connectionLost(None)
        assert memory.server.held == 0, memory.server.held
        return (
            tuple(sorted(memory.server.counts.calls)),
            tuple(memory.server.counts.refused),
            transport.disconnecting,
        )

    def check_login(self, data: bytes) -> Any:
        """A login that is bent lets nobody in; what comes after it is not run."""
        memory = InMemory(max_frame=MAX_FRAME, memory=MEMORY)
        logins = Logins(ALL, Quick(), memory.workers, longest=MAX_FRAME, reactor=memory.clock)
        memory.server.logins = logins
        connection, transport = memory.connect()
        self.feed(connection, data + framed(message(lambda each: each.send_note("in"))))
        while memory.workers.work():
            memory.clock.advance(10)
        memory.clock.advance(10)
        assert memory.server.counts.logins == 0
        assert memory.handler.notes == []
        sent = sasl.SaslReader(1 << 20)
        sent.feed(transport.value())
        said = []
        while (each := sent.next()) is not None:
            said.append(each[0])
        connection.connectionLost(None)
        assert (memory.server.held, logins.open) == (0, {})
        return tuple(said), tuple(memory.server.counts.refused), transport.disconnecting

    def check_answer(self, data: bytes) -> Any:
        """Our client takes answers that are bent: its call ends in one way, or still waits."""
        ended: list[Any] = []
        memory = InMemory()
        client = ClientConnection(
            "peer", tls=False, credentials=None, max_answer=MAX_FRAME, reactor=memory.clock, gone=ended.append
        )
        transport = Transport()
        client.makeConnection(transport)
        asked = Deferred.fromCoroutine(client.ask(messages.CALL, lambda _: framed(hello())))
        result: list[Any] = []
        asked.addBoth(result.append)
        self.feed(client, data)
        if result and not isinstance(result[0], messages.Message):
            result[0].trap(CallError)
        if transport.aborted:
            assert result
            assert ended == [client]
        shown = type(getattr(result[0], "value", result[0])).__name__ if result else "waits"
        client.abort()
        assert len(result) == 1
        return shown, transport.aborted


def _drop(*_: object) -> Any:
    raise structlog.DropEvent


def fuzz(seconds: float, seed: int | None = None, rounds: int | None = None) -> int:
    """Fuzz until the time is over, or so many rounds are done; return how many they were."""
    structlog.configure(processors=[_drop], cache_logger_on_first_use=False)
    logging.disable(logging.CRITICAL)
    try:
        seed = random.randrange(1 << 32) if seed is None else seed
        sys.stdout.write(f"seed {seed}\n")
        fuzzer = Fuzzer(seed)
        end = time.monotonic() + seconds
        count = 0
        while time.monotonic() < end and count != rounds:
            fuzzer.once()
            count += 1
        sys.stdout.write(f"{len(fuzzer.seen)} behaviours\n")
        return count
    finally:
        logging.disable(logging.NOTSET)
        structlog.reset_defaults()


if __name__ == "__main__":
    sys.stdout.write(f"{fuzz(float(sys.argv[1]))} rounds of RPC, each of a frame, a login and an answer\n")
