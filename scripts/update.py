# /// script
# requires-python = ">=3.11"
# dependencies = ["cookiecutter>=2.7,<3", "libcst>=1.8"]
# ///
"""Bring a service up to this template; `make update` of a service runs it in a clone of the template.

It is a three-way merge by git, as if two commits had been made:
the service as its template generated it then, and as this one generates it now.
What differs between them is applied to the service as it is.
So what its team has changed stays, what the template dropped goes, and where both changed the same lines,
git shows a conflict.
Names that the library has moved are then rewritten in the team's own code (`renames.py`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import renames  # type: ignore[import-not-found]  # beside this script, which is run, not imported

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ("requirements.lock", "tools.lock")
NOTE = ".template.json"


class UpdateError(Exception):
    """Why the service cannot be updated; one line for a person."""


def run(*command: str | Path, cwd: Path, **environ: str) -> str:
    """Run a command, and return what it printed.

    :raises UpdateError: when it fails, with what it said.
    """
    done = subprocess.run(  # noqa: S603 - the arguments are ours
        list(map(str, command)),
        cwd=cwd,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UpdateError(f"{' '.join(map(str, command))}: {(done.stdout + done.stderr).strip()}")
    return done.stdout.strip()


class Service:
    """A generated service, as a folder of a git repository."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.top = Path(run("git", "rev-parse", "--show-toplevel", cwd=folder))
        self.prefix = Path(run("git", "rev-parse", "--show-prefix", cwd=folder))
        if run("git", "status", "--porcelain", cwd=self.top):
            raise UpdateError("there are changes that are not committed: commit or stash them first")
        note = folder / NOTE
        if not note.exists():
            raise UpdateError(f"there is no {NOTE}: docs/updating.md of the template tells how to write one")
        self.note: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))

    def commit(self, generated: Path, *parents: str) -> str:
        """Write a commit that no branch has: the service's folder as it was generated, and nothing else."""
        with tempfile.TemporaryDirectory() as temporary:
            tree = Path(temporary) / "tree"
            shutil.copytree(generated, tree / self.prefix)
            index = {"GIT_INDEX_FILE": f"{temporary}/index", "GIT_WORK_TREE": str(tree)}
            git_dir = run("git", "rev-parse", "--absolute-git-dir", cwd=self.top)
            run("git", "--git-dir", git_dir, "add", "--all", "--force", cwd=tree, **index)
            written = run("git", "--git-dir", git_dir, "write-tree", cwd=tree, **index)
        of = [each for parent in parents for each in ("-p", parent)]
        names = {
            f"GIT_{role}_{what}": "update" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        return run("git", "commit-tree", written, *of, "-m", "generated", cwd=self.top, **names)

    def conflicts(self) -> list[str]:
        """Return the files in which git shows conflicts."""
        return run(
            "git", "diff", "--name-only", "--diff-filter=U", "--relative", cwd=self.folder
        ).splitlines()

    def restore(self) -> None:
        """Leave the folder as it was: nothing in it was uncommitted."""
        run("git", "reset", "--quiet", "--hard", "HEAD", cwd=self.top)


class Updated(NamedTuple):
    """What came of an update: names of files, and lines for a person."""

    conflicts: list[str]
    rewritten: list[str]
    left: list[str]


def generate(template: Path, answers: dict[str, str], into: Path) -> Path:
    """Generate a project, each in a process of its own: two versions of a template cannot share one."""
    # -P: the current folder may hold the local_extensions.py of another template, or of another version.
    command = [sys.executable, "-P", "-m", "cookiecutter", "--no-input", "--default-config"]
    command += ["-o", str(into), str(template)]
    command += [f"{key}={value}" for key, value in answers.items()]
    run(*command, cwd=into.parent)
    (project,) = into.iterdir()
    return project


def template_at(commit: str, into: Path) -> Path:
    """Write the template out as it was at a commit."""
    into.mkdir()
    index = str(into.with_suffix(".index"))
    try:
        run("git", "read-tree", commit, cwd=ROOT, GIT_INDEX_FILE=index)
    except UpdateError as error:
        raise UpdateError(f"the template has no commit {commit}, which {NOTE} names: {error}") from error
    # git writes the files: what Python has for archives is not the same before 3.11.4, which Debian 12 has.
    run("git", "checkout-index", "--all", f"--prefix={into}/", cwd=ROOT, GIT_INDEX_FILE=index)
    return into


def update(service: Service, changed: dict[str, str], temporary: Path) -> Updated:
    """Apply to the service what is new in the template."""
    commit, answers = service.note.get("commit"), service.note["answers"]
    if not commit:
        raise UpdateError(f"{NOTE} does not say which commit of the template it is from: add it as 'commit'")
    old = generate(template_at(commit, temporary / "template"), answers, temporary / "old")
    # Questions that are gone are not asked again.
    asked = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))
    wanted = {key: value for key, value in {**answers, **changed}.items() if key in asked}
    new = generate(ROOT, wanted, temporary / "new")
    (old / NOTE).write_bytes((service.folder / NOTE).read_bytes())
    own = [name for name in LOCKS if _differ(old / name, service.folder / name)]
    for name in own:
        # Their pins stay; `make lock` adds to them what the new pyproject.toml wants.
        shutil.copyfile(service.folder / name, old / name)
        shutil.copyfile(service.folder / name, new / name)
        _pin(new / name, new / "vendor")
    base = service.commit(old)
    target = service.commit(new, base)
    picked = ["git", "cherry-pick", "--no-commit", "--allow-empty", target]
    try:
        run(*picked, cwd=service.top)
    except UpdateError:
        if not service.conflicts():
            raise
    conflicts = service.conflicts()
    if own and "pyproject.toml" not in conflicts and "Makefile" not in conflicts:
        run("make", "lock", cwd=service.folder)
        run("git", "add", "--", *LOCKS, cwd=service.folder)
    listed = run("git", "ls-files", "-z", cwd=service.folder).split("\0")
    own_text = [name for name in listed if name and name not in (*conflicts, *LOCKS, NOTE)]
    rewritten, left = renames.rewrite(service.folder, own_text)
    if rewritten:
        run("git", "add", "--", *rewritten, cwd=service.folder)
    return Updated(conflicts, rewritten, left)


def _differ(one: Path, other: Path) -> bool:
    return other.exists() and one.exists() and one.read_bytes() != other.read_bytes()


def _pin(lock: Path, vendor: Path) -> None:
    """Give a lock the version and hash of the library's wheel."""
    (wheel,) = vendor.glob("halfsync-*.whl")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    pin = f"halfsync=={wheel.name.split('-')[1]} \\\n    --hash=sha256:{digest}\n"
    text = lock.read_text(encoding="utf-8")
    pattern = r"(?m)^halfsync==\S+ \\\n    --hash=sha256:[0-9a-f]{64}\n"
    lock.write_text(re.sub(pattern, lambda _: pin, text), encoding="utf-8")


def verify(service: Service, rewritten: list[str]) -> None:
    """Run the service's own checks; when one fails, leave the service as it was.

    :raises UpdateError: with the end of what the checks said.
    """
    try:
        if rewritten:
            # The order of imports is another with other names.
            run("make", "--no-print-directory", "format", cwd=service.folder)
            run("git", "add", "--", *rewritten, cwd=service.folder)
        run("make", "--no-print-directory", "lint", "test", cwd=service.folder)
    except UpdateError as error:
        service.restore()
        last = "\n".join(str(error).splitlines()[-20:])
        raise UpdateError(f"{last}\nlint or tests fail with the new template; nothing was changed") from error


def main() -> int:
    """Update, check, and say what to do next."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--service", type=Path, required=True, help="the service's folder")
    arguments.add_argument("--unchecked", action="store_true", help="do not run the service's lint and tests")
    arguments.add_argument("answers", nargs="*", help="changed answers: web=async")
    options = arguments.parse_args()
    # Called by make, its variables would be those of every make below.
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
        os.environ.pop(name, None)
    try:
        changed = dict(answer.split("=", 1) for answer in options.answers)
        service = Service(options.service.resolve())
        with tempfile.TemporaryDirectory() as temporary:
            try:
                updated = update(service, changed, Path(temporary))
            except BaseException:
                service.restore()
                raise
        if updated.left:
            print("a person must find others for these names:", *updated.left, sep="\n  ")
        if updated.conflicts:
            print("both sides changed these files; git shows where:", *updated.conflicts, sep="\n  ")
        if updated.left or updated.conflicts:
            print(
                "mend and `git add` them, then make lint test; or, as if nothing had been: git reset --hard"
            )
            return 1
        if not options.unchecked:
            verify(service, updated.rewritten)
    except (UpdateError, ValueError) as error:
        print(f"update: {error}", file=sys.stderr)
        return 1
    print("updated, not committed: git diff --cached shows what is new; git reset --hard takes it back")
    return 0


if __name__ == "__main__":
    sys.exit(main())
