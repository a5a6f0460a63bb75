"""Every command that a page shows is run by a test, or it is said here why none can run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from .conftest import ROOT, pythons
from .test_demo import bare_clone
from .test_update import commit, git

if TYPE_CHECKING:
    from pathlib import Path

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "halfsync" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "example" / "README.md",
    ROOT / "example" / "docs" / "recipes.md",
]

RUN = {
    r"make": "test_commands.py::test_make_alone_lists_the_commands",
    r"make demo": "test_demo.py::test_the_demo_works_from_a_bare_clone_and_the_readme_shows_what_it_does",
    r"\.venv/bin/cookiecutter \. -o ~": "test_commands.py::test_a_service_is_generated_as_the_readme_says",
    r"make wheel": "test_commands.py::test_make_wheel_says_where_it_is",
    r"make fuzz": "test_commands.py::test_make_fuzz_reads_requests",
    r"make mutate ARGS=.*": "test_commands.py::test_make_mutate_tells_what_no_test_noticed",
    r"make bench": "test_bench.py::test_ours_is_measured",
    r"make abuse": "test_abuse.py::test_an_attack_harms_nobody_else",
    r"make restarts": "test_restarts.py::test_no_request_is_lost",
    r"make test": "test_bakes.py::test_its_tests_pass",
    r"make slow": "test_pants.py::test_its_tests_pass",
    r"make lint": "test_bakes.py::test_it_lints",
    r"make pex": "test_bakes.py::test_its_pex_serves",
    r"make run( ARGS=.*)?": "test_bakes.py::test_its_pex_serves",
    r"make dev": "test_build.py::test_make_dev_shows_what_fails",
    r"make update TEMPLATE=.*": "test_commands.py::test_make_update_merges",
    r"\.venv/bin/python scripts/update\.py --service .*": "test_update.py::test_from_before_the_library",
    r"pip install \./path/to/halfsync-.*": "test_adoption.py::test_a_wheel_and_flask_are_all_it_takes",
    r"(cp|cd) .*": "test_pex.py::test_it_serves",
    r"\S*hello-service\.pex --web\.listen=tcp:9000": "test_pex.py::test_it_serves",
    r"hello.*_proxies.*": "halfsync::test_proxy_recipes.py::test_the_application_sees_the_client",
    r"python shop\.py --web\.listen.*": "halfsync::test_examples.py::test_an_adopted_application",
    r"python shop\.py --help": "halfsync::test_examples.py::test_flags_of_a_script_have_short_names",
    r"kill -TERM .*": "test_pex.py::test_it_stops_cleanly",
    r"kill -USR2 .*": "test_pex.py::test_manhole_is_toggled_by_a_signal_and_entered_by_ssh",
    r"cat ~/\.ssh/.*|ssh -[pF] .*": "test_pex.py::test_manhole_is_toggled_by_a_signal_and_entered_by_ssh",
    r"systemctl kill .*": "test_systemd.py::test_a_stuck_event_loop_is_ended_and_started_again",
}
"""What a page shows, as a pattern, and the test that runs it, with ports and folders of its own."""

DRILLS = "halfsync::test_drills.py::test_drill"
"""Runs every command of docs/drills.md, as it stands there."""

NOT_RUN = {
    ".ci/run": "it runs these tests",
    "make newest": "what it says changes with every release of what the library stands on",
}


def commands() -> dict[str, str]:
    """Return the commands of all pages, without comments, and the page of each."""
    found: dict[str, str] = {}
    for page in PAGES:
        for block in re.findall(r"```console\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            for line in re.findall(r"(?m)^\$ (.*)$", block):
                found[re.sub(r"\s+# .*$", "", line).strip()] = page.name
    return found


def test_each_command_is_run_by_a_test_that_there_is() -> None:
    """No page shows a command that nobody tries; no pattern is left of a command that has gone."""
    shown = commands()
    assert len(shown) > 30
    used = set()
    for command, page in shown.items():
        if page == "drills.md" or command in NOT_RUN:
            continue
        pattern = next((each for each in RUN if re.fullmatch(each, command)), None)
        assert pattern is not None, f"{page}: no test runs {command!r}"
        used.add(pattern)
    assert used == RUN.keys()
    for place in {*RUN.values(), DRILLS}:
        *library, file, test = place.split("::")
        folder = ROOT / "halfsync" / "tests" if library else ROOT / "tests"
        assert re.search(rf"def {test}\(", (folder / file).read_text(encoding="utf-8")), place
    assert NOT_RUN.keys() <= shown.keys()


def here(*arguments: str, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run make without what this run of make hands on."""
    environ = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
    return subprocess.run(
        ["make", *arguments], cwd=cwd, env=environ, capture_output=True, text=True, check=check
    )


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What git would hand over, with the tools that are here."""
    folder = bare_clone(tmp_path_factory.mktemp("clone") / "template")
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def test_make_alone_lists_the_commands(clone: Path) -> None:
    """One line each."""
    told = here(cwd=clone).stdout
    targets = re.findall(r"(?m)^([a-z]+):.*## ", (clone / "Makefile").read_text())
    assert re.findall(r"(?m)^  make ([a-z]+) ", told) == targets


def test_make_wheel_says_where_it_is(clone: Path) -> None:
    """And the locks name it."""
    told = here("-o", "setup", "wheel", cwd=clone).stdout
    (wheel,) = re.findall(r"\S+\.whl", told)[:1]
    assert (clone / wheel).exists()


def test_make_fuzz_reads_requests(clone: Path) -> None:
    """For as many seconds as it is told, and finds nothing."""
    here("-o", "setup", "fuzz", "ARGS=1", cwd=clone)


def test_make_mutate_tells_what_no_test_noticed(clone: Path) -> None:
    """A fault in what the named tests do not run survives; a module that is not there gets a line."""
    arguments = "ARGS=endpoints/send_queue --most 1 --tests test_head"
    told = here("-o", "setup", "mutate", arguments, cwd=clone, check=False)
    assert told.returncode != 0
    assert re.fullmatch(
        r"src/halfsync/endpoints/send_queue\.py:\d+: .*  ->  .*\n.*: 0 of 1 mutants were noticed .*\n",
        told.stdout,
    ), told
    told = here("-o", "setup", "mutate", "ARGS=nowhere", cwd=clone, check=False)
    assert told.returncode != 0
    assert "nowhere: there is no" in told.stderr


def test_a_service_is_generated_as_the_readme_says(clone: Path, tmp_path: Path) -> None:
    """All answers are the defaults when nothing but the return key is typed."""
    subprocess.run(
        [".venv/bin/cookiecutter", ".", "-o", tmp_path],
        cwd=clone,
        env={**os.environ, "HOME": str(tmp_path)},
        input="\n" * 8,
        text=True,
        capture_output=True,
        check=True,
    )
    assert (tmp_path / "hello-service" / "vendor").is_dir()


def test_make_update_merges(baked: Path, tmp_path: Path) -> None:
    """With the template's folder and another answer, as the page has it; uv fetches what the script needs."""
    template = bare_clone(tmp_path / "template")
    git(template, "init", "--quiet")
    commit(template, "template")
    command = [sys.executable, "-P", "-m", "cookiecutter", "--no-input", "--default-config", "-o", tmp_path]
    subprocess.run([*map(str, command), str(template)], check=True, capture_output=True)
    service = tmp_path / "hello-service"
    git(service, "init", "--quiet")
    commit(service, "generated")
    (service / ".tools").mkdir()
    (service / ".tools" / "bin").symlink_to((baked / ".tools" / "bin").resolve())
    python = next(iter(pythons().values()))
    arguments = [f"PYTHON={python}", f"TEMPLATE={template}", "ARGS=--unchecked web=async"]
    try:
        here("-o", "tools", "update", *arguments, cwd=service)
    except subprocess.CalledProcessError as error:
        if re.search(r"(?i)failed to fetch|error sending request|no solution found", error.stderr):
            pytest.skip(f"cookiecutter cannot be fetched here: {error.stderr.splitlines()[-1]}")
        raise AssertionError(error.stderr) from error
    assert "klein" in (service / "src" / "hello_service" / "web.py").read_text()
    assert git(service, "diff", "--cached", "--name-only")
