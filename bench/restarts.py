"""Restart and hand over a real service under load, and count the requests that were lost: there must be none.

    make restarts
    python -m bench.restarts --pex dist/hello-service.pex

The supervisor is this program: it holds a TCP and a UNIX socket, gives both to the service as inherited
descriptors, and restarts it as systemd does: TERM, wait for the end, start.
Handovers are between processes with sockets of their own (`--service.handover`).
Clients (`bench.clients`) ask all the time: over TCP and UNIX by HTTP/1.1 and HTTP/2, and over TLS by HTTP/2;
each of them on connections that are kept, and on new ones.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from .clients import PATIENCE, Clients, H2Clients, h2_over_tls

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    Opening = Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]


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


def clients(what: str, port: int, path: str, tls_port: int) -> dict[str, Clients]:
    """Begin to ask, and return who does."""

    def tcp() -> Opening:
        return asyncio.open_connection("127.0.0.1", port)

    def unix() -> Opening:
        return asyncio.open_unix_connection(path)

    def tls() -> Opening:
        return asyncio.open_connection("127.0.0.1", tls_port, ssl=h2_over_tls())

    return {
        f"{what} tcp": Clients(tcp),
        f"{what} unix": Clients(unix),
        f"{what} tcp, h2": H2Clients(tcp),
        f"{what} unix, h2": H2Clients(unix),
        f"{what} tls, h2": H2Clients(tls),
    }


async def restarts(command: Sequence[str], times: int, seconds: float, folder: Path) -> dict[str, Clients]:
    """Restart behind inherited sockets, evenly over some seconds."""
    tcp, tls = (socket.create_server(("127.0.0.1", 0), backlog=1024) for _ in range(2))
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(f"{folder}/inherited.sock")
    unix.listen(1024)
    fds = (tcp.fileno(), unix.fileno(), tls.fileno())
    flags = f"--web.listen=fd:{fds[0]} fd:{fds[1]} tls-over:cert={_certificate(folder)}:fd:{fds[2]}"
    service = await Service.start(command, flags, pass_fds=fds)
    load: dict[str, Clients] = {}
    try:
        load = clients("inherited", tcp.getsockname()[1], f"{folder}/inherited.sock", tls.getsockname()[1])
        for number in range(times):
            due = time.monotonic() + seconds / times
            if not await service.started():
                raise RuntimeError("not started:\n" + "\n".join(service.events))
            await asyncio.sleep(max(0.2, due - time.monotonic() - 1))
            await service.stop()
            service = await Service.start(command, flags, pass_fds=fds)
            _progress("restart", number + 1, times, load)
        await service.started()
        await asyncio.sleep(0.2)
        await asyncio.gather(*(each.stop() for each in load.values()))
        await service.stop()
    finally:
        service.kill()
        for listening in (tcp, tls, unix):
            listening.close()
    return load


async def handovers(command: Sequence[str], times: int, seconds: float, folder: Path) -> dict[str, Clients]:
    """Hand over from process to process, evenly over some seconds; after each, one that fails to start."""
    # Bound for as long as they are needed, though not to listen, so that nobody else is given these ports.
    held = [socket.socket() for _ in range(2)]
    for each in held:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        each.bind(("127.0.0.1", 0))
    port, tls_port = (each.getsockname()[1] for each in held)
    path = f"{folder}/own.sock"
    tls = f"ssl:{tls_port}:privateKey={_certificate(folder)}:interface=127.0.0.1"
    flags = (
        f"--web.listen=tcp:{port}:interface=127.0.0.1 unix:{path} {tls}",
        f"--service.handover={folder}/handover.sock",
    )
    services = [await Service.start(command, *flags)]
    load: dict[str, Clients] = {}
    try:
        if not await services[0].started():
            raise RuntimeError("not started:\n" + "\n".join(services[0].events))
        load = clients("handed over", port, path, tls_port)
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
        await asyncio.gather(*(each.stop() for each in load.values()))
        await services[-1].stop()
    finally:
        for service in services:
            service.kill()
        for each in held:
            each.close()
    return load


def _certificate(folder: Path) -> Path:
    """Make a certificate, and return the file that it is in with its key."""
    path = folder / "site.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=30))
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    path.write_bytes(
        certificate.public_bytes(pem) + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    )
    return path


def _progress(what: str, number: int, times: int, load: dict[str, Clients]) -> None:
    counts = [count for each in load.values() for count in (each.kept, each.fresh)]
    requests, lost = sum(count.requests for count in counts), sum(len(count.lost) for count in counts)
    if sys.stdout.isatty():
        print(f"\r{what} {number}/{times}: {requests} requests, {lost} lost ", end="", flush=True)


def report(load: dict[str, Clients]) -> list[str]:
    """Say what each kind of client met with, and return what was lost."""
    lost: list[str] = []
    print(f"\n{'clients':28}{'requests':>10}{'again':>7}{'lost':>6}{'slowest':>10}")
    for name, each in load.items():
        for kind, count in (("kept", each.kept), ("new", each.fresh)):
            figures = f"{count.requests:10}{count.again:7}{len(count.lost):6}{count.slowest:9.2f}s"
            print(f"{name + ', ' + kind:28}{figures}")
            lost += [f"{name}, {kind}: {text}" for text in count.lost]
    return lost


async def run(command: Sequence[str], *, restart: int, handover: int, seconds: float) -> dict[str, Clients]:
    """Do all of it: most of the time for the restarts, the rest for the handovers."""
    share = restart / (restart + handover)
    with tempfile.TemporaryDirectory() as folder:
        load = await restarts(command, restart, seconds * share, Path(folder))
        return load | await handovers(command, handover, seconds * (1 - share), Path(folder))


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
