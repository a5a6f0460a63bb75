"""A service is brought up to a newer template: `make update`, from one real git repository to another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from .conftest import ROOT
from .test_demo import bare_clone

if TYPE_CHECKING:
    from pathlib import Path

SKELETON = "{{cookiecutter.project_slug}}"


def git(folder: Path, *arguments: str) -> str:
    """Run git as somebody with a name."""
    command = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "-m", message)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This template as a repository of one commit."""
    folder = bare_clone(tmp_path_factory.mktemp("template") / "cookiecutter-twisted-service")
    git(folder, "init", "--quiet")
    commit(folder, "old")
    return folder


@pytest.fixture
def service(template: Path, tmp_path: Path) -> Path:
    """A service that the template's first commit generated, committed; the template starts there too."""
    first = git(template, "rev-list", "--max-parents=0", "HEAD").strip()
    git(template, "reset", "--quiet", "--hard", first)
    # -P: the current folder has a local_extensions.py of its own.
    command = [sys.executable, "-P", "-m", "cookiecutter", "--no-input", "--default-config"]
    command += ["-o", str(tmp_path), str(template)]
    subprocess.run(command, check=True, capture_output=True)
    folder = tmp_path / "hello-service"
    git(folder, "init", "--quiet")
    commit(folder, "generated")
    return folder


def update(template: Path, service: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run what `make update` runs, without the checks at its end."""
    script = [sys.executable, template / "scripts" / "update.py", "--service", service, "--unchecked"]
    return subprocess.run([*script, *arguments], capture_output=True, text=True, check=False)


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_both_sides_changes_are_kept(template: Path, service: Path) -> None:
    """What the team wrote stays, what is new comes, and what the template dropped goes."""
    package = service / "src" / "hello_service"
    change(package / "web.py", '"Hello"', '"Moin"')
    (package / "own.py").write_text("MINE = True\n")
    commit(service, "ours")
    change(template / SKELETON / "Makefile", "# The commands of", "# All commands of")
    change(
        template / SKELETON / "src" / "{{cookiecutter.package_name}}" / "web@wsgi.py", '"/time"', '"/clock"'
    )
    (template / SKELETON / ".editorconfig").unlink()
    change(template / "halfsync" / "src" / "halfsync" / "__init__.py", '__version__ = "', '__version__ = "1')
    commit(template, "new")
    updated = update(template, service)
    assert updated.returncode == 0, updated.stderr
    web = (package / "web.py").read_text()
    assert '"Moin"' in web
    assert '"/clock"' in web
    assert (package / "own.py").exists()
    assert "# All commands of" in (service / "Makefile").read_text()
    assert not (service / ".editorconfig").exists()
    (wheel,) = (service / "vendor").iterdir()
    assert wheel.name.startswith("halfsync-1")
    noted = json.loads((service / ".template.json").read_text())
    assert noted["commit"] == git(template, "rev-parse", "HEAD").strip()
    # Once more there is nothing to do.
    commit(service, "updated")
    assert update(template, service).returncode == 0
    assert git(service, "status", "--porcelain") == ""


def test_an_answer_can_be_changed(template: Path, service: Path) -> None:
    """A service without a team's changes gets what a fresh one with that answer has."""
    updated = update(template, service, "web=async")
    assert updated.returncode == 0, updated.stderr
    assert "klein" in (service / "src" / "hello_service" / "web.py").read_text()
    assert "klein==" in (service / "requirements.lock").read_text()
    assert json.loads((service / ".template.json").read_text())["answers"]["web"] == "async"


def test_conflicts_are_shown_as_git_shows_them(template: Path, service: Path) -> None:
    """Where both changed a line, it stands twice between markers; the rest is merged."""
    web = service / "src" / "hello_service" / "web.py"
    change(web, '"Hello"', '"Moin"')
    commit(service, "ours")
    source = template / SKELETON / "src" / "{{cookiecutter.package_name}}" / "web@wsgi.py"
    change(source, '"Hello"', '"Hi"')
    change(template / SKELETON / "Makefile", "# The commands of", "# All commands of")
    commit(template, "new")
    updated = update(template, service)
    assert updated.returncode == 1
    assert "src/hello_service/web.py" in updated.stdout
    text = web.read_text()
    assert "<<<<<<<" in text
    assert '"Moin"' in text
    assert '"Hi"' in text
    assert "# All commands of" in (service / "Makefile").read_text()


def test_a_dirty_tree_is_refused(template: Path, service: Path) -> None:
    """What is not committed could not be brought back: nothing is touched."""
    (service / "README.md").write_text("mine\n")
    updated = update(template, service)
    assert updated.returncode == 1
    assert updated.stderr == "update: there are changes that are not committed: commit or stash them first\n"
    assert (service / "README.md").read_text() == "mine\n"


def test_a_bad_answer_leaves_all_as_it_was(template: Path, service: Path) -> None:
    """The refusal is the template's own line."""
    updated = update(template, service, "package_name=json")
    assert updated.returncode == 1
    assert "package_name: 'json' is a module of Python's standard library" in updated.stderr
    assert git(service, "status", "--porcelain") == ""


def test_failing_checks_leave_all_as_it_was(template: Path, service: Path, tmp_path: Path) -> None:
    """When lint or tests fail with what is new, the service is as before, and what failed is shown."""
    makefile = template / SKELETON / "Makefile"
    change(makefile, "# The commands of", "lint:\n\techo it is broken >&2; exit 1\ntest:\n# The commands of")
    text = makefile.read_text()
    makefile.write_text(
        text.replace("lint: setup ##", "old-lint: setup ##").replace("test: setup ##", "old-test: ##")
    )
    commit(template, "broken")
    script = [sys.executable, template / "scripts" / "update.py", "--service", service]
    environ = {**os.environ, "HOME": str(tmp_path)}
    updated = subprocess.run(script, capture_output=True, text=True, check=False, env=environ)
    assert updated.returncode == 1
    assert "it is broken" in updated.stderr
    assert "nothing was changed" in updated.stderr
    assert git(service, "status", "--porcelain") == ""


def test_make_update_says_what_it_needs(service: Path) -> None:
    """Without a template it fails before anything is fetched."""
    told = (service / "Makefile").read_text()
    assert "Say where the template is" in told
    assert (ROOT / "docs" / "updating.md").read_text().count("make update") >= 2
