"""A small machine with systemd as its process 1: a container on this one's /usr, with its own network.

Nothing is fetched: `systemd-nspawn` boots a root made of a few files, and the pex finds its Python in /usr.
"""

from __future__ import annotations

import ctypes
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

PATIENCE = 60
"""Seconds after which what is awaited has failed."""

CLONE_NEWNET = 0x40000000

FILES = {
    "passwd": "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/usr/sbin/nologin\n",
    "group": "root:x:0:\nnogroup:x:65534:\n",
    # `systemd` knows the users that DynamicUser= makes.
    "nsswitch.conf": "passwd: files systemd\ngroup: files systemd\nhosts: files\n",
    "hosts": "127.0.0.1 localhost\n",
    "machine-id": uuid.uuid4().hex + "\n",
}

FOLLOW = """\
[Service]
Type=exec
ExecStart=journalctl --follow --lines=all --output=cat
StandardOutput=file:/journal
"""


def lacking(minor: str) -> str | None:
    """Say in a line why no such machine can run here, and what would help; None when one can."""
    if os.geteuid() != 0:
        return "only root can boot systemd in a container"
    if not shutil.which("systemd-nspawn"):
        return "there is no systemd-nspawn. Debian, Ubuntu: apt install systemd-container"
    if not Path("/usr/bin/ssh").exists():
        return "there is no ssh client. Debian, Ubuntu: apt install openssh-client"
    if not any(Path(f"/usr/{place}/python{minor}").exists() for place in ("bin", "local/bin")):
        return f"there is no python{minor} in /usr. Debian, Ubuntu: apt install python3"
    unshared = subprocess.run(
        [
            "unshare",
            "--mount",
            "--pid",
            "--net",
            "--uts",
            "--ipc",
            "--fork",
            "mount",
            "-t",
            "tmpfs",
            "x",
            "/mnt",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"containers are not allowed here: {unshared.stderr.strip()}" if unshared.returncode else None


class Lines:
    """What a stream has said so far."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._came = threading.Condition()
        self._ended = False

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, number: int) -> str:
        return self._lines[number]

    def read(self, stream: IO[str]) -> None:
        """Read a stream to its end."""
        for line in stream:
            with self._came:
                self._lines.append(line.rstrip("\n"))
                self._came.notify_all()
        with self._came:
            self._ended = True
            self._came.notify_all()

    def wait_for(self, pattern: str, since: int = 0) -> int:
        """Wait for a line like that after so many, and return how many had come with it."""
        deadline = time.monotonic() + PATIENCE
        with self._came:
            while True:
                for number, line in enumerate(self._lines[since:], since):
                    if re.search(pattern, line):
                        return number + 1
                waited = not self._ended and self._came.wait(deadline - time.monotonic())
                assert waited, f"no {pattern!r}:{self.recent()}"

    def recent(self) -> str:
        """Return the last ones, for a message."""
        return "".join(f"\n  {line[:300]}" for line in self._lines[-40:])


class Network:
    """The network of another process, which has one of its own."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._inside = ThreadPoolExecutor(1, "inside", self._enter)

    def close(self) -> None:
        """Leave it."""
        self._inside.shutdown()

    def connect(self, port: int) -> socket.socket:
        """Connect to a port of its loopback: a socket stays in the network in which it was made."""
        return self._inside.submit(socket.create_connection, ("127.0.0.1", port), PATIENCE).result()

    def get(self, path: str = "/", port: int = 8080) -> tuple[int, str]:
        """Fetch a page from there."""
        client = http.client.HTTPConnection("127.0.0.1", port)
        client.sock = self.connect(port)
        client.request("GET", path, headers={"Connection": "close"})
        response = client.getresponse()
        return response.status, response.read().decode()

    def ssh(self, key: Path, user: str, line: str) -> str:
        """Run a line at the manhole there, and return what it and ssh say."""
        words = ["-i", str(key), "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no"]
        words += [
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "LogLevel=ERROR",
            "-p",
            "8022",
            f"{user}@127.0.0.1",
        ]
        done = subprocess.run(
            ["nsenter", f"--target={self._pid}", "--net", "ssh", "-F", "/dev/null", *words, line],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return (done.stdout + done.stderr).strip()

    def _enter(self) -> None:
        # os.setns came with Python 3.12. It concerns the calling thread alone.
        with Path(f"/proc/{self._pid}/ns/net").open() as network:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(network.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")


class Machine:
    """The machine, from its start to its end."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.journal = Lines()
        self._folder = folder
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0

    def boot(self) -> None:
        """Start it, and return when its process 1 says that it has."""
        self._make_root()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, self._console.open("wb") as console:
            # Its name must be short (unix(7)), pytest's folders are not.
            ready.bind(f"\0{uuid.uuid4().hex}")
            ready.settimeout(PATIENCE)
            self._nspawn = subprocess.Popen(
                [
                    "systemd-nspawn",
                    "--quiet",
                    f"--directory={self.root}",
                    f"--machine=m{uuid.uuid4().hex[:12]}",
                    "--bind-ro=/usr",
                    "--boot",
                    "--private-network",
                    "--notify-ready=yes",
                    "--console=pipe",
                    # There need not be a systemd outside.
                    "--register=no",
                    "--keep-unit",
                ],
                env={**os.environ, "NOTIFY_SOCKET": ready.getsockname().decode().replace("\0", "@")},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
            heard = ""
            while not re.search("^READY=1", heard, re.MULTILINE):
                try:
                    message = ready.recv(4096).decode()
                except TimeoutError:
                    message = "STOPPING=1"
                assert "STOPPING=1" not in message, f"it does not boot:\n{heard}\n{self._console.read_text()}"
                heard += message + "\n"
        self._leader = int(re.findall(r"^X_NSPAWN_LEADER_PID=(\d+)", heard, re.MULTILINE)[0])
        self.network = Network(self._leader)
        self._follow_journal()

    def power_off(self) -> None:
        """End it, and leave nothing behind, whatever went wrong."""
        if self._leader:
            self.network.close()
        if self._nspawn is not None:
            # Its process 1 gets the signal to stop all units; killed, nspawn takes the container along.
            self._nspawn.send_signal(signal.SIGTERM)
            try:
                self._nspawn.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._nspawn.kill()
                self._nspawn.wait()

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command in it as root, and return its output."""
        entered = ["nsenter", f"--target={self._leader}", "--all", *command]
        done = subprocess.run(entered, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert not check or done.returncode == 0, (
            f"{command}:\n{done.stdout}{done.stderr}{self.journal.recent()}"
        )
        return done.stdout + done.stderr

    @property
    def _console(self) -> Path:
        return self._folder / "console"

    def _make_root(self) -> None:
        for name in ("usr", "etc/systemd/system", "var", "tmp", "run", "proc", "sys", "dev", "opt", "root"):
            (self.root / name).mkdir(parents=True)
        for name in ("bin", "sbin", "lib", "lib64"):
            (self.root / name).symlink_to(f"usr/{name}")
        etc = self.root / "etc"
        for name, text in FILES.items():
            (etc / name).write_text(text)
        # nspawn wants it before /usr is there.
        shutil.copyfile("/usr/lib/os-release", etc / "os-release")
        if Path("/etc/ld.so.cache").exists():
            shutil.copyfile("/etc/ld.so.cache", etc / "ld.so.cache")
        units = etc / "systemd" / "system"
        (units / "default.target").symlink_to("/usr/lib/systemd/system/multi-user.target")
        # Whatever else has put units into this machine's /usr: a login at the console is not wanted.
        (units / "getty.target").symlink_to("/dev/null")

    def _follow_journal(self) -> None:
        # By a unit and a FIFO. From outside, journalctl does not hear of new lines: it needs its own /proc.
        # Brought in by nsenter, it is stopped (SIGSTOP) at the end by systemd, with all that is not its own;
        # then nsenter stops with it, does not reap it, and the container never ends.
        os.mkfifo(self.root / "journal")
        threading.Thread(target=self._read_journal, daemon=True).start()
        unit = self.root / "etc" / "systemd" / "system" / "follow-journal.service"
        unit.write_text(FOLLOW)
        self.run("systemctl", "start", unit.name)

    def _read_journal(self) -> None:
        with (self.root / "journal").open(errors="replace") as journal:
            self.journal.read(journal)
