"""One file for several machines, a file with a Python of its own, and what is said where neither can be."""

from __future__ import annotations

import filecmp
import json
import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from halfsync.testing import ServiceProcess

from . import arm64
from .conftest import Bake, furnish, make, pythons
from .test_build import OFFLINE
from .test_update import commit, git

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(bake: Bake) -> Path:
    """A service with the wheels of another, which `make pex-all` adds its own to."""
    project = furnish(bake())
    shared = (project / ".build").resolve()
    (project / ".build").unlink()
    shutil.copytree(shared, project / ".build", ignore=shutil.ignore_patterns("all"))
    # Links are no folders, which .gitignore lists.
    git(project, "init", "-q")
    (project / ".git" / "info" / "exclude").write_text(".tools\n.build\n.venv\n")
    commit(project, "From the template")
    return project


@pytest.fixture(scope="module")
def everywhere(project: Path) -> Path:
    """What `make pex-all` builds."""
    make(project, "pex-all")
    return project / "dist" / "hello-service-all.pex"


def run(pex: Path, folder: Path, *command: str, path: str = "") -> subprocess.CompletedProcess[str]:
    environ = ["env", "-i", f"HOME={folder}", f"PEX_ROOT={folder}/root", f"PATH={path}"]
    return subprocess.run([*environ, *command, pex, "--version"], capture_output=True, text=True, check=False)


def test_it_has_a_wheel_for_each(everywhere: Path) -> None:
    """Of every distribution with compiled code, one for each Python and machine, or one for all Pythons."""
    with zipfile.ZipFile(everywhere) as archive:
        wheels = {name.split("/")[1] for name in archive.namelist() if name.startswith(".deps/")} - {""}
        facts = json.loads(archive.read("hello_service/_build/build.json"))
    compiled = [each for each in wheels if "-none-any" not in each]
    for name in {each.partition("-")[0] for each in compiled}:
        own = [each for each in compiled if each.startswith(f"{name}-")]
        for machine in ("x86_64", "aarch64"):
            tags = {each.split("-")[2] for each in own if machine in each}
            assert tags >= {"cp311", "cp312", "cp313"} or any("-abi3-" in each for each in own), own
    assert facts["pythons"] == ["3.11", "3.12", "3.13"]
    assert facts["platforms"] == ["linux-x86_64 with glibc >= 2.28", "linux-aarch64 with glibc >= 2.28"]


@pytest.mark.parametrize("minor", ["3.11", "3.12", "3.13"])
def test_it_runs_on_every_python(everywhere: Path, tmp_path: Path, minor: str) -> None:
    """That is here, chosen by PATH."""
    if minor not in pythons():
        pytest.skip(f"there is no Python {minor}")
    place = Path(pythons()[minor]).parent
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / f"python{minor}").symlink_to(place / f"python{minor}")
    done = run(everywhere, tmp_path, "/bin/sh", path=f"{tmp_path}/bin")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "hello-service 0.1.0"), done.stderr
    assert done.stderr.count("\n") <= 1  # no `ldd` is there to ask about musl, of which pex warns


def test_it_serves_on_arm64(everywhere: Path, tmp_path: Path) -> None:
    """The other half of the file: emulated, it unpacks itself, answers at its listeners, and stops."""
    python = arm64.python()
    environ = {"HOME": str(tmp_path), "PEX_ROOT": f"{tmp_path}/root", "PATH": str(python.parent)}
    ports = [f"--{each}.listen=tcp:0:interface=127.0.0.1" for each in ("web", "admin")]
    with ServiceProcess([str(everywhere), *ports], environ=environ, patience=300) as service:
        service.wait_for("service.started")
        assert service.get("web", "/?name=arm64") == "Hello, arm64!\n"
        told = json.loads(service.get("admin", "/info"))
        assert service.stop() == 0
    assert told["build"]["platforms"][1].startswith("linux-aarch64 ")
    # The processor that a program is for, in its 19th byte (elf(5)).
    found = (tmp_path / "root" / "venvs").glob("**/site-packages/cryptography/hazmat/bindings/_rust.abi3.so")
    assert {path.read_bytes()[18] for path in found} == {AARCH64}


AARCH64 = 183


def test_it_is_built_again_without_a_network(project: Path, everywhere: Path, tmp_path: Path) -> None:
    """Once its wheels are there; and is the same file."""
    before = shutil.copy(everywhere, tmp_path / "before.pex")
    make(project, "pex-all", **OFFLINE)
    assert filecmp.cmp(before, everywhere, shallow=False)


def test_it_is_verified_by_its_commit(project: Path, everywhere: Path, tmp_path: Path) -> None:
    """`make verify` builds it again, for the same Pythons and machines, from the commit that it names."""
    head = git(project, "rev-parse", "HEAD").strip()
    deployed = shutil.copy(everywhere, tmp_path / "deployed.pex")
    notes = project / "src" / "hello_service" / "notes.py"
    notes.write_text('"""What the file was not built from."""\n')
    try:
        said = make(project, "verify", f"FILE={deployed}").stdout
    finally:
        notes.unlink()
    assert said == f"{deployed}: the same bytes as commit {head} builds\n"


def test_a_wrong_machine_is_told(everywhere: Path, project: Path, tmp_path: Path) -> None:
    """A file for the other kind of machine says which it needs, in a line."""
    kept = shutil.copy(everywhere, tmp_path / "kept.pex")
    other = "x86_64" if os.uname().machine == "aarch64" else "aarch64"
    make(project, "pex-all", f"ARGS=--machine={other}")
    path = f"{Path(pythons()['3.11']).parent}:/usr/bin:/bin"
    done = run(everywhere, tmp_path, path=path)
    shutil.copy(kept, everywhere)
    wanted = f"CPython 3.11, 3.12 or 3.13 on Linux ({other}) with glibc 2.28 or newer"
    assert done.stderr == f"hello-service: it needs {wanted}, and this is Linux on {os.uname().machine}\n"
    assert done.returncode == 1


def test_a_wrong_python_is_told(pex: Path, tmp_path: Path) -> None:
    """Started by it or found on the PATH, it is one line that names what is needed and what is there."""
    others = [each for minor, each in pythons().items() if minor != next(iter(pythons()))]
    if not others:
        pytest.skip("there is one Python only")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(others[0])
    for done in (run(pex, tmp_path, others[0]), run(pex, tmp_path, "/bin/sh", path=f"{tmp_path}/bin")):
        assert re.fullmatch(
            r"hello-service: it needs CPython 3\.11 on Linux \(\w+\) with glibc 2\.\d+ or newer, "
            r"and there is none on the PATH; this is Python 3\.\d+, /\S+\n",
            done.stderr,
        ), done.stderr
        assert done.returncode == 1


SCIENCE = """\
#!/bin/sh
case "$1" in --version) echo 0.21.0; exit;; esac
while [ $# -gt 1 ]; do [ "$1" != --dest-dir ] || folder=$2; shift; done
cp "$1" "$folder/hello-service"
"""
"""Stands in for the program that puts a scie together: it hands back what it was told to make."""


def test_a_scie_is_of_the_pex_and_this_python(project: Path, tmp_path: Path) -> None:
    """`make scie` has science put the pex and a CPython of the same minor version into one file."""
    science = tmp_path / "science"
    science.write_text(SCIENCE)
    science.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    make(project, "scie", "ARGS=--scie-pbs-release=20260901", PATH=path, PEX_ROOT=f"{tmp_path}/root")
    told = (project / "dist" / "hello-service").read_text()
    assert 'provider = "PythonBuildStandalone"' in told
    assert 'version = "3.11"' in told
    assert 'name = "hello-service.pex"' in told
    assert (project / "dist" / "hello-service.pex").exists()


def test_what_a_scie_lacks_is_said(project: Path, tmp_path: Path) -> None:
    """In a line: what is to be fetched from where, and how to name it."""
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(
        ["make", f"PYTHON={next(iter(pythons().values()))}", "scie"],
        cwd=project,
        env={**os.environ, **nowhere, "PEX_ROOT": f"{tmp_path}/root"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    (line,) = [each for each in done.stderr.splitlines() if not each.startswith("make")]
    assert line.startswith("hello-service: scie: ")
    assert "https://github.com/a-scie/lift/releases" in line
    assert line.endswith("make scie ARGS=--scie-assets-base-url=URL")
