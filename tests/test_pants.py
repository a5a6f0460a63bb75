"""A real Pants lists, tests and packages a generated service; the first run fetches it: two minutes."""

from __future__ import annotations

import copy
import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from . import test_pex
from .combinations import BY_PANTS, note_pants
from .conftest import CACHE, ROOT, Bake, furnish, pythons
from .test_bakes import serves_and_stops
from .test_pex import Running

pytestmark = pytest.mark.slow

PANTS = "2.17.1"
"""The newest that is on PyPI; it runs on Python 3.9 only."""


def python39() -> str | None:
    """Return a Python 3.9, or None where there is none."""
    managed = map(str, sorted(Path.home().glob(".pyenv/versions/3.9.*/bin/python3.9")))
    for place in [*managed, shutil.which("python3.9")]:
        if not place:
            continue
        run = subprocess.run([place, "-c", "import ensurepip"], capture_output=True, check=False)
        if run.returncode == 0:
            return place
    return None


class Pants:
    """Pants in a project, with settings of this site beside the project's own, which stay as generated."""

    def __init__(self, project: Path, home: Path, tools: Path) -> None:
        self.project = project
        self._tools = tools
        self._program = CACHE.parent / f"pants-{PANTS}" / "bin" / "pants"
        if not self._program.exists():
            place = python39()
            assert place
            subprocess.run([place, "-m", "venv", "--clear", self._program.parents[1]], check=True)
            pip = [self._program.with_name("pip"), "install", "-q", f"pantsbuild.pants=={PANTS}"]
            subprocess.run(pip, check=True)
        site = home / "site.toml"
        site.write_text(self._site(home / "pex"))
        # A new folder for what Pants remembers: nothing that an earlier run has built stands in.
        self._environ = {
            **os.environ,
            "PANTS_CONFIG_FILES": f"['{project}/pants.toml','{site}']",
            "PANTS_LOCAL_STORE_DIR": f"{home}/store",
            "PANTS_NAMED_CACHES_DIR": f"{home}/named",
            "PANTS_PANTSD": "false",
            "PANTS_DYNAMIC_UI": "false",
        }

    def elsewhere(self, project: Path) -> Pants:
        """Return the same Pants, with what it remembers, in another project."""
        other = copy.copy(self)
        other.project = project
        config = self._environ["PANTS_CONFIG_FILES"].replace(str(self.project), str(project))
        other._environ = {**self._environ, "PANTS_CONFIG_FILES": config}
        return other

    def _site(self, pex: Path) -> str:
        # Pants fetches a pex of pex from GitHub; here it is one that the service's own tools build.
        python = self._tools / "bin" / "python"
        ask = "import importlib.metadata as each; print(each.version('pex'))"
        version = subprocess.check_output([python, "-c", ask], text=True).strip()
        command = [python, "-m", "pex", f"pex=={version}", "-c", "pex", "-o", pex]
        command += ["--venv", "prepend", "--interpreter-constraint", "CPython>=3.9"]
        subprocess.run(command, check=True, capture_output=True)
        data = pex.read_bytes()
        known = f"v{version}|linux_x86_64|{hashlib.sha256(data).hexdigest()}|{len(data)}"
        authorities = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
        # pip 23.1.2, Pants' default, dies with AssertionError on the direct URLs of a lock of pex's.
        return f"""\
[GLOBAL]
ca_certs_path = "{authorities}"
[pex-cli]
version = "v{version}"
url_template = "file://{pex}"
known_versions = ["{known}"]
[python-bootstrap]
search_path = ["{pythons()["3.11"]}"]
[python]
pip_version = "20.3.4-patched"
"""

    def __call__(self, *arguments: str) -> str:
        """Run a goal, and return what it printed."""
        command = [self._program, *arguments]
        run = subprocess.run(
            command, cwd=self.project, env=self._environ, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout + run.stderr


def needs_pants() -> None:
    """Skip the test where Pants cannot run."""
    if python39() is None or "3.11" not in pythons():
        pytest.skip("there is no Python 3.9, which Pants 2.17 runs on, beside a 3.11")


@pytest.fixture(scope="module")
def pants(bake: Bake, tmp_path_factory: pytest.TempPathFactory) -> Pants:
    """Pants, in a service as it was generated and with the lock of tools that pants.toml tells to make."""
    needs_pants()
    project = furnish(bake(web="wsgi"), pythons()["3.11"])
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    told = re.search(r"(?s)\n#   (\.tools/bin/pex3 lock .*?)\n\[", (project / "pants.toml").read_text())
    assert told
    command = told[1].replace("\\\n#", "") + f" --python-path {pythons()['3.11']}"
    subprocess.run(["sh", "-c", command], cwd=project, check=True, capture_output=True)
    return Pants(project, tmp_path_factory.mktemp("pants"), project / ".tools")


def test_it_lists_every_target(pants: Pants) -> None:
    """Sources, tests, requirements and the pex are targets."""
    listed = set(pants("list", "::").splitlines())
    assert {
        "//:pex",
        "//:requirements#halfsync",
        "src/hello_service/main.py:../sources",
        "tests/test_main.py",
        "tests/test_web.py",
    } <= listed


def test_it_is_clean(pants: Pants) -> None:
    """ruff and mypy find nothing, by the service's own settings; and they do find what is wrong."""
    told = pants("lint", "check", "::")
    assert "All checks passed!" in told
    assert re.search(r"Success: no issues found in \d+ source files", told), told
    wrong = pants.project / "src" / "hello_service" / "wrong.py"
    wrong.write_text('"""Wrong."""\n\nTEXT: str = 1\nif TEXT == None:\n    pass\n')
    try:
        with pytest.raises(AssertionError, match="E711"):
            pants("lint", "::")
        with pytest.raises(AssertionError, match="Incompatible types in assignment"):
            pants("check", "::")
    finally:
        wrong.unlink()


def test_its_tests_pass(pants: Pants) -> None:
    """Every test file passes in Pants' sandbox, the one that starts the service among them."""
    told = pants("test", "::")
    assert len(re.findall(r"✓ tests/test_\w+\.py", told)) == 3, told


def test_its_pex_is_the_same_service(pants: Pants, tmp_path: Path) -> None:
    """The pex takes the same flags as `make pex`'s; its bytes are other ones, as Pants has no sh_boot yet."""
    pants("package", "//:pex")
    pex = pants.project / "dist" / "hello-service.pex"
    environ = {"PATH": f"{Path(pythons()['3.11']).parent}:/usr/bin:/bin", "HOME": str(tmp_path)}
    for flag, said in (("--version", "hello-service 0.1.0"), ("--check_config", "ok")):
        run = subprocess.run([pex, flag], env=environ, capture_output=True, text=True, check=False)
        assert (run.returncode, run.stdout.strip()) == (0, said), run.stderr
    helped = subprocess.run([pex, "--help"], env=environ, capture_output=True, text=True, check=True).stdout
    source = subprocess.run(
        [pants.project / ".venv" / "bin" / "python", "-m", "hello_service", "--help"],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert re.findall(r"(?m)^  --([a-z_.]+)", helped) == re.findall(r"(?m)^  --([a-z_.]+)", source)


def smoke(pex: Path, folder: Path) -> None:
    """What `make pex`'s file must do, in the same tests."""
    with Running.elsewhere(folder, pex, f"{Path(pythons()['3.11']).parent}:/usr/bin:/bin") as running:
        test_pex.test_it_serves(running)
        test_pex.test_its_process_is_the_one_that_was_started(running)
        test_pex.test_manhole_is_toggled_by_a_signal_and_entered_by_ssh(running)
        test_pex.test_it_stops_cleanly(running)


def test_its_pex_passes_the_smoke_tests(pants: Pants, tmp_path: Path) -> None:
    """It serves, takes signals itself, lets an ssh client in, and stops with exit code 0."""
    pants("package", "//:pex")
    smoke(pants.project / "dist" / "hello-service.pex", tmp_path)
    note_pants(BY_PANTS[0])


def test_a_service_without_a_web_is_built(pants: Pants, bake: Bake, tmp_path: Path) -> None:
    """It is packaged by the same Pants, serves RPC, and stops."""
    web, rpc, minor = BY_PANTS[2]
    project = furnish(bake(web=web, rpc=rpc, python_version=minor), pythons()[minor])
    pants.elsewhere(project)("package", "//:pex")
    serves_and_stops(project / "dist" / "hello-service.pex", web, rpc, tmp_path)
    note_pants(BY_PANTS[2])


@pytest.fixture(scope="module")
def monorepo(baked: Path, tmp_path_factory: pytest.TempPathFactory) -> Pants:
    """The repository that docs/building.md describes, as its script makes it."""
    needs_pants()
    home = tmp_path_factory.mktemp("monorepo")
    command = [sys.executable, "-m", "scripts.monorepo", home / "repo", "--python", pythons()["3.11"]]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return Pants(home / "repo", home, baked / ".tools")


def test_a_monorepo_is_tested(monorepo: Pants) -> None:
    """Every test of both services and of the shared library passes."""
    told = monorepo("test", "::")
    passed = set(re.findall(r"✓ (\S+/test_\w+\.py)", told))
    for name in ("alpha", "beta"):
        assert {f"services/{name}/tests/test_{each}.py" for each in ("main", "tasks", "web")} <= passed, told
    assert "libs/greeting/tests/test_greet.py" in passed


def test_each_pex_has_its_own_service_and_what_is_shared(monorepo: Pants, tmp_path: Path) -> None:
    """And nothing of the other; the shared library is from its source, and the pex does what make's does."""
    monorepo("package", "::")
    for name, other, absent in (("alpha", "beta", "klein"), ("beta", "alpha", "flask")):
        pex = monorepo.project / "dist" / f"{name}.pex"
        with zipfile.ZipFile(pex) as archive:
            names = archive.namelist()
        assert {
            f"{name}/main.py",
            "halfsync/life/run.py",
            "halfsync/py.typed",
            "greeting/__init__.py",
        } <= set(names)
        assert [
            each for each in names if each.startswith((f"{other}/", f".deps/{absent}-", ".deps/halfsync"))
        ] == []
        folder = tmp_path / name
        folder.mkdir()
        smoke(pex, folder)
    note_pants(BY_PANTS[1])  # beta's answers


def test_a_change_names_whom_it_concerns(monorepo: Pants) -> None:
    """A change of a shared library concerns both services, one of a service that service alone."""

    def concerned(path: str) -> set[str]:
        file = monorepo.project / path
        before = file.read_bytes()
        file.write_bytes(before + b"# touched\n")
        told = monorepo(
            "--changed-since=HEAD",
            "--changed-dependents=transitive",
            "--filter-target-type=pex_binary",
            "list",
        )
        file.write_bytes(before)
        return {line for line in told.splitlines() if line.startswith("services/")}

    both = {"services/alpha:pex", "services/beta:pex"}
    assert concerned("libs/halfsync/src/halfsync/life/run.py") == both
    assert concerned("libs/greeting/src/greeting/__init__.py") == both
    assert concerned("services/alpha/src/alpha/web.py") == {"services/alpha:pex"}
