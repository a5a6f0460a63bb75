"""A Python for arm64 on another kind of machine: Debian's packages, run by QEMU's emulation of programs.

apt fetches them from where this machine has its packages from, and compares their hashes.
Nothing of the machine is changed: lists, downloads and what is unpacked are in a folder of their own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from .conftest import CACHE

if TYPE_CHECKING:
    from pathlib import Path

EMULATOR = "qemu-aarch64-static"
MINOR = "3.11"


def python() -> Path:
    """Return it; skip the test where there can be none, and say why."""
    if os.uname().machine == "aarch64":
        pytest.skip("this machine is arm64 itself: other tests run the file")
    if not shutil.which(EMULATOR):
        pytest.skip(f"there is no {EMULATOR}. Debian, Ubuntu: apt install qemu-user-static")
    if not shutil.which("apt-get"):
        pytest.skip("there is no apt-get, which fetches a Python for arm64")
    root = CACHE.parent / "arm64"
    if not root.exists():
        CACHE.parent.mkdir(exist_ok=True)
        part = CACHE.parent / f"arm64.{os.getpid()}"
        (part / "root").mkdir(parents=True)
        for package in _fetched(part / "apt"):
            subprocess.run(["dpkg-deb", "-x", package, part / "root"], check=True)
        _emulated(part / "root", root)
        (part / "root").rename(root)
        shutil.rmtree(part)
    return root / "usr" / "bin" / f"python{MINOR}"


def _fetched(folder: Path) -> list[Path]:
    """Fetch the packages of a Python and of all that it needs."""
    for each in ("lists/partial", "cache/archives/partial"):
        (folder / each).mkdir(parents=True)
    (folder / "status").touch()
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures::": "arm64",
        "Dir::State::lists": f"{folder}/lists",
        "Dir::State::status": f"{folder}/status",
        "Dir::Cache": f"{folder}/cache",
        # Its other user could not write to a folder of pytest's or of root's.
        "APT::Sandbox::User": "root",
    }
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    install = ["install", "--download-only", "--yes", "--no-install-recommends", f"python{MINOR}"]
    for words in (["update"], install):
        done = subprocess.run(
            ["apt-get", "-qq", *options, *words], capture_output=True, text=True, check=False
        )
    if done.returncode != 0:
        pytest.skip(f"apt has no python{MINOR} for arm64: {done.stderr.strip().splitlines()[-1]}")
    return sorted((folder / "cache" / "archives").glob("*.deb"))


def _emulated(made: Path, root: Path) -> None:
    """Put a script in the place of the program, so that a process it starts is emulated as well.

    Python finds its library, or the virtual environment that it is in, by the name that it was called by.
    """
    program = made / "usr" / "bin" / f"python{MINOR}"
    program.rename(program.with_name("python.arm64"))
    emulate = f'{shutil.which(EMULATOR)} -L "{root}" -0 "$0" "{root}/usr/bin/python.arm64" "$@"'
    program.write_text(f"#!/bin/sh\nexec {emulate}\n")
    program.chmod(0o755)
