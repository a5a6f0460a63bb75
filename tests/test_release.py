"""A release of the library is prepared whole, or not at all."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from .test_demo import bare_clone

if TYPE_CHECKING:
    from pathlib import Path


def git(repository: Path, *arguments: str) -> str:
    """Run git as somebody, whatever the configuration says."""
    who = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.org"]
    command = ["git", *who, *arguments]
    return subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The template as a repository of its own, everything committed."""
    clone = bare_clone(tmp_path / "clone")
    git(clone, "init", "-q")
    git(clone, "config", "user.name", "Somebody")
    git(clone, "config", "user.email", "somebody@example.org")
    git(clone, "add", "-A")
    git(clone, "commit", "-q", "-m", "The template")
    return clone


def release(repository: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.release"]
    return subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)


def named(repository: Path, heading: str) -> str:
    """Give the changelog another first heading, commit that, and return which commit it is."""
    changelog = repository / "halfsync" / "CHANGELOG.md"
    changelog.write_text(re.sub(r"(?m)^## .*$", heading, changelog.read_text(), count=1))
    git(repository, "commit", "-q", "--allow-empty", "-a", "-m", "The next one")
    return git(repository, "rev-parse", "HEAD")


@pytest.mark.slow
def test_it_has_version_date_locks_and_a_checked_wheel(repository: Path) -> None:
    """One commit and a tag; the locks pin the new version; the wheel is one that twine lets pass."""
    before = named(repository, "## 9.8.7 (unreleased)")
    done = release(repository)
    assert done.returncode == 0, done.stdout + done.stderr
    assert git(repository, "rev-list", "--count", f"{before}..halfsync-9.8.7") == "1"
    assert git(repository, "status", "--porcelain") == ""
    assert '\n__version__ = "9.8.7"\n' in (repository / "halfsync/src/halfsync/__init__.py").read_text()
    assert re.search(
        r"(?m)^## 9\.8\.7 \(\d{4}-\d\d-\d\d\)$", (repository / "halfsync/CHANGELOG.md").read_text()
    )
    locks = list((repository / "{{cookiecutter.project_slug}}").glob("requirements@*.lock"))
    assert len(locks) == 3
    assert all("\nhalfsync==9.8.7+vendored \\\n" in lock.read_text() for lock in locks)
    assert [path.name for path in (repository / "dist").iterdir()] == ["halfsync-9.8.7-py3-none-any.whl"]
    assert "twine upload dist/halfsync-9.8.7-py3-none-any.whl" in done.stdout
    again = release(repository)
    assert again.returncode == 2
    assert again.stderr.startswith("no release: halfsync/CHANGELOG.md: it begins with '## 9.8.7 (")


def test_what_is_in_the_way_is_said_in_a_line(repository: Path) -> None:
    """And nothing is changed: no file, no commit, no tag."""
    named(repository, "## 1.2.3 (unreleased)")
    git(repository, "tag", "halfsync-1.2.3")
    assert release(repository).stderr == (
        "no release: the tag halfsync-1.2.3 exists; give the changelog's first heading a newer version\n"
    )
    before = named(repository, "## soon")
    assert "it begins with '## soon'; write '## 1.2.3 (unreleased)'" in release(repository).stderr
    assert git(repository, "status", "--porcelain") == ""
    assert git(repository, "rev-parse", "HEAD") == before
    (repository / "README.md").write_text("half written")
    refused = release(repository)
    assert refused.returncode == 2
    assert "there are changes that are not committed" in refused.stderr
    assert (repository / "README.md").read_text() == "half written"


def test_one_that_fails_half_way_leaves_nothing(repository: Path) -> None:
    """A wheel that cannot be built: version, changelog and locks are what they were."""
    (repository / "halfsync" / "LICENSE").unlink()
    before = named(repository, "## 9.8.7 (unreleased)")
    assert release(repository).returncode == 1
    assert git(repository, "status", "--porcelain") == ""
    assert git(repository, "rev-parse", "HEAD") == before
    assert git(repository, "tag") == ""
