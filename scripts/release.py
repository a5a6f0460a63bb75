"""Prepare a release of the library: everything but the upload, which a person does.

The version is that of the changelog's first heading, `## 0.3.0 (unreleased)`.
Commit and tag are made when the wheel has been built and checked; a failure before that leaves nothing.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from hooks.post_gen_project import vendor

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "halfsync"
SKELETON = ROOT / "{{cookiecutter.project_slug}}"
TOOLS = ROOT / ".cache" / "release"
TWINE = "twine==7.0.0"


class NoReleaseError(Exception):
    """Why there is none, in one line."""


def unreleased(changelog: str) -> str:
    """Return the version that is to be released.

    :raises NoReleaseError: when the changelog does not begin with one that is not, or has nothing new in it.
    """
    heading = re.search(r"(?m)^## (.*)$", changelog)
    named = re.fullmatch(r"(\d+\.\d+\.\d+) \(unreleased\)", heading[1]) if heading else None
    if not heading or not named:
        found = f"it begins with {heading[0]!r}" if heading else "it has no heading"
        raise NoReleaseError(f"halfsync/CHANGELOG.md: {found}; write '## 1.2.3 (unreleased)' and what is new")
    if not re.match(r"\s*- ", changelog[heading.end() :]):
        raise NoReleaseError(f"halfsync/CHANGELOG.md: nothing is listed under {heading[0]!r}")
    return named[1]


def git(*arguments: str) -> str:
    """Run git in the repository, and return what it prints."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603, S607
    if done.returncode:
        raise NoReleaseError(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


def renew(version: str) -> Path:
    """Write version and date, and the locks; build and check the wheel; return it."""
    changelog, face = LIBRARY / "CHANGELOG.md", LIBRARY / "src" / "halfsync" / "__init__.py"
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    text = changelog.read_text(encoding="utf-8")
    changelog.write_text(text.replace("(unreleased)", f"({today})", 1), encoding="utf-8")
    source, count = re.subn(
        r'(?m)^__version__ = ".*"$', f'__version__ = "{version}"', face.read_text(encoding="utf-8")
    )
    if count != 1:
        raise NoReleaseError(f"{face.relative_to(ROOT)}: there must be one line __version__, not {count}")
    face.write_text(source, encoding="utf-8")
    vendor(LIBRARY, SKELETON / "vendor", sorted(SKELETON.glob("requirements@*.lock")))
    into = ROOT / "dist"
    into.mkdir(exist_ok=True)
    # `vendor` has put its folder on the path.
    wheel = into / str(importlib.import_module("build_wheel").build_wheel(str(into)))
    python = str(TOOLS / "bin" / "python")
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(TOOLS)],
        [python, "-m", "pip", "install", "--quiet", TWINE],
        [python, "-m", "twine", "check", "--strict", str(wheel)],
    ):
        if subprocess.run(command, check=False).returncode:  # noqa: S603  nothing of it comes from elsewhere
            raise NoReleaseError(f"{' '.join(command[1:4])} failed; what it printed is above")
    return wheel


def release() -> str:
    """Prepare it, and say what is left to do.

    :raises NoReleaseError: when something is in the way; nothing is changed then.
    """
    if git("status", "--porcelain"):
        raise NoReleaseError("there are changes that are not committed; commit them, or git stash")
    version = unreleased((LIBRARY / "CHANGELOG.md").read_text(encoding="utf-8"))
    tag = f"halfsync-{version}"
    if git("tag", "--list", tag):
        raise NoReleaseError(f"the tag {tag} exists; give the changelog's first heading a newer version")
    try:
        wheel = renew(version)
        git("commit", "-a", "-m", f"halfsync {version}")
    except BaseException:
        git("reset", "--hard")
        raise
    git("tag", "-a", tag, "-m", f"halfsync {version}")
    return (
        f"{wheel.relative_to(ROOT)} is built and checked; the commit and the tag {tag} are made.\n"
        f"What is left: make test, git push --follow-tags, twine upload {wheel.relative_to(ROOT)}\n"
    )


if __name__ == "__main__":
    try:
        sys.stdout.write(release())
    except NoReleaseError as problem:
        sys.stderr.write(f"no release: {problem}\n")
        sys.exit(2)
