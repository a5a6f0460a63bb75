"""How a service is built: what the build reads, compares and writes, without a real pex."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import pytest

from halfsync import built
from halfsync.build import audit, distributions, guard, pex, project, sbom, targets, verify
from halfsync.build.__main__ import main
from halfsync.build.errors import BuildError

VALIDATE = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
sys.exit(JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read()))
"""
PYTHON = {**targets.Target((3, 11), "x86_64").environment}


def wheel(folder, name, version, *headers, files=None):
    """Make a wheel that has metadata and nothing to import."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        text = "\n".join(["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *headers])
        archive.writestr(f"{info}/METADATA", text + "\n")
        for file, data in (files or {}).items():
            archive.writestr(f"{info}/{file}", data)
    return path


@pytest.fixture
def service(tmp_path):
    """A service's folder with two wheels that its lock names, and one that it has built from source."""
    root = tmp_path / "shop"
    wheels = root / ".build" / "wheels"
    paths = [
        wheel(
            wheels,
            "Base.Lib",
            "2.0",
            "License-Expression: MIT",
            "Requires-Dist: leaf>=1",
            'Requires-Dist: other; extra == "more"',
            files={"licenses/LICENSE": "Do what you like.\n", "RECORD": ""},
        ),
        wheel(wheels, "leaf", "1.0", "Classifier: License :: OSI Approved :: BSD License"),
    ]
    wheel(wheels, "other", "3.0+here", "License: Its own words")
    (root / ".build" / "source").mkdir()
    (root / ".build" / "source" / "other-3.0.tar.gz").write_bytes(b"")
    lock = "".join(
        f"{path.name.split('-')[0].replace('_', '-').lower()}=={path.name.split('-')[1]} \\\n"
        f"    --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"
        for path in paths
    )
    (root / "requirements.lock").write_text(f"# by make lock\n{lock}")
    (root / "tools.lock").write_text("pex==2 \\\n    --hash=sha256:00\n")
    (root / "Makefile").write_text("pex:\n")
    (root / ".gitignore").write_text("/.build/\n")
    (root / "pyproject.toml").write_text(
        '[project]\nrequires-python = ">=3.12"\ndependencies = ["base-lib[more]>=1"]\n'
    )
    (root / "src" / "shop").mkdir(parents=True)
    (root / "src" / "shop" / "__init__.py").write_text('"""A shop."""\n\n__version__ = "1.4"\n')
    return project.Project(root, "shop", "shop")


def git(service, *arguments):
    author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    command = ["git", "-C", service.root, *author, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_bill_is_valid_and_complete(service):
    """Every wheel with its hash and licence, every dependency, extras too, by the published schema."""
    found = distributions.read_locked(service, service.wheels)
    text = sbom.bill("shop", "1.4", service.requirements(), found, [PYTHON])
    # Elsewhere: its import gives a logger a level, and other tests look at those of this process.
    assert (
        subprocess.run([sys.executable, "-c", VALIDATE], input=text, text=True, check=False).returncode == 0
    )
    document = json.loads(text)
    components = {each["name"]: each for each in document["components"]}
    assert components["Base.Lib"]["licenses"] == [{"expression": "MIT"}]
    assert components["leaf"]["licenses"] == [{"license": {"name": "BSD License"}}]
    (file,) = components["leaf"]["components"]
    digest = hashlib.sha256((service.wheels / file["name"]).read_bytes()).hexdigest()
    assert file["hashes"] == [{"alg": "SHA-256", "content": digest}]
    needs = {each["ref"]: each["dependsOn"] for each in document["dependencies"]}
    other = "pkg:generic/other@3.0%2Bhere"
    assert needs["pkg:generic/shop@1.4"] == ["pkg:pypi/base-lib@2.0"]
    assert needs["pkg:pypi/base-lib@2.0"] == [other, "pkg:pypi/leaf@1.0"]
    without = sbom.bill("shop", "1.4", ["base-lib"], found, [PYTHON])
    assert other not in {each for one in json.loads(without)["dependencies"] for each in one["dependsOn"]}
    assert text == sbom.bill("shop", "1.4", service.requirements(), list(reversed(found)), [PYTHON])


def test_the_licences_are_one_text(service):
    """Every distribution is named with what it says and brings."""
    text = sbom.licenses(distributions.read_locked(service, service.wheels))
    assert "base-lib 2.0: MIT\n" in text
    assert "--- licenses/LICENSE\n\nDo what you like.\n" in text
    assert "leaf 1.0: BSD License\n" in text
    assert "other 3.0+here: Its own words\n" in text


def test_a_wheel_that_the_lock_does_not_name_is_refused(service):
    """Whoever puts another into the folder is found out at the next build."""
    path = service.wheels / "leaf-1.0-py3-none-any.whl"
    wheel(service.wheels, "leaf", "1.0", "License: another")
    with pytest.raises(BuildError, match=r"leaf-1.0-py3-none-any.whl: requirements.lock does not name it"):
        distributions.read_locked(service, service.wheels)
    path.write_bytes(b"no zip")
    with pytest.raises(BuildError, match="it is no wheel"):
        distributions.read_locked(service, service.wheels)


def test_the_commit_is_git_s(service):
    """None outside a repository and in one without a commit; a changed or a new file is told."""
    assert service.commit() == project.Commit(None)
    git(service, "init", "-q")
    assert service.commit() == project.Commit(None)
    git(service, "add", ".")
    git(service, "commit", "-qm", "x")
    name = git(service, "rev-parse", "HEAD")
    assert service.commit() == project.Commit(name)
    (service.root / "new").write_text("")
    assert service.commit() == project.Commit(name, changed=True)


def test_a_folder_that_the_repository_ignores_has_no_commit(service):
    """That it lies in somebody's repository says nothing about it."""
    (service.root.parent / ".gitignore").write_text("shop\n")
    outer = project.Project(service.root.parent, "outer", "outer")
    git(outer, "init", "-q")
    git(outer, "add", ".")
    git(outer, "commit", "-qm", "x")
    assert service.commit() == project.Commit(None)


def test_a_repository_that_git_cannot_read_stops_the_build(service):
    """Else the file would silently lack its commit."""
    (service.root / ".git").write_text("gitdir: /nowhere\n")
    with pytest.raises(BuildError, match="git ls-files: fatal"):
        service.commit()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "it names no commit"),
        ({"commit": "0" * 40, "changed": True}, "and changes that no commit has"),
        ({"commit": "0" * 40}, "is not in this repository: git fetch"),
        ({"commit": "0" * 40, "pythons": ["2.7"]}, "it was built by Python 2.7"),
    ],
)
def test_what_cannot_be_verified_is_told(service, capsys, monkeypatch, change, said):
    """By one line that says what would be right."""
    facts = {"commit": None, "changed": False, "pythons": [targets.minor()], **change}
    path = service.root.parent / "some.pex"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("shop/_build/build.json", json.dumps(facts))
    git(service, "init", "-q")
    monkeypatch.chdir(service.root)
    assert main(["verify", "--slug", "shop", "--package", "shop", "--file", str(path)]) == 1
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(("content", "said"), [(None, "No such file"), (b"text", "it is no pex of shop")])
def test_what_is_no_pex_is_told(service, tmp_path, content, said):
    """A missing file and one that `make pex` has not built."""
    path = tmp_path / "some.pex"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BuildError, match=said):
        verify.facts_of(service, path)


def test_an_auditor_that_cannot_be_fetched_is_told(service, monkeypatch):
    """By one line, and it does not pass."""
    (service.root / ".tools").mkdir()
    (service.root / "no-uv").write_text("#!/bin/sh\necho first >&2\necho no route to host >&2\nexit 2\n")
    (service.root / "no-uv").chmod(0o755)
    (service.root / "uv").symlink_to("no-uv")
    monkeypatch.setattr("sys.executable", str(service.root / "python"))
    told = r"^not audited: pip-audit==[\d.]+ cannot be fetched: first / no route to host$"
    with pytest.raises(BuildError, match=told):
        audit.audit(service)


AUDITOR = """\
import json, pathlib
from sys import argv
name = argv[argv.index("--requirement") + 1]
assert pathlib.Path(name).exists()
print(json.dumps({"dependencies": [{"name": "leaf", "version": "1.0", "vulns": []}]}))
"""


@pytest.mark.parametrize("right", [True, False])
def test_an_auditor_is_what_its_lock_names(service, tmp_path, monkeypatch, right):
    """With the hash in the lock it runs, from a folder of its own; another file of that name does not."""
    path = wheel(tmp_path / "shelf", "pip-audit", "1.0")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("pip_audit.py", AUDITOR)
        archive.writestr("pip_audit-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("pip_audit-1.0.dist-info/RECORD", "")
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if right else "0" * 64
    lock = tmp_path / "audit.lock"
    lock.write_text(f"pip-audit==1.0 --hash=sha256:{digest}\n")
    (service.root / ".tools").mkdir()
    monkeypatch.setattr(audit, "LOCK", lock)
    monkeypatch.setenv("UV_FIND_LINKS", str(path.parent))
    monkeypatch.setenv("UV_OFFLINE", "1")
    if right:
        assert audit.audit(service) == ["1 distributions of requirements.lock looked up: 0 advisories"]
        assert [each.name.rpartition("-")[0] for each in (service.root / ".tools").iterdir()] == ["pip-audit"]
    else:
        with pytest.raises(BuildError, match=r"^not audited: pip-audit==1\.0 cannot be fetched: .*sha256"):
            audit.audit(service)
        assert list((service.root / ".tools").iterdir()) == []


def test_the_facts_are_told_to_people(service, monkeypatch):
    """A line each after the version; nothing for a service that runs from its source."""
    assert built.lines("no_such_package") == []
    monkeypatch.syspath_prepend(service.root / "src")
    assert built.lines("shop") == []
    facts = {
        "commit": "abc",
        "changed": True,
        "locks": {"requirements.lock": "12"},
        "library": "0.2",
        "pex": "2",
        "pythons": ["3.11", "3.12"],
        "platforms": ["linux-x86_64"],
    }
    (service.root / "src" / "shop" / "_build").mkdir()
    (service.root / "src" / "shop" / "_build" / "build.json").write_text(json.dumps(facts))
    assert built.lines("shop") == [
        "commit: abc, and changes that are not in it",
        "requirements.lock: sha256:12",
        "halfsync: 0.2",
        "pex: 2",
        "for: CPython 3.11, 3.12 on linux-x86_64",
    ]


def guarded(monkeypatch, capsys, **changed):
    """Run what a pex runs ahead of pex's own code, for CPython 3.11 on x86_64; return its exit and words."""
    monkeypatch.setattr("platform.libc_ver", lambda: changed.get("libc", ("glibc", "2.36")))
    monkeypatch.setattr("platform.machine", lambda: changed.get("machine", "x86_64"))
    monkeypatch.setattr("sys.platform", changed.get("platform", "linux"))
    monkeypatch.setattr("sys.excepthook", sys.excepthook)
    monkeypatch.setattr("warnings.formatwarning", warnings.formatwarning)
    monkeypatch.setenv("PATH", changed.get("path", ""))
    monkeypatch.delenv("PEX_PYTHON", raising=False)
    monkeypatch.setenv("_PEX_CACHE_SET_LAST_ACCESS", "0")
    names = {}
    exec(compile(guard.GUARD.read_text("utf-8"), "guard", "exec"), names)
    pythons = changed.get("pythons", (targets.minor(),))
    try:
        names["__guard__"]("shop", "much", pythons, "linux", ("x86_64",), changed.get("glibc", 28))
    except SystemExit as end:
        return end.code, capsys.readouterr().err
    return None, capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"machine": "riscv64"}, "this is Linux on riscv64"),
        ({"platform": "darwin"}, "this is Linux on x86_64"),
        ({"libc": ("", "")}, "this Python stands on another C library than glibc"),
        ({"libc": ("glibc", "2.17")}, "this is glibc 2.17"),
        (
            {"pythons": ("2.7",)},
            f"there is none on the PATH; this is Python {targets.minor()}, {sys.executable}",
        ),
    ],
)
def test_where_a_pex_cannot_run_it_says_so(monkeypatch, capsys, changed, said):
    """In one line that names what it needs and what is there, and with exit code 1."""
    code, told = guarded(monkeypatch, capsys, **changed)
    assert (code, told) == (1, f"shop: it needs much, and {said}\n")


@pytest.mark.parametrize("changed", [{}, {"libc": ("", ""), "glibc": 0}, {"libc": ("glibc", "2.28")}])
def test_where_a_pex_can_run_nothing_is_said(monkeypatch, capsys, changed):
    """What its wheels need is there."""
    assert guarded(monkeypatch, capsys, **changed) == (None, "")


def test_another_python_on_the_path_will_do(monkeypatch, capsys, tmp_path):
    """pex goes on with it; one that is only called so does not count."""
    python = tmp_path / "python3"
    python.write_text("#!/bin/sh\necho 2.7\n")
    python.chmod(0o755)
    assert guarded(monkeypatch, capsys, pythons=("2.7",), path=str(tmp_path)) == (None, "")
    python.write_text("#!/bin/sh\necho 2.6\n")
    assert guarded(monkeypatch, capsys, pythons=("2.7",), path=str(tmp_path))[0] == 1


def test_a_file_that_pex_makes_otherwise_is_not_guarded(tmp_path):
    """A newer pex is found out when it builds, and not by who cannot start the file."""
    path = tmp_path / "some.pex"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__main__.py", "import os\n")
    with pytest.raises(BuildError, match=r"its shell script is not that of pex 2\.105"):
        guard.guard(path, "shop", targets.here())


def test_a_build_that_fails_leaves_the_file_that_was_there(service, monkeypatch):
    """And two at once write to places of their own, so that neither finds half of the other's file."""
    places = []

    def runs_pex(_project, arguments):
        place = Path(arguments[arguments.index("--output-file") + 1])
        places.append(place)
        with zipfile.ZipFile(place, "w") as archive:
            archive.writestr("__main__.py", "nothing that can be guarded")

    monkeypatch.setattr(pex, "run_pex", runs_pex)
    monkeypatch.setattr(
        distributions, "installed", lambda _name: distributions.read_locked(service, service.wheels)[0]
    )
    service.pex().parent.mkdir()
    service.pex().write_text("the one before")
    for _ in range(2):
        with pytest.raises(BuildError, match="its shell script"):
            pex.compose(service, targets.here(), service.wheels, service.pex(), [])
    assert service.pex().read_text() == "the one before"
    assert list(service.pex().parent.iterdir()) == [service.pex()]
    assert len({*places, service.pex()}) == 3
    monkeypatch.setattr(pex, "guard", lambda *_: None)
    assert pex.compose(service, targets.here(), service.wheels, service.pex(), [])[0] == service.pex()
    assert zipfile.is_zipfile(service.pex())
    assert len(list(service.pex().parent.iterdir())) == 4


def test_the_platforms_are_complete():
    """Every Python from the service's oldest on both kinds of machine, by the tags that packaging knows."""
    every = targets.everywhere((3, 12))
    assert [(each.minor, each.machine) for each in every] == [
        ("3.12", "x86_64"),
        ("3.12", "aarch64"),
        ("3.13", "x86_64"),
        ("3.13", "aarch64"),
    ]
    told = json.loads(targets.Target((3, 12), "aarch64").complete_platform())
    assert told["compatible_tags"][0] == "cp312-cp312-manylinux_2_28_aarch64"
    assert {"cp311-abi3-manylinux2014_aarch64", "py3-none-any"} <= set(told["compatible_tags"])
    assert not [each for each in told["compatible_tags"] if "manylinux_2_29" in each or "2_16" in each]
    assert told["marker_environment"]["python_version"] == "3.12"


@pytest.mark.parametrize(
    ("wheels", "glibc"),
    [
        (["a-1-py3-none-any.whl"], 0),
        (["a-1-cp311-cp311-manylinux1_x86_64.manylinux_2_5_x86_64.whl", "b-1-py3-none-any.whl"], 5),
        (["a-1-cp311-abi3-manylinux_2_34_x86_64.whl", "b-1-cp311-cp311-manylinux2014_x86_64.whl"], 34),
    ],
)
def test_the_oldest_c_library_is_that_of_the_wheels(wheels, glibc):
    """Of each wheel the oldest that it is made for, of all the newest."""
    assert targets.here().with_wheels(wheels).glibc == glibc
