"""A service with a manhole in a process of its own, and what it takes to get in."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any

from children import Child, child

if TYPE_CHECKING:
    from pathlib import Path

SERVICE = """
from halfsync.flags import types as flagtypes
from halfsync.manhole import Manhole
from halfsync import flag

@flags.declare(flag.namespace("sample"))
class FLAGS:
    number = flagtypes.Count("A number.", default=5)
    password = flag.String("A secret.", default="", secure=True)

reactors.arrange_reactor("child")
main(lambda process: process.add(Manhole.from_flags(process)))
"""

PATIENCE = 60


class House:
    """A service with a manhole, and what it takes to get in."""

    def __init__(self, service: Child, folder: Path) -> None:
        self.service = service
        self.folder = folder
        self.port = 22

    def opened(self) -> dict[str, Any]:
        event = self.service.wait_for("manhole.opened")
        if match := re.fullmatch(r"ssh -p (\d+) me@127.0.0.1", str(event["ssh"])):
            self.port = int(match[1])
        return event

    def command(
        self, *rest: str, key: str = "id", user: str = "me", options: tuple[str, ...] = ()
    ) -> list[str]:
        settings = [
            "IdentitiesOnly=yes",
            "BatchMode=yes",
            "StrictHostKeyChecking=accept-new",
            f"UserKnownHostsFile={self.folder / 'known_hosts'}",
            "LogLevel=ERROR",
            *options,
        ]
        each = [word for setting in settings for word in ("-o", setting)]
        identity = ["-i", str(self.folder / key)]
        return ["ssh", "-F", "/dev/null", *each, *identity, "-p", str(self.port), f"{user}@127.0.0.1", *rest]

    def ssh(self, *rest: str, stdin: str | None = None, **how: Any) -> tuple[int, str, str]:
        done = subprocess.run(
            self.command(*rest, **how),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr


def make_keys(path: Path) -> None:
    """Make pairs of keys in a folder, and an `authorized_keys` for them."""
    for name, kind in (
        ("id", "ed25519"),
        ("rsa", "rsa"),
        ("ec", "ecdsa"),
        ("wrong", "ed25519"),
        ("bound", "ed25519"),
        ("far", "ed25519"),
        ("late", "ed25519"),
        ("near", "ed25519"),
    ):
        subprocess.run(["ssh-keygen", "-q", "-N", "", "-t", kind, "-f", path / name], check=True)
    options = {
        "id": "",
        "rsa": "",
        "ec": "",
        "bound": 'from="10.0.0.0/8",command="echo a b" ',
        "far": 'from="10.0.0.0/8" ',
        "late": 'expiry-time="20200101" ',
        "near": 'from="127.0.0.0/8,!127.0.0.2",expiry-time="20990101Z",restrict ',
    }
    lines = [f"{each}{(path / f'{name}.pub').read_text()}" for name, each in options.items()]
    (path / "authorized_keys").write_text("".join(lines))
    (path / "authorized_keys").chmod(0o600)


def fingerprint(path: Path) -> str:
    shown = subprocess.run(["ssh-keygen", "-lf", path], check=True, capture_output=True, text=True).stdout
    return shown.split()[1]


def start(folder: Path, *argv: str) -> Any:
    """Run the service; a context manager."""
    flags = (
        f"--manhole.authorized_keys={folder / 'authorized_keys'}",
        f"--manhole.host_key={folder / 'host'}",
        "--manhole.user=me",
        "--manhole.listen=tcp:0:interface=127.0.0.1",
        "--sample.password=hunter2",
    )
    return child(SERVICE, *flags, *argv)
