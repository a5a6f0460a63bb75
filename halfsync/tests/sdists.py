"""Source distributions of others, for the tests in them: fetched once, by hash, into `.cache/corpus`."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

CACHE = Path(__file__).parents[2] / ".cache" / "corpus"


def fetch(name: str, version: str, sha256: str) -> Path:
    """Return where the source distribution is; skip the test when it cannot be had."""
    path = CACHE / f"{name}-{version}.tar.gz"
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256:
        return path
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        pinned = Path(folder, "pinned.txt")
        pinned.write_text(f"{name}=={version} --hash=sha256:{sha256}\n")
        command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
        command += ["--no-binary", name, "--require-hashes", "-d", folder, "-r", str(pinned)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "DO NOT MATCH THE HASHES" not in run.stderr, run.stderr
        if run.returncode:
            said = (run.stderr.strip() or run.stdout.strip() or "pip said nothing").splitlines()[-1]
            pytest.skip(f"the source distribution of {name} {version} cannot be fetched: {said}")
        Path(folder, path.name).replace(path)
    return path


def keep(made: Path, target: Path) -> None:
    """Put a whole folder where the tests look for it; another process may have been faster."""
    with suppress(OSError):
        made.rename(target)
    assert target.is_dir()
