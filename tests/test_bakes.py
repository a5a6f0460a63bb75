from __future__ import annotations

import json
import re
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import pytest

from halfsync.testing import ServiceProcess
from rpc_tools import connect

from . import combinations
from .conftest import CACHE, Bake, furnish, make, pythons, slow_on_others
from .rpc_calls import call_hello
from .test_pex import path_for

if TYPE_CHECKING:
    from pathlib import Path

COMBINATIONS = [
    pytest.param(each, id="-".join(each), marks=slow_on_others(each[2]))
    for each in product(("wsgi", "async", "none"), ("none", "thrift"), pythons())
]

WEB = {
    "wsgi": ("klein",),
    "async": ("flask", "Flask", "WSGI", "wsgi", "web.threads"),
    "none": ("klein", "flask", "Flask", "WSGI", "web.listen", "8080"),
}
RPC = {
    "none": ("rpc", "RPC", "thrift", "Thrift", "9091"),
    "thrift": (),
}
"""What no file of the user's may speak of, by the answers to `web` and to `rpc`."""


class Project(NamedTuple):
    """A furnished project of one combination of answers."""

    folder: Path
    web: str
    rpc: str
    python: str


@pytest.fixture(scope="module", params=COMBINATIONS)
def project(request: pytest.FixtureRequest, bake: Bake) -> Project:
    """A furnished project of one combination."""
    web, rpc, minor = request.param
    folder = furnish(bake(web=web, rpc=rpc, python_version=minor), pythons()[minor])
    return Project(folder, web, rpc, pythons()[minor])


def files(project: Path) -> list[Path]:
    """Return the files that were generated."""
    made = {
        ".tools",
        ".build",
        ".venv",
        "vendor",
        ".template.json",
        "dist",
        "__pycache__",
        ".mypy_cache",
        ".ruff_cache",
        ".pytest_cache",
    }
    return [
        path
        for path in project.rglob("*")
        if path.is_file() and not made & set(path.relative_to(project).parts)
    ]


def test_nothing_of_the_template_is_left(project: Project) -> None:
    """No file and no name speaks of cookiecutter, holds Jinja, or belongs to another variant."""
    for path in files(project.folder):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"cookiecutter|\{\{|\{%|\{#|#\}", text), path
        assert not re.search(r"[{}@+]", path.relative_to(project.folder).as_posix()), path
        assert not text or text.endswith("\n"), path
        assert not text.endswith("\n\n"), path
        assert not re.search(r"[ \t]+$", text, re.MULTILINE), path


def test_no_dead_option_is_left(project: Project) -> None:
    """What the user owns does not speak of what was not chosen."""
    folder = project.folder
    for path in files(folder):
        if path.suffix == ".lock":
            continue
        for word in (*WEB[project.web], *RPC[project.rpc]):
            assert word not in path.read_text(encoding="utf-8"), (path, word)
    package = folder / "src" / "hello_service"
    assert (package / "web.py").exists() == (folder / "tests/test_web.py").exists() == (project.web != "none")
    assert (package / "rpc.py").exists() == (folder / "tests/test_rpc.py").exists() == (project.rpc != "none")
    assert (package / "gen").exists() == (package / "hello.thrift").exists() == (project.rpc != "none")
    socket = folder / "deploy" / "systemd" / "hello-service.socket"
    assert socket.exists() == ({project.web, project.rpc} != {"none"})


def test_the_team_owns_little(project: Project) -> None:
    """At most 30 files and 1,200 lines, without what is made: locks, vendor/, Thrift's code, .template.json.

    Of the two definitions of CI a team keeps the one of its forge; the longer one counts.
    """
    owned = [
        path
        for path in files(project.folder)
        if path.suffix != ".lock"
        and path.name != ".gitlab-ci.yml"
        and "gen" not in path.relative_to(project.folder).parts
    ]
    assert len(owned) <= 30
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in owned) <= 1200


def test_it_lints(project: Project) -> None:
    """The formatter changes nothing, ruff finds nothing, mypy --strict finds nothing."""
    make(project.folder, "lint", python=project.python, MYPY_CACHE_DIR=str(CACHE / "mypy"))


def test_its_tests_pass(project: Project) -> None:
    """Its own tests pass."""
    make(project.folder, "test", python=project.python)


def serves_and_stops(pex: Path, web: str, rpc: str, tmp_path: Path) -> None:
    """Hold that a pex starts somewhere else, answers at each of its listeners, and stops cleanly."""
    listeners = [
        "admin",
        *(["web"] if web != "none" else []),
        *(["rpc"] if rpc != "none" else []),
    ]
    ports = [f"--{each}.listen=tcp:0:interface=127.0.0.1" for each in listeners]
    environ = {"HOME": str(tmp_path), "PATH": path_for(pex)}
    with ServiceProcess([str(pex), *ports], environ=environ, patience=120) as service:
        service.wait_for("service.started")
        assert json.loads(service.get("admin", "/info"))["version"] == "0.1.0"
        if "web" in listeners:
            assert service.get("web", "/?name=pex") == "Hello, pex!\n"
        if "rpc" in listeners:
            with connect(service.address("rpc")) as sock:
                assert call_hello(sock, "Zoë") == "Hello, Zoë!"
        assert service.stop() == 0


def test_its_pex_serves(project: Project, tmp_path: Path) -> None:
    """Its pex is built, starts somewhere else, answers at each of its listeners, and stops cleanly."""
    make(project.folder, "pex", python=project.python)
    serves_and_stops(project.folder / "dist" / "hello-service.pex", project.web, project.rpc, tmp_path)


def test_make_alone_prints_help(project: Project) -> None:
    """`make` lists the commands, and makes nothing."""
    told = make(project.folder).stdout
    for command in ("help", "run", "test", "lint", "lock", "pex", "clean"):
        assert f"make {command} " in told
    assert ("make thrift " in told) == (project.rpc == "thrift")


def test_the_table_of_combinations_is_what_was_seen() -> None:
    """docs/combinations.md is written here, after all others: by one process, as a file's tests are."""
    combinations.write_page()


@pytest.mark.slow
def test_the_table_of_combinations_on_other_pythons() -> None:
    """The same for those."""
    combinations.write_page()


def test_the_table_has_no_other_combination() -> None:
    """Each line is of answers that are offered today, and is there once."""
    combinations.check_page()
