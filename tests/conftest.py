"""What the template's tests share: Pythons, bakes, furnished projects, and one real pex."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from functools import cache
from pathlib import Path

import pytest
from cookiecutter.main import cookiecutter

ROOT = Path(__file__).parent.parent
CACHE = ROOT / ".cache" / "bakes"

Bake = Callable[..., Path]
Make = Callable[..., "subprocess.CompletedProcess[str]"]


BAKED: dict[tuple[str, ...], set[str]] = {}
"""The tests of test_bakes.py that have passed in this run, by combination: web, rpc, Python."""


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note what has passed for each combination of answers; combinations.py writes it down."""
    found = re.search(r"test_bakes\.py::(\w+)\[(\w+)-(\w+)-([\d.]+)\]$", report.nodeid)
    if found and report.when == "call" and report.passed:
        BAKED.setdefault(found.groups()[1:], set()).add(found[1])


@cache
def pythons() -> dict[str, str]:
    """Return the Pythons present that the template offers and that have `venv`: minor version -> path."""
    found: dict[str, str] = {}
    for minor in ("3.11", "3.12", "3.13"):
        named = shutil.which(f"python{minor}")
        managed = sorted(Path.home().glob(f".pyenv/versions/{minor}.*/bin/python"))
        for place in [*filter(None, [named]), *map(str, managed)]:
            # Run it: a version manager's shim exists for versions that are not there.
            probe = "import ensurepip, sys; print('%d.%d' % sys.version_info[:2], sys.executable)"
            run = subprocess.run([place, "-c", probe], capture_output=True, text=True, check=False)
            if run.returncode == 0 and run.stdout.startswith(f"{minor} "):
                found[minor] = run.stdout.split(maxsplit=1)[1].strip()
                break
    assert found, "no Python >= 3.11 with venv: Debian, Ubuntu: apt install python3 python3-venv"
    return found


def slow_on_others(minor: str) -> tuple[pytest.MarkDecorator, ...]:
    """Return the marks of what runs on a Python: on any but the first one it is for `make slow`."""
    return () if minor == next(iter(pythons())) else (pytest.mark.slow,)


@pytest.fixture(scope="session")
def cookiecutter_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration of cookiecutter's that keeps the tests out of the home folder."""
    folder = tmp_path_factory.mktemp("cookiecutter")
    path = folder / "config.yaml"
    path.write_text(f"replay_dir: {folder}/replay\ncookiecutters_dir: {folder}/cookiecutters\n")
    return path


@pytest.fixture(scope="session")
def bake(cookiecutter_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Bake:
    """Return a function that generates a project: `bake(web="none")`, or `bake(into, web="none")`."""

    def bake(into: Path | None = None, **answers: str) -> Path:
        return Path(
            cookiecutter(
                str(ROOT),
                no_input=True,
                config_file=str(cookiecutter_config),
                output_dir=str(into or tmp_path_factory.mktemp("bake")),
                extra_context=answers,
            )
        )

    return bake


def make(
    project: Path, *arguments: str, python: str | None = None, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run make in a project, as a person would in a fresh shell; fail with all that it said."""
    ours = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    run = subprocess.run(
        ["make", f"PYTHON={python or next(iter(pythons().values()))}", *arguments],
        cwd=project,
        env={**ours, **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, f"make {' '.join(arguments)} in {project}:\n{run.stdout}\n{run.stderr}"
    return run


def furnish(project: Path, python: str | None = None) -> Path:
    """Give a project the `.tools`, `.build` and `.venv` of an earlier one with the same Python and locks.

    They are links into a cache; the project's own Makefile finds that they are made from the right things.
    """
    python = python or next(iter(pythons().values()))
    tools = _furniture(project, python, ["tools.lock"], {}, "tools")
    carried = [path.relative_to(project).as_posix() for path in sorted((project / "vendor").iterdir())]
    wheels = _furniture(
        project, python, ["tools.lock", "requirements.lock", *carried], {".tools": tools / ".tools"}, "setup"
    )
    for name, place in ((".tools", tools), (".build", wheels), (".venv", wheels)):
        (project / name).symlink_to(place / name)
    return project


def _furniture(project: Path, python: str, locks: list[str], links: dict[str, Path], target: str) -> Path:
    made_from = subprocess.check_output([python, "-VV"]) + python.encode()
    made_from += b"".join((project / name).read_bytes() for name in ("Makefile", *locks))
    folder = CACHE / f"{target}-{hashlib.sha256(made_from).hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder.with_suffix(".lock")):
        for name in ("Makefile", *locks):
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(project / name, folder / name)
        for name, place in links.items():
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(place)
        make(folder, target, python=python)
    return folder


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Have the other processes that run tests wait."""
    with lock.open("w") as file:
        flock(file, LOCK_EX)
        yield


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this run of the tests have in common."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def baked(bake: Bake, shared: Path) -> Path:
    """A project of all defaults, furnished; not to be changed."""
    whole = shared / "baked"
    with alone(shared / "baked.lock"):
        if not whole.exists():
            furnish(bake(shared))
            whole.touch()
    return shared / "hello-service"


@pytest.fixture(scope="session")
def pex(baked: Path) -> Path:
    """The pex of the default project."""
    built = baked / "dist" / "hello-service.pex"
    with alone(baked.with_name("pex.lock")):
        # Written anew, it would change under the tests of another process.
        if not built.exists():
            make(baked, "pex")
    return built


def tail(text: str, lines: int = 40) -> str:
    """Return the end of a text, for a message."""
    return textwrap.indent("\n".join(text.splitlines()[-lines:]), "  ")
