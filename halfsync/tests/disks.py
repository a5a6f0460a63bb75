"""Small and read-only disks for processes that are to meet with them: mounts that nobody else sees."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

SCRIPT = 'mount -t tmpfs -o "$0" tmpfs "$1" && shift && exec "$@"'


def with_disk(folder: Path, options: str) -> list[str]:
    """Return what to put before a command, so that it alone has a disk at a folder; the pid stays."""
    return ["unshare", "--mount", "sh", "-c", SCRIPT, options, str(folder)]


def seen_by(pid: int, path: Path) -> Path:
    """Return how a process's own mounts are reached from outside."""
    return Path(f"/proc/{pid}/root{path}")


def mount_over(pid: int, folder: Path, options: str) -> None:
    """Mount another disk at a folder, for a process that runs with_disk."""
    enter = ["nsenter", "--mount", f"--target={pid}"]
    subprocess.run([*enter, "mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)


@cache
def _can_mount() -> bool:
    if os.geteuid() != 0 or not (shutil.which("unshare") and shutil.which("nsenter")):
        return False
    probe = [*with_disk(Path("/mnt"), "size=64k"), "true"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


needs_mount = pytest.mark.skipif(
    not _can_mount(), reason="only root may mount a disk, and unshare(1) must be there"
)
