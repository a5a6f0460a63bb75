"""The library as services carry it: a wheel of the same bytes anywhere, pinned by hash, and no other."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from .conftest import ROOT, Bake, furnish, make, pythons

if TYPE_CHECKING:
    from pathlib import Path

BUILD = "import build_wheel, sys; print(build_wheel.build_wheel(sys.argv[1], {'label': 'vendored'}))"
OFFLINE = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}


def build(python: str, source: Path, into: Path) -> Path:
    into.mkdir()
    run = subprocess.run([python, "-c", BUILD, into], cwd=source, capture_output=True, text=True, check=True)
    return into / run.stdout.strip()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_wheel_is_the_same_bytes_anywhere(tmp_path: Path) -> None:
    """On every Python, in another folder, with another umask and other times: the same."""
    built = {build(python, ROOT / "halfsync", tmp_path / minor) for minor, python in pythons().items()}
    copied = tmp_path / "copied"
    shutil.copytree(ROOT / "halfsync", copied, ignore=shutil.ignore_patterns(".*", "__pycache__", "tests"))
    for path in copied.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
        os.utime(path, (1e9, 1e9))
    (copied / "src" / "halfsync" / "left.pyc").write_bytes(b"not ours")
    before = os.umask(0o077)
    try:
        built.add(build(sys.executable, copied, tmp_path / "other"))
    finally:
        os.umask(before)
    assert len({digest(path) for path in built}) == 1
    assert len({path.name for path in built}) == 1


def test_pip_takes_it_as_a_distribution(tmp_path: Path) -> None:
    """`pip wheel` builds it by PEP 517, and its metadata names licence, dependencies and extras."""
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", tmp_path, ROOT / "halfsync"], env={**os.environ, **OFFLINE}, check=True)
    (wheel,) = tmp_path.glob("halfsync-*.whl")
    assert "+" not in wheel.name
    listing = [sys.executable, "-m", "zipfile", "-l", str(wheel)]
    names = subprocess.run(listing, capture_output=True, text=True, check=True).stdout
    for name in (
        "halfsync/py.typed",
        "halfsync/flag.pyi",
        "halfsync/examples/shop_app.py",
        "licenses/LICENSE",
        "RECORD",
    ):
        assert name in names
    assert "tests" not in names


def test_the_skeletons_locks_name_this_wheel(tmp_path: Path) -> None:
    """The hash that is committed is that of the source beside it; `make wheel` renews it."""
    wheel = build(sys.executable, ROOT / "halfsync", tmp_path / "built")
    version = wheel.name.split("-")[1]
    for lock in (ROOT / "{{cookiecutter.project_slug}}").glob("requirements@*.lock"):
        (pin,) = re.findall(r"^halfsync==(\S+) \\\n    --hash=sha256:(\w+)$", lock.read_text(), re.MULTILINE)
        assert pin == (version, digest(wheel)), f"{lock.name}: run make wheel"


def test_a_service_carries_it(bake: Bake) -> None:
    """In vendor/, pinned with its local label; the service notes the version; no source is copied."""
    project = bake()
    (wheel,) = (project / "vendor").iterdir()
    version = wheel.name.split("-")[1]
    assert version.endswith("+vendored")
    assert f'"halfsync=={version}"' in (project / "pyproject.toml").read_text()
    assert digest(wheel) in (project / "requirements.lock").read_text()
    noted = json.loads((project / ".template.json").read_text())
    assert noted["version"] + "+vendored" == version
    assert noted["answers"]["web"] == "wsgi"
    assert not list(project.rglob("chassis"))
    files = [
        path
        for path in project.rglob("*")
        if path.is_file() and path.suffix != ".lock" and path.parent.name != "vendor"
    ]
    assert len(files) <= 30
    assert sum(len(path.read_text().splitlines()) for path in files) <= 1200


def test_another_wheel_is_noticed(bake: Bake, baked: Path) -> None:
    """A wheel that was swapped does not match the lock: setup fails, and the old environment is not used."""
    project = bake()
    for name in (".tools", ".build", ".venv"):
        (project / name).symlink_to(baked / name)
    (wheel,) = (project / "vendor").iterdir()
    wheel.write_bytes(wheel.read_bytes() + b"\n")
    for name in (".build", ".venv"):
        (project / name).unlink()
        shutil.copytree(baked / name, project / name, symlinks=True)
    shelf = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": f"{baked}/.build/source"}
    run = subprocess.run(
        ["make", f"PYTHON={next(iter(pythons().values()))}", "setup"],
        cwd=project,
        env={**os.environ, **shelf},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode != 0
    assert "HASHES" in run.stderr or "No matching distribution" in run.stderr


def test_lock_works_offline_with_what_is_pinned(baked: Path, bake: Bake) -> None:
    """`make lock` changes nothing that nobody asked for: the lock it writes is the one that was there."""
    project = furnish(bake())
    before = (project / "requirements.lock").read_text()
    make(project, "lock")
    assert (project / "requirements.lock").read_text() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"PIP_USER": "1"},
        {"PIP_TARGET": "elsewhere"},
        {"PIP_ONLY_BINARY": ":all:"},
        {"PIP_CONFIG_FILE": "pip.conf"},
    ],
    ids=lambda each: next(iter(each)),
)
def test_what_a_person_set_for_pip_does_no_harm(
    bake: Bake, baked: Path, tmp_path: Path, settings: dict[str, str]
) -> None:
    """pip's settings for other installs, in the environment or in its file, do not break `make setup`."""
    project = bake()
    (project / ".tools").symlink_to(baked / ".tools")
    # What was fetched before stands in for the registry; what comes as source is built again.
    shelf = shutil.copytree(baked / ".build" / "source", tmp_path / "shelf")
    built = {path.name.split("-")[0].replace(".", "_") for path in shelf.iterdir()}
    for wheel in (baked / ".build" / "wheels").iterdir():
        if wheel.name.split("-")[0] not in built:
            shutil.copy(wheel, shelf)
    (project / "pip.conf").write_text(
        "[install]\nuser = true\ntarget = elsewhere\n"
        f"[global]\nonly-binary = :all:\nfind-links = {shelf}\nno-index = true\n"
    )
    shelves = {} if "PIP_CONFIG_FILE" in settings else {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(shelf)}
    make(project, "setup", **shelves, **settings)
    assert not (project / "elsewhere").exists()
    assert list((project / ".venv" / "lib").glob("python3.*/site-packages/halfsync"))


def test_each_project_is_a_step_from_the_readme(baked: Path) -> None:
    """The command that the README names lists and prints each program, in the service's own environment."""
    table = (baked / "README.md").read_text()
    assert "| `.venv/bin/python -m halfsync.recipes` | whole programs: a shop" in table
    command = [baked / ".venv" / "bin" / "python", "-m", "halfsync.recipes"]
    listed = subprocess.run(command, cwd=baked, capture_output=True, text=True, check=True).stdout
    for name, file in (
        ("shop", "shop_app"),
        ("django_admin", "django_admin_app"),
        ("fastapi", "fastapi_app"),
        ("proxy", "proxy_app"),
        ("worker", "worker_app"),
        ("lines", "lines_app"),
    ):
        assert re.search(rf"^{name} ", listed, re.MULTILINE)
        printed = subprocess.run([*command, name], cwd=baked, capture_output=True, text=True, check=True)
        assert printed.stdout == (ROOT / "halfsync" / "examples" / f"{file}.py").read_text()
