"""The tables of both READMEs are what a service with every listener really takes."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from .conftest import ROOT, Bake, furnish


def documented(text: str) -> set[str]:
    """Return the flags that the tables of a README name."""
    rows = [line for line in text.splitlines() if line.startswith("| `--")]
    return {name for row in rows for name in re.findall(r"`--([a-z_.]+)`", row.split("|")[1])}


@pytest.fixture(scope="module")
def project(bake: Bake) -> Path:
    """A service with a web listener and RPC."""
    return furnish(bake(rpc="thrift"))


@pytest.fixture(scope="module")
def helped(project: Path) -> str:
    """Return what its `--help` prints."""
    command = [project / ".venv" / "bin" / "python", "-m", "hello_service", "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def flags(helped: str) -> set[str]:
    """Return every flag of the halfsync; those of the user's example modules are not the README's."""
    every = set(re.findall(r"^  --([a-z_.]+)=", helped, re.MULTILINE))
    return {name for name in every if not re.match(r"tasks\.|web\.greeting", name)}


def test_the_readme_lists_every_flag(helped: str) -> None:
    """No flag is left out, and none is promised that there is not."""
    assert documented((ROOT / "README.md").read_text(encoding="utf-8")) == flags(helped)


def test_the_services_readme_names_only_flags_that_exist(helped: str, project: Path) -> None:
    """It is a runbook: a choice of flags, all of them real."""
    assert documented((project / "README.md").read_text(encoding="utf-8")) <= flags(helped)


def test_every_default_that_the_readme_tells_is_the_default(helped: str) -> None:
    """Where a row has one flag and one plain default, `--help` says the same."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, told in re.findall(r"^\| `--([a-z_.]+)` \| `([^`]+)` \|", text, re.MULTILINE):
        assert f"--{name}=" in helped
        (default,) = re.findall(rf"^  --{re.escape(name)}=.*\(default (.*)\)$", helped, re.MULTILINE)
        assert default.replace(str(Path.home()), "~") == told, name
