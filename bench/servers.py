"""What is run beside each other: each server's command, and a process of it that surely ends.

One process that runs Python, 16 threads, loopback, no access log, and as many connections as come.
Where a peer's default would measure something else, the option that mends it stands here with its reason.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import signal
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .environment import CACHE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .environment import Environment

    Command = Callable[[Environment, int], list[str]]

SERVE = Path(__file__).parent / "serve"
THREADS = 16
IDLE = 75
"""Seconds a connection may be idle, where the default is less than a round of `idle` takes."""

OURS = "ours"


@dataclass(frozen=True)
class Server:
    """A server that can be run."""

    name: str
    command: Command
    package: str | None = None
    """Whose version is told; None for ours."""
    tls: bool = False


def _script(name: str, *arguments: object) -> Command:
    def command(environment: Environment, port: int) -> list[str]:
        return [str(environment.python), str(SERVE / name), str(port), *map(str, arguments)]

    return command


def _ours(*flags: str) -> Command:
    def command(environment: Environment, port: int) -> list[str]:
        return [
            str(environment.python),
            str(SERVE / "ours.py"),
            f"--web.listen=tcp:{port}:interface=127.0.0.1",
            "--admin.listen=tcp:0:interface=127.0.0.1",
            f"--web.threads={THREADS}",
            # Idle ones all come from one address.
            "--web.max_connections_per_client=10000",
            *flags,
        ]

    return command


def _ours_tls(environment: Environment, port: int) -> list[str]:
    pem = certificate()
    return [
        *_ours("--web.access_log=false")(environment, port),
        f"--web.listen=ssl:{port}:privateKey={pem}:interface=127.0.0.1",
    ]


def _gunicorn_tls(environment: Environment, port: int) -> list[str]:
    *command, application = _gunicorn(environment, port)
    return [*command, f"--certfile={certificate()}", f"--keyfile={certificate()}", application]


def _granian_tls(environment: Environment, port: int) -> list[str]:
    *command, application = _granian(environment, port)
    return [*command, f"--ssl-certificate={certificate()}", f"--ssl-keyfile={certificate()}", application]


def _hypercorn_tls(environment: Environment, port: int) -> list[str]:
    command = [environment.program("hypercorn"), f"--bind=127.0.0.1:{port}", "--workers=1"]
    # It runs WSGI in threads of asyncio's default executor.
    command += [f"--certfile={certificate()}", f"--keyfile={certificate()}", f"--keep-alive={IDLE}"]
    return [*command, "--backlog=1024", "--log-level=error", "wsgi:app:application"]


def _gunicorn(environment: Environment, port: int) -> list[str]:
    command = [environment.program("gunicorn"), f"--bind=127.0.0.1:{port}", "--worker-class=gthread"]
    command += ["--workers=1", f"--threads={THREADS}", "--no-control-socket", "--log-level=error"]
    # Its own 2 seconds and 1,000 connections would end `idle` before it began.
    return [*command, f"--keep-alive={IDLE}", "--worker-connections=100000", "app:application"]


def _uwsgi(*, router: bool) -> Command:
    # Without its router, a connection holds a thread, and 16 of 32 clients get no answer;
    # with it, one more process, in C, holds the connections.
    def command(environment: Environment, port: int) -> list[str]:
        kind = (
            ["--http", f"--http-keepalive={IDLE}", f"--http-timeout={IDLE}"]
            if router
            else ["--http11-socket"]
        )
        arguments = [environment.program("uwsgi"), f"{kind[0]}=127.0.0.1:{port}", *kind[1:]]
        arguments += [
            "--listen=128",
            "--master",
            "--processes=1",
            f"--threads={THREADS}",
            "--disable-logging",
        ]
        return [*arguments, "--die-on-term", f"--wsgi-file={SERVE / 'app.py'}"]

    return command


def _granian(environment: Environment, port: int) -> list[str]:
    command = [environment.program("granian"), "--interface=wsgi", "--host=127.0.0.1", f"--port={port}"]
    command += ["--workers=1", f"--blocking-threads={THREADS}", "--no-ws", "--log-level=error"]
    # It takes no more connections than its backlog is long, 1,024 by default.
    return [*command, "--backlog=16384", "app:application"]


def _on_one_core(command: Command) -> Command:
    # As one process a core is run: `CPUAffinity=` of systemd, or taskset(1). The other core is the load's.
    def pinned(environment: Environment, port: int) -> list[str]:
        core = str(max(os.sched_getaffinity(0)))
        return ["taskset", "--cpu-list", core, *command(environment, port)]

    return pinned


SERVERS = {
    server.name: server
    for server in (
        Server(OURS, _ours("--web.access_log=false")),
        Server("waitress", _script("waitress_wsgi.py", THREADS), "waitress"),
        Server("gunicorn", _gunicorn, "gunicorn"),
        Server("cheroot", _script("cheroot_wsgi.py", THREADS, IDLE), "cheroot"),
        Server("twisted", _script("twisted_wsgi.py", THREADS), "twisted"),
        Server("uwsgi", _uwsgi(router=True), "uwsgi"),
        Server("granian", _granian, "granian"),
    )
}

VARIANTS = {
    variant.name: variant
    for variant in (
        Server("ours, access log", _ours("--web.access_log=true", "--log.format=json")),
        Server("ours, one core", _on_one_core(_ours("--web.access_log=false"))),
        Server("granian, one core", _on_one_core(_granian), "granian"),
        Server("uwsgi, no router", _uwsgi(router=False), "uwsgi"),
        Server("waitress, poll", _script("waitress_wsgi.py", THREADS, "poll"), "waitress"),
    )
}
"""What only some scenarios run."""

ONE_CORE = ("ours, one core", "granian, one core")
"""Of these: what may run on one processor only. Ours is the first."""


TLS = {
    server.name: server
    for server in (
        Server("ours, tls", _ours_tls, tls=True),
        Server("gunicorn, tls", _gunicorn_tls, "gunicorn", tls=True),
        Server("hypercorn, tls", _hypercorn_tls, "hypercorn", tls=True),
        Server("granian, tls", _granian_tls, "granian", tls=True),
    )
}
"""What the scenarios with TLS run."""


OVERLOADED = {
    server.name: server
    for server in (
        Server(OURS, _ours("--web.access_log=false")),
        *(SERVERS[name] for name in ("gunicorn", "waitress", "granian", "uwsgi")),
    )
}
"""What `overload` runs."""


def ours_overloaded(threads: int) -> Server:
    """Return ours with another number of threads."""
    return Server(f"{OURS}, {threads} threads", _ours("--web.access_log=false", f"--web.threads={threads}"))


class Died(Exception):  # noqa: N818  what a server does
    """A server has ended, or does not answer."""


class Running:
    """A server that runs."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path, *, tls: bool = False) -> None:
        self.process = process
        self.port = port
        self.log = log
        self.tls = trusting() if tls else None

    def url(self, path: str) -> str:
        """Return the URL of a path."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}{path}"

    def wait(self, patience: float = 20.0) -> None:
        """Return when it answers.

        :raises Died: when it does not within so many seconds.
        """
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            with contextlib.suppress(OSError), self.ask("/hello") as connection:
                if connection.recv(64).startswith(b"HTTP/1.1 200"):
                    return
            time.sleep(0.05)
        raise Died(f"it does not answer; its log ends:\n{self.log.read_text(errors='replace')[-1500:]}")

    def ask(self, path: str) -> socket.socket:
        """Return a connection on which a request was sent."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        if self.tls:
            connection = self.tls.wrap_socket(connection)
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
        return connection

    def kill(self) -> None:
        """End it and its children at once: some take their time at SIGTERM, and Twisted's may hang."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def running(server: Server, environment: Environment) -> Iterator[Running]:
    """Run a server, in a process group of its own, until the block ends.

    :raises Died: when it does not start.
    """
    logs = CACHE / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{server.name}.log"
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            server.command(environment, port),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            # Some only look for the application on the path.
            env={**os.environ, "PYTHONPATH": str(SERVE), "PYTHONDONTWRITEBYTECODE": "1"},
        )
    run = Running(process, port, log, tls=server.tls)
    try:
        run.wait()
        yield run
    finally:
        run.kill()


def certificate() -> Path:
    """Return a file with a key of the kind that is most used, ECDSA on P-256, and its certificate."""
    path = CACHE / "certificate.pem"
    if not path.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        now = dt.datetime.now(dt.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=3650))
            .sign(key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(
            made.public_bytes(pem)
            + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
    return path


def trusting() -> ssl.SSLContext:
    """Return what a client needs that trusts anyone: as wrk does."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def free_port() -> int:
    """Return a port that was free a moment ago; not every server can say which one it got."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
