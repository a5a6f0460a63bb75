"""A service of RPC in memory or in a process of its own, and the bytes that clients send."""

from __future__ import annotations

import socket
import struct
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from thrift.protocol.TBinaryProtocol import TBinaryProtocol
from thrift.protocol.TCompactProtocol import TCompactProtocol
from thrift.Thrift import TApplicationException
from thrift.transport.TTransport import TFramedTransport, TMemoryBuffer
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from children import SOURCES, child
from halfsync.thrift.bounds import Bounds
from halfsync.thrift.processor import Done, Processor
from halfsync.thrift.server import RpcServer
from halfsync.thrift.service import Service, lookup
from halfsync.workers.pool import Busy
from sample_rpc import Sample
from sample_rpc.ttypes import InvalidName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CALL, REPLY, EXCEPTION, ONEWAY = 1, 2, 3, 4


class Handler(Sample.Iface):
    """What the tests call."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.result: Any = None
        self.waiting: list[Any] = []
        self.cancelled: list[str] = []

    def ping(self):
        return "pong"

    def hello(self, name):
        if not name:
            raise InvalidName("a name is wanted")
        if name == "boom":
            raise self.result
        return f"Hello, {name}!"

    def echo(self, data):
        return data if self.result is None else self.result

    def count(self, items):
        return len(items)

    def sums(self, numbers):
        return sum(map(sum, numbers))

    def part(self, given):
        return given if self.result is None else self.result

    def lengths(self, words):
        return {word: len(word) for word in words}

    def whoami(self):
        from halfsync.thrift import current_call

        call = current_call()
        return call.identity.name if call.identity else f"nobody {call.request_id}"

    async def later(self, name):
        return f"Later, {name}!"

    def nothing(self):
        return None

    def note(self, text):
        self.notes.append(text)

    async def wait(self, name):
        from twisted.internet.defer import Deferred

        waited: Any = Deferred(lambda _: self.cancelled.append(name))
        self.waiting.append(waited)
        return await waited


def framed(payload: bytes) -> bytes:
    return struct.pack("!I", len(payload)) + payload


def message(write: Callable[[Any], object], *, compact: bool = False) -> bytes:
    """Return the payload that a client of Apache's runtime writes."""
    memory = TMemoryBuffer()
    protocol = (TCompactProtocol if compact else TBinaryProtocol)(memory)
    client = Sample.Client(protocol)
    client._seqid = 7
    write(client)
    return memory.getvalue()


def hello(name: str = "Anna", *, compact: bool = False) -> bytes:
    return message(lambda client: client.send_hello(name), compact=compact)


def read_result(payload: bytes, method: str, *, compact: bool | None = None) -> Any:
    """Read an answer as a client of Apache's runtime does; return or raise what it holds."""
    compact = payload[0] == 0x82 if compact is None else compact
    protocol = (TCompactProtocol if compact else TBinaryProtocol)(TMemoryBuffer(payload))
    client = Sample.Client(protocol)
    return getattr(client, f"recv_{method}")()


def payloads(data: bytes) -> list[bytes]:
    """Take frames apart."""
    found = []
    while data:
        (length,) = struct.unpack("!I", data[:4])
        found.append(data[4 : 4 + length])
        assert len(found[-1]) == length
        data = data[4 + length :]
    return found


def error_of(payload: bytes) -> TApplicationException:
    """Return the exception that an answer holds."""
    try:
        read_result(payload, "hello")
    except TApplicationException as error:
        return error
    raise AssertionError("it is a result")


def make_processor(handler: object, authorize: Any = None, **bounds: Any) -> Processor:
    settings = Bounds(**bounds)
    return Processor(
        lookup([Service(Sample, handler)]),
        longest=settings.max_frame,
        queue_timeout=settings.queue_timeout,
        authorize=authorize,
    )


def answer(
    processor: Processor, payload: bytes, *, identity: Any = None, arrived: float | None = None
) -> bytes:
    """Have a call answered in this thread; return the payload of the answer, empty when there is none."""
    step = processor.begin(payload, identity, "test", monotonic() if arrived is None else arrived)
    if not isinstance(step, Done):
        step = copy_context().run(processor.run, step)
    return step.answer[4:]


class Workers:
    """Threads that there are none of: calls wait until `work` makes them, here."""

    threads = 4

    def __init__(self, places: int = 100) -> None:
        self.places = places
        self.jobs: list[Any] = []

    def submit(self, call: Any, label: Any) -> None:
        if len(self.jobs) >= self.places:
            raise Busy
        self.jobs.append(call)

    def in_reactor(self, function: Any, *args: Any) -> None:
        function(*args)

    def work(self) -> int:
        """Do what waits, and what comes of it; return how many jobs there were."""
        done = 0
        while self.jobs:
            copy_context().run(self.jobs.pop(0))
            done += 1
        return done


class Transport(StringTransport):
    """A transport in memory that can be cut."""

    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True
        self.disconnecting = True

    def taken(self) -> list[bytes]:
        """Return the payloads of the frames that were sent since."""
        data = self.value()
        self.clear()
        return payloads(data)


class InMemory:
    """A server whose threads, clock and transports are the test's."""

    def __init__(
        self, handler: Any = None, *, logins: Any = None, authorize: Any = None, **bounds: Any
    ) -> None:
        self.handler = handler or Handler()
        self.clock = Clock()
        self.workers = Workers()
        self.processor = make_processor(self.handler, authorize, **bounds)
        self.server = RpcServer(
            self.processor,
            self.workers,
            bounds=Bounds(**bounds),
            logins=logins,
            access_log=True,
            reactor=self.clock,
        )

    def connect(self) -> tuple[Any, Transport]:
        connection = self.server.buildProtocol(None)
        transport = Transport()
        connection.makeConnection(transport)
        return connection, transport

    def ask(self, *sent: bytes) -> list[bytes]:
        """Send payloads on a connection of their own, and return the answers."""
        connection, transport = self.connect()
        connection.dataReceived(b"".join(map(framed, sent)))
        self.workers.work()
        return transport.taken()


SERVE = """
from halfsync import flags
from halfsync.thrift import RpcListener, Service, workers_from_flags
from rpc_tools import Handler
from sample_rpc import Sample

def parts(process):
    workers = process.add(workers_from_flags(process.reactor))
    process.add(RpcListener.from_flags(Service(Sample, Handler()), workers, process.reactor))
main(parts)
"""


def environ() -> dict[str, str]:
    """Return what lets a child import the tools of the tests."""
    return {"PYTHONPATH": f"{SOURCES}:{Path(__file__).parent}"}


@contextmanager
def serving(
    *argv: str, code: str = SERVE, listen: str = "tcp:0:interface=127.0.0.1", **how: Any
) -> Iterator[Any]:
    """Serve in a process of its own; `address` is where."""
    with child(code, f"--rpc.listen={listen}", *argv, more_environ=environ(), **how) as process:
        event = process.wait_for("rpc.listening")
        text = event["address"].split(" ")[0]
        kind, _, rest = text.partition(":")
        process.address = rest if kind == "unix" else ("127.0.0.1", int(rest.rpartition(":")[2]))
        yield process


def connect(address: Any) -> socket.socket:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.settimeout(20)
    made.connect(address)
    return made


def read_sasl(sock: socket.socket) -> tuple[int, bytes]:
    """Read a message of a login: its status and its payload."""

    def exactly(size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = sock.recv(size - len(data))
            assert piece, "the connection ended"
            data += piece
        return data

    status, length = struct.unpack("!BI", exactly(5))
    return status, exactly(length)


class Over:
    """A transport of Apache's runtime over a socket that is open."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def isOpen(self) -> bool:
        return True

    is_open = isOpen

    def open(self) -> None:
        pass

    def read(self, size: int) -> bytes:
        return self.sock.recv(size)

    def readAll(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.sock.recv(size - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def write(self, data: bytes) -> None:
        self.sock.sendall(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.sock.close()


@contextmanager
def client(address: Any) -> Iterator[Any]:
    """Give a generated client of Apache's runtime."""
    with connect(address) as sock:
        yield Sample.Client(TBinaryProtocol(TFramedTransport(Over(sock))))
