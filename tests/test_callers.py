"""Whoever calls cookiecutter, in whichever version: a whole project comes of it, or a line and nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cookiecutter.exceptions import FailedHookException
from cookiecutter.generate import generate_files
from cookiecutter.main import cookiecutter

from .conftest import ROOT
from .fetched import fetched
from .test_demo import bare_clone


def call(
    program: str, module: str, *arguments: object, cwd: Path, typed: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a module of a fetched program as a command, with a home folder of its own."""
    environ = {**os.environ, "HOME": str(cwd), "PYTHONPATH": str(fetched(program))}
    return subprocess.run(
        [sys.executable, "-P", "-m", module, *map(str, arguments)],
        cwd=cwd,
        env=environ,
        input=typed,
        capture_output=True,
        text=True,
        check=False,
    )


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(autouse=True)
def another_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take this repository from Python's path: pytest puts it there, and no other program has it."""
    monkeypatch.setattr(sys, "path", [each for each in sys.path if Path(each).resolve() != ROOT])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty folder to call from."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This template in a git repository of one commit, on `main`, tagged `one`."""
    folder = bare_clone(tmp_path_factory.mktemp("template") / "cookiecutter-twisted-service")
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", "one")
    git(folder, "tag", "one")
    return folder


def is_whole(project: Path, web: str = "wsgi") -> None:
    """Check that a project has what both hooks make of it."""
    noted = json.loads((project / ".template.json").read_text())
    assert noted["answers"]["web"] == web
    assert len(list((project / "vendor").glob("halfsync-*.whl"))) == 1
    assert not list(project.rglob("*@*"))
    assert not list(project.rglob("*{{*"))


def test_cookiecutter_1_7_is_told_what_is_needed(home: Path) -> None:
    """One line names the version that is needed, and nothing is written."""
    run = call("cookiecutter-1.7.3", "cookiecutter", "--no-input", ROOT, cwd=home)
    assert run.returncode == 1
    assert run.stdout == "Unable to load extension: No module named 'needs_cookiecutter_2_1_or_newer'\n"
    assert not (home / "hello-service").exists()


def test_cookiecutter_2_1_makes_a_project(home: Path) -> None:
    """The oldest that can load a template's own module asks, refuses and generates as the newest does."""
    asked = call("cookiecutter-2.1.1", "cookiecutter", ROOT, cwd=home, typed="\n\n\n\n\n2\n2\n1\n")
    assert asked.returncode == 0, asked.stderr
    is_whole(home / "hello-service", web="async")
    refused = call(
        "cookiecutter-2.1.1", "cookiecutter", "--no-input", ROOT, "web=foo", "project_slug=b", cwd=home
    )
    assert (refused.returncode, refused.stdout.count("\n")) == (1, 1)
    assert not (home / "b").exists()


def test_cruft_makes_a_project(repository: Path, home: Path) -> None:
    """cruft calls the parts of cookiecutter by itself: the project is whole, and no other folder is left."""
    extra = json.dumps({"web": "none", "author": "{{ 7 * 7 }}"})
    run = call(
        "cruft-2.16.0", "cruft", "create", "--no-input", "--extra-context", extra, repository, cwd=home
    )
    assert run.returncode == 0, run.stdout + run.stderr
    made = {path.name for path in home.iterdir()} - {".cookiecutters", ".cookiecutter_replay"}
    assert made == {"hello-service"}
    is_whole(home / "hello-service", web="none")
    assert "{{ 7 * 7 }}" in (home / "hello-service" / "pyproject.toml").read_text()


def test_cruft_is_refused(repository: Path, home: Path) -> None:
    """A bad answer is refused before anything is written, for cruft too."""
    extra = json.dumps({"web": "foo", "package_name": "json"})
    run = call(
        "cruft-2.16.0", "cruft", "create", "--no-input", "--extra-context", extra, repository, cwd=home
    )
    assert run.returncode != 0
    assert "web: 'foo' is not offered" in run.stdout + run.stderr
    assert {path.name for path in home.iterdir()} <= {".cookiecutters", ".cookiecutter_replay"}


def test_a_thread_may_call(cookiecutter_config: Path, tmp_path: Path) -> None:
    """A program may generate in a thread."""
    made: list[str] = []

    def generate() -> None:
        made.append(
            cookiecutter(
                str(ROOT), no_input=True, config_file=str(cookiecutter_config), output_dir=str(tmp_path)
            )
        )

    thread = threading.Thread(target=generate)
    thread.start()
    thread.join()
    is_whole(Path(made[0]))


def test_a_replay_gives_the_same_project(cookiecutter_config: Path, tmp_path: Path) -> None:
    """The answers that cookiecutter kept make the same project again."""
    settings = {"config_file": str(cookiecutter_config)}
    answers = {"web": "async", "description": "{{ 7 * 7 }}"}
    first = cookiecutter(
        str(ROOT), no_input=True, extra_context=answers, output_dir=str(tmp_path / "a"), **settings
    )
    again = cookiecutter(str(ROOT), replay=True, output_dir=str(tmp_path / "b"), **settings)
    is_whole(Path(again), web="async")
    compared = subprocess.run(["diff", "-r", first, again], capture_output=True, text=True, check=False)
    assert compared.stdout == ""


def test_a_zip_makes_a_project(cookiecutter_config: Path, repository: Path, tmp_path: Path) -> None:
    """Unpacked by cookiecutter into a folder that is gone afterwards."""
    archive = tmp_path / "template.zip"
    git(repository, "archive", "--prefix=template/", "--output", str(archive), "HEAD")
    made = cookiecutter(
        str(archive), no_input=True, config_file=str(cookiecutter_config), output_dir=str(tmp_path)
    )
    is_whole(Path(made))


@pytest.mark.parametrize("checkout", [None, "one", "main"])
def test_a_git_url_makes_a_project(
    cookiecutter_config: Path, repository: Path, tmp_path: Path, checkout: str | None
) -> None:
    """Cloned by cookiecutter, at a branch or a tag if wanted; the commit is noted."""
    url = f"file://{tmp_path}/served.git"
    git(repository, "clone", "--quiet", "--bare", str(repository), str(tmp_path / "served.git"))
    made = Path(
        cookiecutter(
            url,
            checkout=checkout,
            no_input=True,
            config_file=str(cookiecutter_config),
            output_dir=str(tmp_path),
        )
    )
    is_whole(made)
    noted = json.loads((made / ".template.json").read_text())
    assert noted["commit"] == git(repository, "rev-parse", "HEAD")


def test_without_hooks_it_is_refused(cookiecutter_config: Path, tmp_path: Path) -> None:
    """Without the hooks a project would be half made: a line says so, and nothing is written."""
    settings = {"config_file": str(cookiecutter_config), "output_dir": str(tmp_path)}
    with pytest.raises(FailedHookException, match="leave --accept-hooks=no out"):
        cookiecutter(str(ROOT), no_input=True, accept_hooks=False, **settings)
    assert list(tmp_path.iterdir()) == []


def test_answers_that_lack_leave_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A program that calls cookiecutter's last step without the answers gets an error, and no project."""
    monkeypatch.syspath_prepend(str(ROOT))
    context = {"cookiecutter": {"_extensions": ["needs_cookiecutter_2_1_or_newer.AnswersAreData"]}}
    with pytest.raises(Exception, match=r"."):
        generate_files(ROOT, context=context, output_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_another_templates_module_is_not_taken_for_ours(home: Path) -> None:
    """Called from a folder, or a program, that has a local_extensions.py of another template: it works."""
    (home / "local_extensions.py").write_text("raise SystemExit('the wrong one')\n")
    command = [sys.executable, "-m", "cookiecutter", "--no-input", "--default-config", ROOT]
    subprocess.run(command, cwd=home, env={**os.environ, "HOME": str(home)}, check=True, capture_output=True)
    is_whole(home / "hello-service")


def test_two_versions_in_one_program(cookiecutter_config: Path, repository: Path, tmp_path: Path) -> None:
    """A program that lives long takes the rules of the version that it generates from, not of its first."""
    other = shutil.copytree(repository, tmp_path / "other")
    hook = other / "hooks" / "pre_gen_project.py"
    hook.write_text(hook.read_text().replace('"is empty: give a name', '"is missing: give a name'))
    (tmp_path / "out").mkdir()
    for template, said in ((ROOT, "is empty"), (other, "is missing"), (ROOT, "is empty")):
        with pytest.raises(FailedHookException, match=said):
            cookiecutter(
                str(template),
                no_input=True,
                extra_context={"project_name": "", "project_slug": "a", "package_name": "a"},
                config_file=str(cookiecutter_config),
                output_dir=str(tmp_path / "out"),
            )
