"""Restart and hand over a real service under load, and count the requests that were lost: there must be none.

    make restarts
    python -m bench.restarts --pex dist/hello-service.pex

The supervisor is this program: it holds a TCP and a UNIX socket, gives both to the service as inherited
descriptors, and restarts it as systemd does: TERM, wait for the end, start.
Handovers are between processes with sockets of their own (`--service.handover`).
Clients of four kinds ask all the time: over TCP and UNIX, on kept connections and on a new one each.
A client retries nothing: what was sent on an open connection and not answered by a whole 200 is lost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]

PATIENCE = 20.0
"""Seconds after which a request without an answer is lost, and a service that does not do as told failed."""

CLIENTS = 6
"""Of each kind."""


@dataclass
class Count:
    """What the clients met with."""

    requests: int = 0
    slowest: float = 0.0
    lost: list[str] = field(default_factory=list)


class Clients:
    """Load on one listener, until it is stopped."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._stopping = False
        self.kept = Count()
        self.fresh = Count()
        self._tasks = [asyncio.create_task(self._keep()) for _ in range(CLIENTS)]
        self._tasks += [asyncio.create_task(self._renew()) for _ in range(CLIENTS)]

    async def stop(self) -> None:
        """Let every client finish its request."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def _keep(self) -> None:
        """Ask on one connection until the server closes it, as it may after an answer or in between."""
        while not self._stopping:
            with suppress(OSError):
                await self._on_connection(self.kept, close=False)

    async def _renew(self) -> None:
        while not self._stopping:
            with suppress(OSError):
                await self._on_connection(self.fresh, close=True)

    async def _on_connection(self, count: Count, *, close: bool) -> None:
        try:
            reader, writer = await asyncio.wait_for(self._connect(), PATIENCE)
        except (OSError, TimeoutError) as error:
            count.lost.append(f"connect: {error!r}")
            raise OSError from error
        try:
            while not self._stopping:
                # Shorter than the grace that a drain gives to idle connections: beyond it, closing and asking
                # can cross, and no HTTP/1.1 server can help that.
                await asyncio.sleep(random.uniform(0, 0.1))  # noqa: S311  no secret
                if reader.at_eof():
                    return
                begun = time.monotonic()
                try:
                    last = await asyncio.wait_for(_ask(reader, writer, close=close), PATIENCE)
                except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError) as error:
                    count.lost.append(f"after {time.monotonic() - begun:.3f} s: {error!r}")
                    return
                count.requests += 1
                count.slowest = max(count.slowest, time.monotonic() - begun)
                if last or close:
                    return
        finally:
            writer.close()


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, close: bool) -> bool:
    """Send a request and read the whole answer; return whether it is the connection's last.

    :raises ValueError: when it is not 200.
    """
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n" + (b"Connection: close\r\n" if close else b"") + b"\r\n")
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if not head.startswith(b"http/1.1 200 "):
        raise ValueError(head.split(b"\r\n")[0])
    length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
    await reader.readexactly(length)
    return b"connection: close" in head


class Service:
    """A process of the service, seen through its log."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.events: list[str] = []
        self._started: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, command: Sequence[str], *flags: str, pass_fds: Sequence[int] = ()) -> Service:
        """Start it; `started` tells when it serves."""
        process = await asyncio.create_subprocess_exec(
            *command,
            "--log.format=json",
            "--web.access_log=false",
            "--admin.listen=",
            *flags,
            pass_fds=pass_fds,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        return cls(process)

    async def started(self) -> bool:
        """Wait until it serves, or has ended without."""
        return await asyncio.wait_for(asyncio.shield(self._started), PATIENCE)

    async def ended(self, *, code: int = 0) -> None:
        """Wait for the end, which must have the exit code given."""
        await asyncio.wait_for(asyncio.shield(self._reading), PATIENCE)
        if self.process.returncode != code:
            raise RuntimeError(f"exit code {self.process.returncode}, not {code}:\n" + "\n".join(self.events))

    async def stop(self) -> None:
        """Stop it as a supervisor does."""
        self.process.send_signal(signal.SIGTERM)
        await self.ended()

    def kill(self) -> None:
        """Leave nothing behind, whatever went wrong."""
        if self.process.returncode is None:
            self.process.kill()

    async def _read(self) -> None:
        assert self.process.stdout  # noqa: S101  it is a pipe
        async for line in self.process.stdout:
            self.events.append(line.decode().rstrip())
            with suppress(ValueError):
                if json.loads(line)["event"] == "service.started" and not self._started.done():
                    self._started.set_result(True)
        await self.process.wait()
        if not self._started.done():
            self._started.set_result(False)


async def restarts(command: Sequence[str], times: int, seconds: float, folder: Path) -> list[Clients]:
    """Restart behind inherited sockets, evenly over some seconds."""
    tcp = socket.create_server(("127.0.0.1", 0), backlog=1024)
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(f"{folder}/inherited.sock")
    unix.listen(1024)
    listeners = (tcp.fileno(), unix.fileno())
    flags = "--web.listen=" + " ".join(f"fd:{number}" for number in listeners)
    service = await Service.start(command, flags, pass_fds=listeners)
    load = []
    try:
        port = tcp.getsockname()[1]
        load = [
            Clients(lambda: asyncio.open_connection("127.0.0.1", port)),
            Clients(lambda: asyncio.open_unix_connection(f"{folder}/inherited.sock")),
        ]
        for number in range(times):
            due = time.monotonic() + seconds / times
            if not await service.started():
                raise RuntimeError("not started:\n" + "\n".join(service.events))
            await asyncio.sleep(max(0.2, due - time.monotonic() - 1))
            await service.stop()
            service = await Service.start(command, flags, pass_fds=listeners)
            _progress("restart", number + 1, times, load)
        await service.started()
        await asyncio.sleep(0.2)
        await asyncio.gather(*(each.stop() for each in load))
        await service.stop()
    finally:
        service.kill()
        tcp.close()
        unix.close()
    return load


async def handovers(command: Sequence[str], times: int, seconds: float, folder: Path) -> list[Clients]:
    """Hand over from process to process, evenly over some seconds; after each, one that fails to start."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    path = f"{folder}/own.sock"
    flags = (
        f"--web.listen=tcp:{port}:interface=127.0.0.1 unix:{path}",
        f"--service.handover={folder}/handover.sock",
    )
    services = [await Service.start(command, *flags)]
    load = []
    try:
        if not await services[0].started():
            raise RuntimeError("not started:\n" + "\n".join(services[0].events))
        load = [
            Clients(lambda: asyncio.open_connection("127.0.0.1", port)),
            Clients(lambda: asyncio.open_unix_connection(path)),
        ]
        for number in range(times):
            due = time.monotonic() + seconds / times
            services.append(await Service.start(command, *flags))
            if not await services[-1].started():
                raise RuntimeError("not started:\n" + "\n".join(services[-1].events))
            await services[-2].ended()
            broken = await Service.start(command, *flags, "--manhole.listen=fd:99", "--manhole.open")
            services.insert(-1, broken)
            await broken.ended(code=1)
            await asyncio.sleep(max(0.2, due - time.monotonic()))
            _progress("handover", number + 1, times, load)
        await asyncio.gather(*(each.stop() for each in load))
        await services[-1].stop()
    finally:
        for service in services:
            service.kill()
    return load


def _progress(what: str, number: int, times: int, load: Sequence[Clients]) -> None:
    counts = [count for each in load for count in (each.kept, each.fresh)]
    requests, lost = sum(count.requests for count in counts), sum(len(count.lost) for count in counts)
    if sys.stdout.isatty():
        print(f"\r{what} {number}/{times}: {requests} requests, {lost} lost ", end="", flush=True)


def report(load: Sequence[Clients]) -> list[str]:
    """Say what each kind of client met with, and return what was lost."""
    lost: list[str] = []
    print(f"\n{'clients':28}{'requests':>10}{'lost':>6}{'slowest':>10}")
    names = ("inherited tcp", "inherited unix", "handed over tcp", "handed over unix")
    for name, each in zip(names, load, strict=True):
        for kind, count in (("kept", each.kept), ("new", each.fresh)):
            print(f"{name + ', ' + kind:28}{count.requests:10}{len(count.lost):6}{count.slowest:9.2f}s")
            lost += [f"{name}, {kind}: {text}" for text in count.lost]
    return lost


async def run(command: Sequence[str], *, restart: int, handover: int, seconds: float) -> list[Clients]:
    """Do all of it: most of the time for the restarts, the rest for the handovers."""
    share = restart / (restart + handover)
    with tempfile.TemporaryDirectory() as folder:
        load = await restarts(command, restart, seconds * share, Path(folder))
        return load + await handovers(command, handover, seconds * (1 - share), Path(folder))


def _build(folder: str) -> str:
    """Generate the default service, and build its pex."""
    print("generating a service and building its pex ...")
    root = Path(__file__).parent.parent
    cookiecutter = [sys.executable, "-m", "cookiecutter", "--no-input", "--default-config"]
    subprocess.run([*cookiecutter, "-o", folder, str(root)], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["make", "-C", f"{folder}/hello-service", "pex"], check=True, stdout=subprocess.DEVNULL)
    return f"{folder}/hello-service/dist/hello-service.pex"


def main() -> int:
    """Run it, and say how it went; 1 when a request was lost."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pex", help="the service's pex; else one is generated and built")
    parser.add_argument("--restarts", type=int, default=20)
    parser.add_argument("--handovers", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=75.0, help="how long it takes at least (75)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pex = options.pex or _build(folder)
        begun = time.monotonic()
        times = {"restart": options.restarts, "handover": options.handovers}
        load = asyncio.run(run([pex], **times, seconds=options.seconds))
    lost = report(load)
    print(f"{options.restarts} restarts, {options.handovers} handovers, {time.monotonic() - begun:.0f} s")
    for line in lost[:20]:
        print(line)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
