from __future__ import annotations

import json
import re
from itertools import product
from typing import TYPE_CHECKING

import pytest

from halfsync.testing import ServiceProcess

from .conftest import CACHE, Bake, furnish, make, pythons
from .test_pex import path_for

if TYPE_CHECKING:
    from pathlib import Path

COMBINATIONS = list(product(("wsgi", "async", "none"), ("none",), pythons()))

DEAD = {
    "wsgi": ("klein",),
    "async": ("flask", "Flask", "WSGI", "wsgi", "web.threads"),
    "none": ("klein", "flask", "Flask", "WSGI", "web.listen", "8080"),
}
"""What no file of the user's may speak of, by the answer to `web`."""


@pytest.fixture(scope="module", params=COMBINATIONS, ids="-".join)
def project(request: pytest.FixtureRequest, bake: Bake) -> tuple[Path, str, str]:
    """A furnished project of one combination: its folder, its answer to `web`, and its Python."""
    web, rpc, minor = request.param
    return furnish(bake(web=web, rpc=rpc, python_version=minor), pythons()[minor]), web, pythons()[minor]


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


def test_nothing_of_the_template_is_left(project: tuple[Path, str, str]) -> None:
    """No file and no name speaks of cookiecutter, holds Jinja, or belongs to another variant."""
    folder, _, _ = project
    for path in files(folder):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"cookiecutter|\{\{|\{%|\{#|#\}", text), path
        assert not re.search(r"[{}@]", path.relative_to(folder).as_posix()), path
        assert not text or text.endswith("\n"), path
        assert not text.endswith("\n\n"), path
        assert not re.search(r"[ \t]+$", text, re.MULTILINE), path


def test_no_dead_option_is_left(project: tuple[Path, str, str]) -> None:
    """What the user owns does not speak of what was not chosen."""
    folder, web, _ = project
    for path in files(folder):
        if path.suffix == ".lock":
            continue
        for word in DEAD[web]:
            assert word not in path.read_text(encoding="utf-8"), (path, word)
    assert (folder / "src" / "hello_service" / "web.py").exists() == (web != "none")


def test_it_lints(project: tuple[Path, str, str]) -> None:
    """The formatter changes nothing, ruff finds nothing, mypy --strict finds nothing."""
    folder, _, python = project
    make(folder, "lint", python=python, MYPY_CACHE_DIR=str(CACHE / "mypy"))


def test_its_tests_pass(project: tuple[Path, str, str]) -> None:
    """Its own tests pass."""
    folder, _, python = project
    make(folder, "test", python=python)


def test_its_pex_serves(project: tuple[Path, str, str], tmp_path: Path) -> None:
    """Its pex is built, starts somewhere else, answers at each of its listeners, and stops cleanly."""
    folder, web, python = project
    make(folder, "pex", python=python)
    pex = folder / "dist" / "hello-service.pex"
    listeners = ["admin", *(["web"] if web != "none" else [])]
    ports = [f"--{each}.listen=tcp:0:interface=127.0.0.1" for each in listeners]
    environ = {"HOME": str(tmp_path), "PATH": path_for(pex)}
    with ServiceProcess([str(pex), *ports], environ=environ, patience=120) as service:
        service.wait_for("service.started")
        assert json.loads(service.get("admin", "/info"))["version"] == "0.1.0"
        if "web" in listeners:
            assert service.get("web", "/?name=pex") == "Hello, pex!\n"
        assert service.stop() == 0


def test_make_alone_prints_help(project: tuple[Path, str, str]) -> None:
    """`make` lists the commands, and makes nothing."""
    folder, _, _ = project
    told = make(folder).stdout
    for command in ("help", "run", "test", "lint", "lock", "pex", "clean"):
        assert f"make {command} " in told
