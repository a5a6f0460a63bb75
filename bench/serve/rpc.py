"""One server of the RPC bench: `rpc.py NAME PORT USERS`. The same method, 16 threads, accelerated binary."""

# ruff: noqa: PLC0415  each server imports what it needs, and nothing else

from __future__ import annotations

import resource
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from halfsync import Process

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "halfsync" / "src"), str(ROOT / "halfsync" / "tests")]

THREADS = 16

name, port, users = sys.argv[1], int(sys.argv[2]), sys.argv[3]
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Handler:
    """Answers `hello`; the other methods are there, and nobody calls them."""

    def hello(self, name: str) -> str:
        """Greet."""
        return f"Hello, {name}!"

    def __getattr__(self, method: str) -> Any:
        return lambda *_: None


class AsyncHandler:
    """The same in the reactor."""

    async def hello(self, name: str) -> str:
        """Greet."""
        return f"Hello, {name}!"

    def __getattr__(self, method: str) -> Any:
        return lambda *_: None


def ours() -> None:
    """Serve with this library."""
    from halfsync import About, run
    from halfsync.thrift import RpcListener, Service, workers_from_flags
    from sample_rpc import Sample

    handler = AsyncHandler() if name == "ours-async" else Handler()

    def parts(process: Process) -> None:
        workers = process.add(workers_from_flags(process.reactor))
        process.add(RpcListener.from_flags(Service(Sample, handler), workers, process.reactor))

    argv = [f"--rpc.listen=tcp:{port}:interface=127.0.0.1", "--rpc.access_log=false", "--rpc.queue=1024"]
    argv += ["--log.level=error", "--rpc.max_connections=20000"]
    if users:
        argv += ["--rpc.sasl=SCRAM-SHA-256", f"--rpc.users={users}"]
    sys.exit(run(About("bench"), parts, argv=argv))


def apache() -> None:
    """Serve with one of the servers of Apache's library."""
    from thrift.protocol.TBinaryProtocol import TBinaryProtocolAcceleratedFactory
    from thrift.server import TNonblockingServer, TServer
    from thrift.transport import TSocket, TTransport

    from sample_rpc import Sample

    socket = TSocket.TServerSocket("127.0.0.1", port)
    processor = Sample.Processor(Handler())
    protocol = TBinaryProtocolAcceleratedFactory(fallback=False)
    if name == "TNonblockingServer":
        server = TNonblockingServer.TNonblockingServer(processor, socket, protocol, protocol, THREADS)
    else:
        framed = TTransport.TFramedTransportFactory()
        server = getattr(TServer, name)(processor, socket, framed, protocol, daemon=True)
        if name == "TThreadPoolServer":
            server.setNumThreads(THREADS)
    server.serve()


def thriftpy2() -> None:
    """Serve with thriftpy2's server, a thread for each connection."""
    sys.path.insert(0, str(ROOT / ".cache" / "bench" / "thriftpy2"))
    import thriftpy2
    from thriftpy2.protocol import TCyBinaryProtocolFactory
    from thriftpy2.rpc import make_server
    from thriftpy2.transport import TCyFramedTransportFactory

    sample = thriftpy2.load(str(ROOT / "halfsync" / "tests" / "sample.thrift"), module_name="sample_thrift")
    make_server(
        sample.Sample,
        Handler(),
        "127.0.0.1",
        port,
        proto_factory=TCyBinaryProtocolFactory(),
        trans_factory=TCyFramedTransportFactory(),
    ).serve()


threading.stack_size(256 * 1024)
{"ours": ours, "ours-async": ours, "thriftpy2": thriftpy2}.get(name, apache)()
