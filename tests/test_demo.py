"""The README's first promise: a bare clone and one command show a service from its generation to its end."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def bare_clone(folder: Path) -> Path:
    """Copy what git would hand over, uncommitted changes included."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def without_numbers(text: str) -> str:
    """Process ids and free ports differ from run to run."""
    return re.sub(r"(kill -USR2 |127\.0\.0\.1:|127\.0\.0\.1 port )\d+", r"\1N", text)


@pytest.mark.slow
def test_the_demo_works_from_a_bare_clone_and_the_readme_shows_what_it_does(tmp_path):
    """It ends well, twice in a row, and what it puts into the README is what stands there."""
    clone = bare_clone(tmp_path / "clone")
    python = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    # A home of its own, but for the cache of what has been fetched.
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    # `make test` hands its own arguments on to every make below it.
    inherited = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MFLAGS"}}
    environ = {**inherited, "HOME": str(tmp_path), "XDG_CACHE_HOME": cache}
    for arguments in ([], ["ARGS=--readme"]):
        made = subprocess.run(
            ["make", "demo", f"PYTHON={python}", *arguments],
            cwd=clone,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert made.returncode == 0, made.stdout + made.stderr
        assert "stopped with exit code 0: nothing was cut off" in made.stdout
    shown = (clone / "README.md").read_text(encoding="utf-8")
    assert without_numbers(shown) == without_numbers((ROOT / "README.md").read_text(encoding="utf-8"))
