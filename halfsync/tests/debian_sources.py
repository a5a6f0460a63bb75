"""Debian's source packages, for the tests in them: fetched once, by version and hash, into `.cache/corpus`.

`apt-get` fetches them from where this machine has its packages from. Nothing of the machine is changed:
lists and downloads are in a folder of their own.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

from sdists import CACHE, keep

SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
OLD_SOURCES = Path("/etc/apt/sources.list")


def unpack(name: str, version: str, upstream: str, sha256: str) -> Path:
    """Return where the upstream part of a source package is unpacked; skip the test when it cannot be had.

    :param version: Debian's.
    :param upstream: the file's name.
    """
    target = CACHE / f"{name}-{version}"
    archive = CACHE / upstream
    if not archive.is_file() or hashlib.sha256(archive.read_bytes()).hexdigest() != sha256:
        _fetch(name, version, archive)
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
        assert found == sha256, f"{upstream} has another hash: {found}"
    if not target.is_dir():
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")
            (inner,) = Path(folder).iterdir()
            keep(inner, target)
    return target


def _fetch(name: str, version: str, archive: Path) -> None:
    if shutil.which("apt-get") is None:
        pytest.skip(f"the source package {name} {version} cannot be fetched: there is no apt-get here")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as text:
        folder = Path(text)
        for each in ("parts", "lists/partial", "cache/archives/partial"):
            (folder / each).mkdir(parents=True)
        if SOURCES.is_file():
            said = re.sub(r"(?m)^Types:.*", "Types: deb-src", SOURCES.read_text())
            (folder / "parts" / "x.sources").write_text(said)
        elif OLD_SOURCES.is_file():
            said = re.sub(r"(?m)^deb ", "deb-src ", OLD_SOURCES.read_text())
            (folder / "parts" / "x.list").write_text(said)
        else:
            pytest.skip(
                f"the source package {name} {version} cannot be fetched: apt has no sources of Debian"
            )
        options = [
            "-qq",
            "-o",
            "Dir::Etc::SourceList=/dev/null",
            "-o",
            f"Dir::Etc::SourceParts={folder}/parts",
            "-o",
            f"Dir::State::Lists={folder}/lists",
            "-o",
            f"Dir::Cache={folder}/cache",
        ]
        for command in (["update"], ["source", "--download-only", f"{name}={version}"]):
            done = subprocess.run(
                ["apt-get", *options, *command],
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
                timeout=300,
            )
            if done.returncode:
                said = (done.stderr.strip() or "apt-get said nothing").splitlines()[-1]
                pytest.skip(f"the source package {name} {version} cannot be fetched: {said}")
        (folder / archive.name).replace(archive)
