"""The service that is attacked: a process, its ports as its log says them, and what it takes meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.servers import certificate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PATIENCE = 60.0
PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


class Service:
    """A process seen through its log and /proc."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.ports: list[int] = []
        """Plain, TLS, behind the PROXY protocol."""
        self.events: list[dict[str, Any]] = []
        self.resident = 0
        """The most memory that it had, in bytes."""
        self._started = threading.Event()
        self._over = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        threading.Thread(target=self._watch, daemon=True).start()

    def wait(self) -> None:
        """Return when it serves."""
        if not self._started.wait(PATIENCE) or not self.ports:
            raise RuntimeError(f"the service does not start: {self.events[-5:]}")

    def cpu(self) -> float:
        """Return the seconds of processor time that it has taken."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def stop(self) -> None:
        """End it."""
        self._over.set()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._reader.join(PATIENCE)
        assert self.process.stdout  # noqa: S101  it is a pipe
        self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout  # noqa: S101  it is a pipe
        for line in self.process.stdout:
            event = json.loads(line) if line.startswith("{") else {"event": line.rstrip()}
            if len(self.events) < 10_000:
                self.events.append(event)
            if event["event"] == "web.listening":
                self.ports.append(int(event["address"].partition(" ")[0].rpartition(":")[2]))
            if event["event"] == "service.started":
                self._started.set()
        self._started.set()

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            try:
                pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
            except (OSError, IndexError):
                return
            self.resident = max(self.resident, pages * PAGE)


@contextmanager
def serving(command: Sequence[str], *flags: str, files: int | None = None) -> Iterator[Service]:
    """Run the service with its default flags, but for where it listens.

    :param files: how many open files it may have.
    """
    local = "0:interface=127.0.0.1"
    endpoints = f"tcp:{local} ssl:{local}:privateKey={certificate()} haproxy:tcp:{local}"
    limit = [] if files is None else ["prlimit", f"--nofile={files}"]
    process = subprocess.Popen(
        [
            *limit,
            *command,
            f"--web.listen={endpoints}",
            "--admin.listen=tcp:0:interface=127.0.0.1",
            "--log.format=json",
            "--web.access_log=false",
            *flags,
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    service = Service(process)
    try:
        service.wait()
        yield service
    finally:
        service.stop()


def quick_command() -> list[str]:
    """Return the command of the application on the halfsync in place."""
    return [sys.executable, str(HERE / "serve.py")]


def pex_command(folder: str) -> list[str]:
    """Generate the default service with the application that is abused, build its pex; return its command."""
    print("generating a service and building its pex ...", flush=True)
    cookiecutter = [sys.executable, "-m", "cookiecutter", "--no-input", "--default-config"]
    subprocess.run([*cookiecutter, "-o", folder, str(ROOT)], check=True, stdout=subprocess.DEVNULL)
    (module,) = Path(folder).glob("hello-service/src/*/web.py")
    module.write_text((HERE / "app.py").read_text())
    subprocess.run(["make", "-C", f"{folder}/hello-service", "pex"], check=True, stdout=subprocess.DEVNULL)
    return [f"{folder}/hello-service/dist/hello-service.pex"]
