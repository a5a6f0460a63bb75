"""Whether a file is what its commit builds: it is built again elsewhere, and the bytes are compared."""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfsync import built
from halfsync.build.command import last_words, run
from halfsync.build.errors import BuildError
from halfsync.build.first_start import MEMBER

if TYPE_CHECKING:
    from halfsync.build.project import Project

FURNITURE = (".tools", ".build", ".venv")
"""What a rebuild takes over from here; its Makefile makes anew what was made from other locks."""
SHOWN = 5
"""Names of members that differ, in a message."""


def verify(project: Project, file: Path, python: str, *, fresh: bool = False) -> str:
    """Build the commit that a file names, compare, and return a line that says so.

    :param python: the interpreter to build with.
    :param fresh: build with tools and wheels that are fetched again, not with those that are here.
    :raises BuildError: when it is not the same, or cannot be built again.
    """
    facts = facts_of(project, file)
    commit = facts["commit"]
    if commit is None:
        raise BuildError(f"{file}: it names no commit: it was built outside a git repository")
    if facts["changed"]:
        raise BuildError(
            f"{file}: it was built from {commit} and changes that no commit has: commit, and build it"
        )
    _same_python(facts, file, python)
    try:
        project.git("cat-file", "-e", f"{commit}^{{commit}}")
    except BuildError:
        raise BuildError(f"{file}: its commit {commit} is not in this repository: git fetch") from None
    with tempfile.TemporaryDirectory(prefix="verify-") as folder:
        again = _rebuild(project, Path(folder), facts, python, fresh=fresh)
        if again.read_bytes() == file.read_bytes():
            return f"{file}: the same bytes as commit {commit} builds"
        raise BuildError(f"{file}: not what commit {commit} builds: {_difference(file, again)}")


def facts_of(project: Project, file: Path) -> dict[str, Any]:
    """Return the facts that a file was built with.

    :raises BuildError: when it is no pex of this service.
    """
    member = f"{project.package}/{built.FOLDER}/{built.FACTS}"
    try:
        with zipfile.ZipFile(file) as archive:
            return dict(json.loads(archive.read(member)))
    except OSError as error:
        raise BuildError(
            f"FILE: {str(file)!r}: {error.strerror}; say make verify FILE=dist/{project.slug}.pex"
        ) from None
    except (zipfile.BadZipFile, KeyError, ValueError):
        raise BuildError(f"{file}: it is no pex of {project.slug} that make pex has built") from None


def _same_python(facts: dict[str, Any], file: Path, python: str) -> None:
    if len(facts["pythons"]) > 1:
        return  # wheels for several do not depend on the one that puts them together
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    minor = run([python, "-c", ask], file.parent).stdout.strip()
    if minor not in facts["pythons"]:
        (wanted,) = facts["pythons"]
        raise BuildError(
            f"{file}: it was built by Python {wanted}, and {python} is {minor or 'none'}: "
            f"make verify FILE={file} PYTHON=/path/to/python{wanted}"
        )


def _rebuild(project: Project, folder: Path, facts: dict[str, Any], python: str, *, fresh: bool) -> Path:
    top, below = project.git("rev-parse", "--show-toplevel"), project.git("rev-parse", "--show-prefix")
    project.git("clone", "--quiet", "--shared", "--no-checkout", top, str(folder / "clone"))
    project.git("-C", str(folder / "clone"), "checkout", "--quiet", "--detach", facts["commit"])
    place = folder / "clone" / below
    if not fresh:
        # Links are not what .gitignore lists: folders.
        exclude = Path(project.git("-C", str(place), "rev-parse", "--git-path", "info/exclude"))
        (place / exclude).write_text("".join(f"{name}\n" for name in FURNITURE), encoding="utf-8")
        for name in FURNITURE:
            (place / name).symlink_to(project.root / name)
    target = "pex" if len(facts["pythons"]) == 1 else "pex-all"
    environ = {
        name: text for name, text in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    command = ["make", "-C", str(place), target, f"PYTHON={python}"]
    if target == "pex-all":
        machines = [each.split()[0].partition("-")[2] for each in facts["platforms"]]
        command.append(f"ARGS={' '.join(f'--machine={each}' for each in machines)}")
    done = run(command, place, environ)
    if done.returncode != 0:
        raise BuildError(f"commit {facts['commit']} cannot be built: {last_words(done)}")
    name = f"{project.slug}.pex" if target == "pex" else f"{project.slug}-all.pex"
    return place / "dist" / name


def _difference(file: Path, again: Path) -> str:
    with zipfile.ZipFile(file) as one, zipfile.ZipFile(again) as other:
        left = {each.filename: each.CRC for each in one.infolist()}
        right = {each.filename: each.CRC for each in other.infolist()}
    names = sorted(name for name in left.keys() | right.keys() if left.get(name) != right.get(name))
    if not names:
        return "the members are the same, and the bytes around them are not"
    if names == [MEMBER]:
        return "the sources are the same, and not what is compiled of them: another patch version of Python?"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more} differ"
