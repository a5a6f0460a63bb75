"""RPC in the house: readiness, metrics, requests, connections; drain, handover; `haproxy:`, UNIX, `fd:N`."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from contextlib import ExitStack
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from children import reserved_port, until
from halfsync.life.sockets import Sockets
from halfsync.thrift import RpcListener, Service, sasl
from halfsync.thrift.client.credentials import Credentials
from halfsync.thrift.server import GRACE
from halfsync.thrift.users import Keys, Users
from halfsync.workers.pool import WorkerPool
from rpc_tools import (
    SERVE,
    Handler,
    client,
    connect,
    framed,
    message,
    payloads,
    read_result,
    read_sasl,
    serving,
)
from sample_rpc import Sample


def answer(sock: socket.socket, method: str) -> Any:
    """Call a method without arguments on an open socket."""
    sock.sendall(framed(message(lambda each: getattr(each, f"send_{method}")())))
    data = b""
    while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
        piece = sock.recv(65536)
        assert piece, "the connection ended"
        data += piece
    return read_result(payloads(data)[0], method)


def log_in(sock: socket.socket) -> None:
    """Log in as anna."""
    login = Credentials("anna", "pencil").begin(None)
    sock.sendall(sasl.pack(sasl.START, b"SCRAM-SHA-256") + sasl.pack(sasl.OK, login.first()))
    _, challenge = read_sasl(sock)
    sock.sendall(sasl.pack(sasl.OK, login.next(challenge)))
    status, proof = read_sasl(sock)
    assert status == sasl.COMPLETE
    login.finish(proof)


def test_behind_the_proxy_protocol(tmp_path):
    """With `haproxy:` the client is who the proxy says, in log and handler; without the line it is cut."""
    path = str(tmp_path / "users")
    Users(path).add("anna", Keys.of("pencil"))
    listen = "haproxy:tcp:0:interface=127.0.0.1"
    with serving("--rpc.sasl=SCRAM-SHA-256", f"--rpc.users={path}", listen=listen) as service:
        with connect(service.address) as sock:
            sock.sendall(b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 9091\r\n")
            log_in(sock)
            assert service.wait_for("rpc.login")["peer"] == "192.0.2.7:4711"
            assert answer(sock, "whoami") == "anna"
        assert service.wait_for("rpc.call")["peer"] == "192.0.2.7:4711"
        with connect(service.address) as sock:
            sock.sendall(sasl.pack(sasl.START, b"SCRAM-SHA-256") + b"x" * 200)
            assert ended(sock)


def ended(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_socket_that_is_handed_in():
    """`fd:N` serves on a listening socket of whoever started the process."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        number = listening.fileno()
        with serving(listen=f"fd:{number}", pass_fds=(number,)), client(("127.0.0.1", port)) as caller:
            assert caller.hello("x") == "Hello, x!"


def test_handover(tmp_path):
    """A new process takes the socket over; every call meanwhile is answered, by one or the other."""
    flags = (f"--service.handover={tmp_path}/handover.sock",)
    failed: list[BaseException] = []
    done = threading.Event()
    calls = 0

    def work() -> None:
        nonlocal calls
        while not done.is_set():
            try:
                with client(("127.0.0.1", port)) as caller:
                    assert caller.hello("x") == "Hello, x!"
                    calls += 1
            except BaseException as error:
                failed.append(error)
                raise

    with ExitStack() as stack:
        port = stack.enter_context(reserved_port())
        listen = f"tcp:{port}:interface=127.0.0.1"
        old = stack.enter_context(serving(*flags, listen=listen))
        old.wait_for("service.started")
        thread = threading.Thread(target=work)
        thread.start()
        try:
            until(lambda: calls > 5 or failed)
            new = stack.enter_context(serving(*flags, listen=listen))
            new.wait_for("service.started")
            code, _, _ = old.end()
            before = calls
            until(lambda: calls > before + 5 or failed)
        finally:
            done.set()
            thread.join()
        assert (code, failed) == (0, [])
        new.signal(signal.SIGTERM)
        assert new.end()[0] == 0


def test_a_drain_has_a_deadline():
    """A handler that does not end does not keep the process: it is forced to stop."""
    code = SERVE.replace("def parts(process):", "import time\ndef parts(process):").replace(
        "Handler()", "type('Stuck', (Handler,), {'ping': lambda self: time.sleep(600)})()"
    )
    with serving("--service.drain_timeout=1", code=code) as service, connect(service.address) as sock:
        sock.sendall(framed(message(lambda each: each.send_ping())))
        with client(service.address) as other:
            other.hello("x")
        service.signal(signal.SIGTERM)
        code, _, _ = service.end()
    assert code == 3


class ListenerTest(TestCase):
    """A listener in this process, with a handler that waits for the test."""

    timeout = 60

    async def listener(self, handler: Any, endpoint: str = "tcp:0:interface=127.0.0.1") -> RpcListener:
        workers = WorkerPool("rpc-workers", threads=2, queue=5, reactor=reactor)
        listener = RpcListener(Service(Sample, handler), workers, endpoints=[endpoint], reactor=reactor)
        await listener.bind(Sockets())
        await listener.start()
        await listener.ready()

        async def stop() -> None:
            await listener.stop()
            await workers.stop()

        self.addCleanup(stop)
        return listener

    async def test_a_call_that_came_in_the_grace_of_a_drain_is_answered(self):
        """Though the process was held up until that was over."""
        listener = await self.listener(Handler())
        (address,) = listener.addresses()
        port = int(address.split(" ")[0].rpartition(":")[2])
        sock = await deferToThread(connect, ("127.0.0.1", port))
        self.addCleanup(sock.close)
        await deferToThread(answer, sock, "whoami")
        drained = Deferred.fromCoroutine(listener.drain())

        def hold() -> None:
            sock.sendall(framed(message(lambda each: each.send_whoami())))
            time.sleep(GRACE + 0.5)

        reactor.callFromThread(hold)
        assert await deferToThread(sock.recv, 1) == b"\0", "a frame"
        await drained

    async def test_what_it_says_of_itself(self):
        """A call that runs is among the requests, with its thread; connection and figures are there."""
        begun: Deferred[None] = Deferred()
        go = threading.Event()
        self.addCleanup(go.set)

        class Waits(Handler):
            def whoami(self):
                reactor.callFromThread(begun.callback, None)
                go.wait(30)
                return "me"

        listener = await self.listener(Waits())
        (address,) = listener.addresses()
        port = int(address.split(" ")[0].rpartition(":")[2])
        assert listener.problems() == []
        assert (listener.requests(), listener.connections()) == ([], [])
        sock = await deferToThread(connect, ("127.0.0.1", port))
        self.addCleanup(sock.close)
        asked = deferToThread(answer, sock, "whoami")
        await begun
        (request,) = listener.requests()
        assert (request.part, request.method, request.path) == ("rpc", "call", "Sample.whoami")
        assert request.thread
        assert request.thread.startswith("rpc-workers")
        assert request.request_id
        (connection,) = listener.connections()
        assert (connection.at, connection.asked) == ("Sample.whoami", 1)
        assert connection.peer == request.peer == f"127.0.0.1:{sock.getsockname()[1]}"
        go.set()
        assert await asked == "me"
        assert listener.requests() == []
        told = {each.name: each for each in listener.metrics()}
        (calls,) = told["rpc_calls"].samples
        assert (calls.value, calls.labels) == (
            1,
            {"listener": "rpc", "method": "Sample.whoami", "outcome": "ok"},
        )
        assert [each.value for each in told["rpc_connections"].samples] == [1]
        assert [each.value for each in told["rpc_memory_bytes"].samples] == [0]
        assert sum(told["rpc_call_seconds"].samples[0].counts) == 1

    async def test_it_is_ready_while_it_listens(self):
        """Readiness is lost with the socket, and the reason told."""
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        path = f"{folder}/rpc.sock"
        listener = await self.listener(Handler(), f"unix:{path}:mode=600")
        assert listener.problems() == []
        os.unlink(path)  # noqa: PTH108
        assert listener.problems() == [f"unix:{path}: the socket {path} was removed or replaced"]
