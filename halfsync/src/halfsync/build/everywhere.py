"""One file for several Pythons on several kinds of machines: `make pex-all`."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from halfsync.build import targets
from halfsync.build.command import last_words, run
from halfsync.build.errors import BuildError
from halfsync.build.pex import compose
from halfsync.build.project import normal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from halfsync.build.project import Project

SUFFIX = "-all"
"""Of the file's name, before `.pex`."""


def build(project: Project, chosen: Sequence[targets.Target], more: Sequence[str] = ()) -> list[Path]:
    """Build `dist/<slug>-all.pex`; return it and what lies beside it.

    :param chosen: what it must run on.
    :param more: further arguments of pex.
    :raises BuildError: when there is no wheel for one of the targets, or pex fails.
    """
    wheels = project.root / ".build" / "all"
    made_from = wheels / "made-from"
    wanted = f"{project.digests()}\n{chosen}\n"
    if not made_from.is_file() or made_from.read_text(encoding="utf-8") != wanted:
        shutil.rmtree(wheels, ignore_errors=True)
        wheels.mkdir(parents=True)
        for target in chosen:
            _fetch(project, target, wheels)
        _add_built(project, wheels)
        made_from.write_text(wanted, encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        arguments = list(more)
        for number, target in enumerate(chosen):
            path = Path(folder) / f"{number}.json"
            path.write_text(target.complete_platform(), encoding="utf-8")
            arguments += ["--complete-platform", str(path)]
        return compose(project, targets.aim(chosen), wheels, project.pex(SUFFIX), arguments)


def _fetch(project: Project, target: targets.Target, into: Path) -> None:
    """Fetch the wheels that the lock names for a target, each compared with its hashes."""
    parts = project.lock_parts()
    built = set(project.built())
    kept = [part for name, part in parts.items() if name not in built and _holds(part, target)]
    with tempfile.TemporaryDirectory() as folder:
        lock = Path(folder) / "requirements.lock"
        # pip would hold the markers against the Python that runs it.
        lock.write_text("".join(re.sub(r" ;[^\\\n]*", " ", part, count=1) for part in kept), encoding="utf-8")
        command = [*_pip(), "download", "-qq", "--require-hashes", "--no-deps", "--only-binary", ":all:"]
        command += ["--implementation", "cp", "--python-version", target.minor, "--find-links", "vendor"]
        for platform in target.platforms:
            command += ["--platform", platform]
        done = run([*command, "--dest", str(into), "--requirement", str(lock)], project.root)
    if done.returncode != 0:
        raise BuildError(f"CPython {target.minor} on {target.machine}: {last_words(done)}")


def _holds(part: str, target: targets.Target) -> bool:
    marker = Requirement(part.partition("\\")[0].strip()).marker
    return marker is None or marker.evaluate(dict(target.environment))


def _add_built(project: Project, into: Path) -> None:
    """Add the wheels that were built here from what came as source; they must be for any machine."""
    names = set(project.built())
    for path in sorted(project.wheels.glob("*.whl")):
        if normal(path.name.partition("-")[0]) in names:
            if not path.name.endswith("-none-any.whl"):
                raise BuildError(f"{path.name}: it comes as source, and is compiled for this machine only")
            shutil.copyfile(path, into / path.name)


def _pip() -> Iterable[str]:
    # The Makefile's way to run pip: configured by nothing but where packages come from.
    code = os.environ.get("PIP_FROM_HERE")
    return [sys.executable, "-c", code] if code else [sys.executable, "-m", "pip"]
