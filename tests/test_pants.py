"""A real Pants lists, tests and packages a generated service; the first run fetches it: two minutes."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import CACHE, Bake, furnish, pythons

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

    def __init__(self, project: Path, home: Path) -> None:
        self.project = project
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

    def _site(self, pex: Path) -> str:
        # Pants fetches a pex of pex from GitHub; here it is one that the service's own tools build.
        version = re.search(r"(?m)^pex==(\S+)", (self.project / "tools.lock").read_text())
        assert version
        command = [self.project / ".tools" / "bin" / "pex", f"pex=={version[1]}", "-c", "pex", "-o", pex]
        command += ["--venv", "prepend", "--interpreter-constraint", "CPython>=3.9"]
        subprocess.run(command, check=True, capture_output=True)
        data = pex.read_bytes()
        known = f"v{version[1]}|linux_x86_64|{hashlib.sha256(data).hexdigest()}|{len(data)}"
        authorities = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
        # pip 23.1.2, Pants' default, dies with AssertionError on the direct URLs of a lock of pex's.
        return f"""\
[GLOBAL]
ca_certs_path = "{authorities}"
[pex-cli]
version = "v{version[1]}"
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


@pytest.fixture(scope="module")
def pants(bake: Bake, tmp_path_factory: pytest.TempPathFactory) -> Pants:
    """Pants, in a service as it was generated and with the lock of pytest that pants.toml tells to make."""
    if python39() is None or "3.11" not in pythons():
        pytest.skip("there is no Python 3.9, which Pants 2.17 runs on, beside a 3.11")
    project = furnish(bake(web="wsgi"), pythons()["3.11"])
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    told = re.search(
        r"(?s)\n#   (\.tools/bin/pex3 lock .*?-o pytest\.lock)\n", (project / "pants.toml").read_text()
    )
    assert told
    command = told[1].replace("\\\n#", "") + f" --python-path {pythons()['3.11']}"
    subprocess.run(["sh", "-c", command], cwd=project, check=True, capture_output=True)
    return Pants(project, tmp_path_factory.mktemp("pants"))


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
