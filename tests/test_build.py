from __future__ import annotations

import filecmp
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import warnings
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from hooks import pre_gen_project

from .conftest import CACHE, ROOT, Bake, furnish, make, pythons

if TYPE_CHECKING:
    from pathlib import Path

# A registry that is not there: whoever asks it fails.
OFFLINE = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}


def names(pex: Path) -> set[str]:
    """Return what stands at the top of a pex."""
    with zipfile.ZipFile(pex) as archive:
        return {name.split("/")[0] for name in archive.namelist()}


def distributions(pex: Path) -> dict[str, str]:
    """Return the distributions in a pex: normalised name -> version."""
    with zipfile.ZipFile(pex) as archive:
        wheels = {name.split("/")[1] for name in archive.namelist() if name.startswith(".deps/")}
    return {wheel.split("-")[0].replace("_", "-").lower(): wheel.split("-")[1] for wheel in wheels if wheel}


def test_pex_holds_what_runs_and_nothing_else(pex: Path, baked: Path) -> None:
    """The pex has the package, and of the lock what this platform needs, in the versions locked."""
    assert names(pex) == {".bootstrap", ".deps", "PEX-INFO", "__main__.py", "__pex__", "hello_service"}
    lock = dict(re.findall(r"^([\w.-]+)==([\w.+]+)", (baked / "requirements.lock").read_text(), re.MULTILINE))
    held = distributions(pex)
    assert held.items() <= lock.items()
    assert {"flask", "oscar-flag", "treq", "twisted"} <= held.keys()
    with zipfile.ZipFile(pex) as archive:
        assert not [name for name in archive.namelist() if name.endswith(".pyc") or "__pycache__" in name]
        sources = {name for name in archive.namelist() if name.startswith("hello_service/")}
    on_disk = {
        path.relative_to(baked / "src").as_posix()
        for path in (baked / "src" / "hello_service").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    facts = {f"hello_service/_build/{name}" for name in ("build.json", "sbom.json", "licenses.txt")}
    assert {name for name in sources if not name.endswith("/")} == on_disk | facts


def test_sbom_and_licences_are_beside_the_pex_and_in_it(pex: Path) -> None:
    """The same bytes; the bill is CycloneDX by its schema, and names just what the pex holds."""
    bill = pex.with_suffix(".sbom.json").read_bytes()
    with zipfile.ZipFile(pex) as archive:
        assert archive.read("hello_service/_build/sbom.json") == bill
        licences = archive.read("hello_service/_build/licenses.txt")
        assert archive.read("hello_service/_build/build.json") == pex.with_suffix(".build.json").read_bytes()
        held = {name.split("/")[1] for name in archive.namelist() if name.startswith(".deps/")} - {""}
    assert licences == pex.with_suffix(".licenses.txt").read_bytes()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill.decode()) is None
    components = json.loads(bill)["components"]
    assert {each["name"] for one in components for each in one.get("components", ())} == held
    named = {
        (each["name"].lower().replace(".", "-").replace("_", "-"), each["version"]) for each in components
    }
    assert set(re.findall(r"(?m)^=+\n(\S+) (\S+): ", licences.decode())) == named
    assert [each["name"] for each in components if "licenses" not in each] == []


def test_a_pex_is_verified_by_its_commit(bake: Bake, tmp_path: Path) -> None:
    """`make verify` builds the commit again elsewhere; another commit's bytes, or another file's, differ."""
    project = furnish(bake(tmp_path / "original"))
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]

    def commit() -> None:
        # Links are no folders, which .gitignore lists.
        (project / ".git" / "info" / "exclude").write_text(".tools\n.build\n.venv\n")
        for words in (["add", "."], ["commit", "-qm", "x"]):
            subprocess.run([*git, *words], cwd=project, check=True)

    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    commit()
    make(project, "pex")
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=project, text=True).strip()
    file = shutil.copy(project / "dist" / "hello-service.pex", tmp_path / "deployed.pex")
    assert json.loads((project / "dist" / "hello-service.build.json").read_text())["commit"] == head
    with (project / "src" / "hello_service" / "tasks.py").open("a") as source:
        source.write("# another commit\n")
    commit()
    said = make(project, "verify", f"FILE={file}", **OFFLINE).stdout
    assert said == f"{file}: the same bytes as commit {head} builds\n"
    command = ["make", f"PYTHON={next(iter(pythons().values()))}", "verify", f"FILE={file}"]
    # What is compiled, as by another Python; then a source, by whoever left the commit that it names.
    for name, said in (
        (".bootstrap/first-start", "the sources are the same, and not what is compiled of them"),
        ("hello_service/more.py", ".bootstrap/first-start, hello_service/more.py differ"),
    ):
        with warnings.catch_warnings(), zipfile.ZipFile(file, "a") as archive:
            warnings.filterwarnings("ignore", "Duplicate name")
            archive.writestr(name, "")
        run = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
        assert run.returncode != 0
        assert f"not what commit {head} builds: {said}" in run.stderr


class Advisories(BaseHTTPRequestHandler):
    """A database in the manner of OSV that knows of one version of one distribution."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = {"vulns": [ADVISORY]} if asked["package"]["name"] == "flask" else {}
        body = json.dumps(known).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


ADVISORY = {
    "id": "PYSEC-0000-1",
    "aliases": ["CVE-0000-0001"],
    "summary": "made up",
    "schema_version": "1.6.0",
    "affected": [
        {
            "package": {"name": "flask", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.0"}]}],
        }
    ],
}


def test_the_lock_is_audited(baked: Path) -> None:
    """An advisory fails `make audit` and is named, one that is ignored does not; all are asked for."""
    command = ["make", "--no-print-directory", f"PYTHON={next(iter(pythons().values()))}", "audit"]
    with ThreadingHTTPServer(("127.0.0.1", 0), Advisories) as database:
        threading.Thread(target=database.serve_forever, daemon=True).start()
        # The ARGS of a make that runs the tests are not this one's.
        ours = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL"}}
        there = {**ours, "PIP_AUDIT_OSV_URL": f"http://127.0.0.1:{database.server_port}/v1/query"}

        def audit(*more: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [*command, *more], cwd=baked, env=there, capture_output=True, text=True, check=False
            )

        told, ignored = audit(), audit("ARGS=--ignore-vuln=PYSEC-0000-1")
        database.shutdown()
        gone = audit()
    locked = len(re.findall(r"(?m)^[\w.-]+==", (baked / "requirements.lock").read_text()))
    flask = re.search(r"(?m)^flask==(\S+)", (baked / "requirements.lock").read_text())
    assert flask
    assert told.stdout.splitlines() == [
        f"flask {flask[1]}: PYSEC-0000-1 CVE-0000-0001: fixed in 99.0",
        f"{locked} distributions of requirements.lock looked up: 1 advisories",
    ], told.stderr
    assert told.returncode != 0
    assert (ignored.returncode, ignored.stdout.splitlines()[-1][-12:]) == (0, "0 advisories")
    assert gone.returncode != 0
    assert gone.stderr.startswith("hello-service: not audited: the database that pip-audit==")


def test_pex_is_the_same_bytes_anywhere(pex: Path, baked: Path, tmp_path: Path) -> None:
    """Built in another folder, at another time, with another umask, all caches empty: the same."""
    project = tmp_path / "elsewhere"
    shutil.copytree(baked, project, ignore=shutil.ignore_patterns(".tools", ".build", ".venv", "dist"))
    for path in (project / "src").rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
        os.utime(path, (1e9, 1e9))
    (project / ".tools").symlink_to(baked / ".tools")
    # What was fetched before stands in for the registry, and is checked against the lock all the same.
    shelf = shutil.copytree(baked / ".build" / "source", tmp_path / "shelf")
    built = {path.name.split("-")[0].replace(".", "_") for path in shelf.iterdir()}
    assert built == {"oscar_flag"}
    for wheel in (baked / ".build" / "wheels").iterdir():
        if wheel.name.split("-")[0] not in built:
            shutil.copy(wheel, shelf)
    shelves = {**OFFLINE, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(shelf)}
    old = os.umask(0o077)
    try:
        make(project, "pex", PEX_ROOT=f"{tmp_path}/pex", HOME=str(tmp_path), TZ="Asia/Kathmandu", **shelves)
    finally:
        os.umask(old)
    assert filecmp.cmp(project / "dist" / pex.name, pex, shallow=False)


def test_rebuild_needs_no_network(pex: Path, baked: Path, bake: Bake, tmp_path: Path) -> None:
    """Once the wheels are there, a changed source is built without a registry."""
    project = furnish(bake(tmp_path))
    with (project / "src" / "hello_service" / "tasks.py").open("a") as source:
        source.write("# changed\n")
    make(project, "pex", **OFFLINE)
    assert not filecmp.cmp(project / "dist" / pex.name, pex, shallow=False)


def test_wheel_with_another_hash_is_refused(baked: Path, bake: Bake, tmp_path: Path) -> None:
    """What does not match the lock is not installed, and nothing half-made is taken for whole later."""
    project = bake(tmp_path)
    (project / ".tools").symlink_to(baked / ".tools")
    lock = project / "requirements.lock"
    lock.write_text(re.sub(r"(?<=--hash=sha256:)[0-9a-f]{64}", "0" * 64, lock.read_text()))
    command = ["make", f"PYTHON={next(iter(pythons().values()))}", "setup"]
    shelf = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": f"{baked}/.build/wheels"}
    for _ in range(2):
        run = subprocess.run(
            command, cwd=project, env={**os.environ, **shelf}, capture_output=True, text=True, check=False
        )
        assert run.returncode != 0
        assert "HASHES" in run.stderr
        assert not (project / ".venv").exists()


@pytest.mark.parametrize("web", ["wsgi", "async", "none"])
def test_dependency_names_are_refused_as_package_names(bake: Bake, web: str) -> None:
    """The hook's list of modules that the service depends on is complete."""
    project = furnish(bake(web=web, rpc="thrift"))
    (site,) = (project / ".venv" / "lib").glob("python3.*/site-packages")
    tops = {path.name.removesuffix(".py").split(".")[0] for path in site.iterdir()}
    candidates = {top for top in tops if re.fullmatch(r"[a-z][a-z0-9_]*", top) and (site / top).suffix == ""}
    candidates = {top for top in candidates if (site / top).is_dir() or (site / f"{top}.py").exists()}
    assert candidates - {"service"} <= pre_gen_project.DEPENDENCIES


def test_tool_names_are_refused_as_package_names(baked: Path) -> None:
    """The hook's list of what the tools import is complete."""
    (site,) = (baked / ".tools" / "lib").glob("python3.*/site-packages")
    tops = {
        path.name.split(".")[0] for path in site.iterdir() if path.is_dir() or path.suffix in {".py", ".so"}
    }
    candidates = {top for top in tops if re.fullmatch(r"[a-z][a-z0-9_]*", top)}
    # mypyc names its shared objects by a hash.
    candidates = {top for top in candidates if not re.fullmatch(r"[0-9a-f]{20}__mypyc", top)}
    assert candidates - pre_gen_project.TOOLS - pre_gen_project.DEPENDENCIES == set()


@pytest.mark.parametrize("gone", ["venv", "python", "anything"])
def test_what_is_missing_is_said(bake: Bake, tmp_path: Path, gone: str) -> None:
    """Without a Python that can make environments, make says what to install."""
    project = bake(tmp_path)
    python = tmp_path / "python"
    answer = {
        "venv": f'case "$2" in *ensurepip*) exit 1;; *) exec {sys.executable} "$@";; esac',
        "python": "exit 1",
        "anything": "exit 0",  # make PYTHON=/bin/true
    }[gone]
    python.write_text(f"#!/bin/sh\n{answer}\n")
    python.chmod(0o755)
    run = subprocess.run(
        ["make", f"PYTHON={python}", "run"], cwd=project, capture_output=True, text=True, check=False
    )
    assert run.returncode != 0
    assert ("apt install python3-venv" if gone == "venv" else f"{python} is no Python >= 3.11") in run.stderr
    assert not (project / ".tools").exists()


def test_locks_name_no_registry(bake: Bake) -> None:
    """Where packages come from is the machine's configuration, not the project's."""
    for path in bake().glob("*.lock"):
        assert "://" not in path.read_text()


def test_lint_tells_everything_at_once(bake: Bake) -> None:
    """What the formatter, ruff and mypy find is told in one run of a service's `make lint`, which fails."""
    project = furnish(bake())
    (project / "src" / "hello_service" / "bad.py").write_text("import os\nTEXT: str  =  1\n")
    run = subprocess.run(
        ["make", f"PYTHON={next(iter(pythons().values()))}", "lint"],
        cwd=project,
        env={**os.environ, "MYPY_CACHE_DIR": str(CACHE / "mypy")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode != 0
    for said in ("File would be reformatted", "F401", "Incompatible types in assignment"):
        assert said in run.stdout


def test_the_templates_own_lint_tells_everything_at_once(tmp_path: Path) -> None:
    """`make lint` of this repository runs every checker, whatever was found, and fails then."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    tools = tmp_path / ".venv" / "bin"
    tools.mkdir(parents=True)
    for name in ("ruff", "mypy"):
        (tools / name).write_text(f'#!/bin/sh\necho "{name} $1" >>ran\ntest "{name}" = mypy\n')
        (tools / name).chmod(0o755)
    run = subprocess.run(
        ["make", "-o", "setup", "lint"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode != 0
    assert (tmp_path / "ran").read_text().splitlines() == [
        "ruff format",
        "ruff check",
        "mypy -p",
        "mypy --explicit-package-bases",
    ]


def test_the_tools_are_made_once(baked: Path, bake: Bake, tmp_path: Path) -> None:
    """What is up to date is not made again: a second `make setup` prints nothing, and asks no registry."""
    project = furnish(bake(tmp_path))
    for _ in range(2):
        assert make(project, "setup", **OFFLINE).stdout == ""


def test_a_test_that_hangs_ends_the_run(bake: Bake) -> None:
    """With the stack of where it hangs, after the two minutes that are generated, or what is set instead."""
    project = furnish(bake())
    assert "\nfaulthandler_timeout = 120 " in (project / "pyproject.toml").read_text()
    (project / "tests" / "test_hang.py").write_text(
        "import threading\n\n\ndef test_hangs():\n    threading.Event().wait()\n"
    )
    run = subprocess.run(
        [
            project / ".tools" / "bin" / "python",
            "-m",
            "pytest",
            "-o",
            "faulthandler_timeout=2",
            "-k",
            "hangs",
        ],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert run.returncode != 0
    assert "in test_hangs" in run.stdout + run.stderr


def test_make_dev_shows_what_fails(bake: Bake) -> None:
    """A change of a source is served, and a handler's error is in the browser, with its line."""
    project = furnish(bake())
    flags = "--web.listen=tcp:0:interface=127.0.0.1 --admin.listen= --log.file=dev.log"
    with subprocess.Popen(
        ["make", f"PYTHON={next(iter(pythons().values()))}", "dev", f"ARGS={flags}"],
        cwd=project,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:

        def read(pattern: str) -> str:
            assert process.stderr is not None
            return next(found[0] for line in process.stderr if (found := re.search(pattern, line)))

        try:
            url = read(r"http://127\.0\.0\.1:\d+/")
            with urllib.request.urlopen(url, timeout=60) as response:
                assert response.read() == b"Hello, world!\n"
            web = project / "src" / "hello_service" / "web.py"
            web.write_text(web.read_text().replace("name=name)", "name=name.no_such_method())"))
            read("a source has changed")
            with pytest.raises(urllib.error.HTTPError) as failed:
                urllib.request.urlopen(url, timeout=60)
            with failed.value:
                page = failed.value.read().decode()
            assert "'str' object has no attribute 'no_such_method'" in page
            assert 'web.py", line' in page
        finally:
            os.killpg(process.pid, signal.SIGTERM)
