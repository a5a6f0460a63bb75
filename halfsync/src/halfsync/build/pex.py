"""One file to deploy, with what it was built from in it and beside it."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from halfsync import built
from halfsync.build import distributions, sbom, targets
from halfsync.build.command import last_words, run
from halfsync.build.errors import BuildError
from halfsync.build.first_start import record
from halfsync.build.guard import guard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from halfsync.build.project import Project


def build(project: Project, more: Sequence[str] = ()) -> list[Path]:
    """Build `dist/<slug>.pex` for the Python that runs this; return it and what lies beside it.

    :param more: further arguments of pex.
    :raises BuildError: when a wheel is not what the lock names, or pex fails.
    """
    aim = targets.here()
    python = project.root / ".venv" / "bin" / "python"
    # --python-path keeps pex from resolving for every Python it finds on PATH, which would make the file
    # depend on what else is installed; so the constraint names the one minor version that the wheels are for.
    chosen = ["--python-path", str(python), "--interpreter-constraint", f"CPython=={aim.pythons[0]}.*"]
    # With what a person adds, a start may be anything.
    first = None if more else python
    return compose(project, aim, project.wheels, project.pex(), [*chosen, *more], python=first)


def compose(
    project: Project,
    aim: targets.Aim,
    wheels: Path,
    output: Path,
    arguments: Sequence[str],
    *,
    python: Path | None = None,
) -> list[Path]:
    """Have pex make a file from wheels and the service's source, with its facts, SBOM and licences.

    :param python: the one that it is for, so that what it unpacks itself to is in it as well.
    :raises BuildError: see `build`.
    """
    # What unpacks the file is in the file as well.
    found = [*distributions.read_locked(project, wheels), distributions.installed("pex")]
    named = project.slug, project.version()
    commit = project.commit()
    aim = aim.with_wheels([each.file for each in found])
    facts = {
        "name": named[0],
        "version": named[1],
        "commit": commit.name,
        "changed": commit.changed,
        "locks": project.digests(),
        "library": next((each.version for each in found if each.name == "halfsync"), ""),
        "pex": found[-1].version,
        "pythons": list(aim.pythons),
        "platforms": aim.platforms(),
    }
    texts = {
        built.FACTS: json.dumps(facts, indent=2, ensure_ascii=False) + "\n",
        built.SBOM: sbom.bill(*named, project.requirements(), found, aim.environments),
        built.LICENSES: sbom.licenses(found),
    }
    os.umask(0o022)  # the modes of files are in the file that is made
    output.parent.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        # What is there is replaced once the new file is whole: two builds at once do not meet, and one that
        # fails, or is interrupted, leaves what there was.
        tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as unfinished,
    ):
        made = Path(unfinished) / output.name
        inside = Path(folder) / project.package / built.FOLDER
        inside.mkdir(parents=True)
        for name, text in texts.items():
            (inside / name).write_text(text, encoding="utf-8")
        # Every package below src/, and not the BUILD file beside them.
        sources = [f"--package={each.name}@src" for each in sorted(project.root.glob("src/*/"))]
        command = [
            *("-r", "requirements.lock", "--pre-resolved-dists", str(wheels)),
            *sources,
            *("--sources-directory", folder),
            *("--entry-point", f"{project.package}.__main__:main"),
            *("--venv", "prepend", "--sh-boot", *arguments, "--output-file", str(made)),
        ]
        run_pex(project, command)
        guard(made, project.slug, aim, record(made, python) if python else None)
        made.replace(output)
    beside = {"build": texts[built.FACTS], "sbom": texts[built.SBOM], "licenses": texts[built.LICENSES]}
    return [output, *(_beside(output, name, text) for name, text in beside.items())]


def run_pex(project: Project, arguments: Sequence[str]) -> None:
    """Run pex in the project's folder.

    :raises BuildError: with its last words when it fails.
    """
    command = [sys.executable, "-m", "pex", *arguments]
    done = run(command, project.root)
    if done.returncode != 0:
        raise BuildError(f"pex: {last_words(done)}")


def _beside(output: Path, name: str, text: str) -> Path:
    suffix = "txt" if name == "licenses" else "json"
    path = output.with_suffix(f".{name}.{suffix}")
    path.write_text(text, encoding="utf-8")
    return path
