"""How a service starts as one file, beside a virtual environment, shiv's file and what pex makes by default.

`bench.start` tells of it. Each file is made from the same wheels, those that `make pex` has compared with
the lock.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import cost, environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[1]
MAIN = "hello_service.__main__:main"

FIRST, LATER, HELP, VERSION = ROWS = ("first start", "later starts", "`--help`", "`--version`")
"""The first two are until it serves."""


@dataclass(frozen=True)
class Way:
    """A way to ship a service."""

    name: str
    command: Sequence[str]
    unpacks: bool = True
    """Whether it does so at its first start."""


def generate(folder: Path) -> Path:
    """Generate a service with all defaults, build its pex, and return the service's folder."""
    cookiecutter = [sys.executable, "-m", "cookiecutter", "--no-input", "--default-config"]
    subprocess.run([*cookiecutter, "-o", folder, str(ROOT)], check=True, stdout=subprocess.DEVNULL)
    project = folder / "hello-service"
    subprocess.run(["make", "-C", project, "pex"], check=True, stdout=subprocess.DEVNULL)
    return project


def of_pex(project: Path) -> list[Way]:
    """Return a virtual environment and `make pex`'s file, both of which are there."""
    python = str(project / ".venv" / "bin" / "python")
    return [
        Way("virtual environment", [python, "-m", "hello_service"], unpacks=False),
        Way("`make pex`", [str(project / "dist" / "hello-service.pex")]),
    ]


def of_others(project: Path, folder: Path) -> list[Way]:
    """Make the files of others in a folder, and return them."""
    zipapp, shiv = folder / "default.pex", folder / "hello-service.pyz"
    wheels, python = project / ".build" / "wheels", project / ".venv" / "bin" / "python"
    tools = project / ".tools" / "bin"
    (library,) = (project / ".venv" / "lib").glob("python3.*")
    pex = [str(tools / "pex"), "-r", "requirements.lock", "--pre-resolved-dists", str(wheels)]
    pex += [
        "--python-path",
        str(python),
        "--interpreter-constraint",
        f"CPython=={library.name.removeprefix('python')}.*",
    ]
    pex += ["--package=hello_service@src", "--entry-point", MAIN, "-o", str(zipapp)]
    subprocess.run(pex, cwd=project, check=True, stdout=subprocess.DEVNULL)
    site = folder / "site"
    pip = [str(tools / "python"), "-m", "pip", "install", "-qq", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--target", str(site), *map(str, sorted(wheels.glob("*.whl")))], check=True)
    shutil.copytree(project / "src" / "hello_service", site / "hello_service")
    make = [environment.ensure().program("shiv"), "--site-packages", str(site), "--entry-point", MAIN]
    subprocess.run([*make, "--python", str(python.resolve()), "--output-file", str(shiv)], check=True)
    return [Way("pex's default", [str(zipapp)]), Way("shiv", [str(shiv)])]


def measure(project: Path, ways: Sequence[Way], folder: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Return the least seconds of several rounds, for each row by way; a round measures every way.

    :param project: whose Python runs them.
    :param folder: where they unpack themselves, in `unpacked`.
    """
    unpacked = folder / "unpacked"
    python = (project / ".venv" / "bin" / "python").resolve()
    environ = {"PATH": f"{python.parent}:/usr/bin:/bin", "HOME": str(folder)}
    found: dict[str, dict[str, float]] = {row: {} for row in ROWS}
    for number in range(rounds):
        for way in ways:
            # Nothing is removed between: ext4 looks long for an inode where many were freed just before.
            root = str(unpacked / f"{number}-{ways.index(way)}")
            for row, seconds in _round(way, {**environ, "PEX_ROOT": root, "SHIV_ROOT": root}):
                found[row][way.name] = min(seconds, found[row].get(way.name, seconds))
    return found


def _round(way: Way, environ: Mapping[str, str]) -> Iterator[tuple[str, float]]:
    with cost.serving(way.command, environ) as pid:
        first = cost.of_process(pid)
    if way.unpacks:
        yield FIRST, first
    with cost.serving(way.command, environ) as pid:
        yield LATER, cost.of_process(pid)
    for row, flag in ((HELP, "--help"), (VERSION, "--version")):
        yield row, cost.of_command([*way.command, flag], environ)


def table(ways: Sequence[Way], found: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return the lines of a table: each way's figures, and how they are beside the first one's."""
    names = [each.name for each in ways]
    lines = [f"| | {' | '.join(names)} |", "|---" * (1 + len(names)) + "|"]
    for row in ROWS:
        cells = [_cell(found[row].get(each), found[row].get(names[0])) for each in names]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return lines


def _cell(seconds: float | None, base: float | None) -> str:
    if seconds is None:
        return "-"
    told = f"{seconds * 1000:.0f} ms"
    return told if base in (None, seconds) else f"{told}, {seconds / base:.2f} x"
