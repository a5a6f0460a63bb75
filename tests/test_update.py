"""A service is brought up to a newer template: `make update`, from one real git repository to another."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from scripts import renames

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


def test_the_first_python_311_will_do(template: Path, service: Path, tmp_path: Path) -> None:
    """What 3.11.4 brought for archives is not there in Debian 12's 3.11.2, which README.md lets in."""
    change(template / SKELETON / "README.md", "## Change it", "## Change it now")
    commit(template, "new")
    older = "import tarfile\ndel tarfile.data_filter, tarfile.TarFile.extractall, tarfile.TarFile.extract\n"
    (tmp_path / "sitecustomize.py").write_text(older)
    script = [sys.executable, template / "scripts" / "update.py", "--service", service, "--unchecked"]
    updated = subprocess.run(
        script, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert updated.returncode == 0, updated.stderr
    assert "## Change it now" in (service / "README.md").read_text()


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


FIRST = "33c854b"
"""The first version that wrote a `.template.json`."""
BEFORE = "dc3de9e"
"""The last version before the library existed."""
CHANGED = (f":(literal){SKELETON}", "hooks", "cookiecutter.json", ":(exclude)*.lock")
LANDED = subprocess.run(
    ["git", "rev-list", "--abbrev-commit", "--ancestry-path", f"{FIRST}..HEAD", "--", *CHANGED],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
).stdout.split()
"""The versions since then that changed what is generated, the newest first; none in a shallow clone."""
SEVERAL = [*LANDED[:: max(1, len(LANDED) // 7)], FIRST]


def made_from(commit: str, into: Path, **answers: str) -> Path:
    """Return a service that an earlier version of this template generated, with what a team adds."""
    old = into / "old"
    old.mkdir()
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "x", "-C", old], input=archive, check=True)
    command = [sys.executable, "-P", "-m", "cookiecutter", "--no-input", "--default-config", "-o", into, old]
    subprocess.run(
        [*map(str, command), *(f"{key}={value}" for key, value in answers.items())],
        check=True,
        capture_output=True,
    )
    folder = into / "hello-service"
    # What make makes is ignored, links to it too.
    git(folder, "init", "--quiet")
    (folder / ".git" / "info" / "exclude").write_text(".tools\n.build\n.venv\n")
    commit_as_team(folder, commit)
    return folder


def commit_as_team(folder: Path, commit_: str) -> None:
    """Write down where a service is from, and make changes that a team makes."""
    note = folder / ".template.json"
    if note.exists():
        noted = json.loads(note.read_text())
    else:
        # docs/updating.md: the one-time step.
        page = (ROOT / "docs" / "updating.md").read_text()
        noted = json.loads(page.split("```json\n")[1].split("```")[0])
    noted["commit"] = commit_
    note.write_text(json.dumps(noted))
    commit(folder, "generated")
    package = folder / "src" / "hello_service"
    change(package / "web.py", "The word of welcome", "Our word of welcome")
    (package / "own.py").write_text('"""Ours."""\n\nMINE = True\n')
    change(folder / "README.md", "## Run it", "## How we run it")
    commit(folder, "ours")


def kept(folder: Path) -> None:
    """Check that a team's changes are there, and what is new too."""
    package = folder / "src" / "hello_service"
    assert "Our word of welcome" in (package / "web.py").read_text()
    assert "MINE" in (package / "own.py").read_text()
    assert "## How we run it" in (folder / "README.md").read_text()
    assert (folder / "docs" / "recipes.md").exists()
    assert len(list((folder / "vendor").glob("*.whl"))) == 1
    assert not (package / "chassis").exists()


@pytest.mark.skipif(not LANDED, reason="this clone has no history to take earlier versions from")
@pytest.mark.parametrize("version", SEVERAL)
def test_from_every_landed_version(version: str, tmp_path: Path) -> None:
    """A service of any version that ever landed comes to the newest, with what its team changed between."""
    service = made_from(version, tmp_path)
    updated = update(ROOT, service)
    assert updated.returncode == 0, updated.stdout + updated.stderr
    kept(service)


@pytest.mark.skipif(not LANDED, reason="this clone has no history to take earlier versions from")
def test_from_before_the_library(tmp_path: Path, baked: Path) -> None:
    """After the one-time step of the docs a service with a chassis of its own lints and passes its tests.

    Modules that its team wrote against the chassis are rewritten.
    """
    service = made_from(BEFORE, tmp_path, description="", author="")
    package = service / "src" / "hello_service"
    (package / "orders.py").write_text(
        '"""Orders."""\n\nfrom __future__ import annotations\n\nfrom oscar import flag\n\n'
        "from .chassis import flags, flagtypes\nfrom .chassis.logs import get_logger\n\n"
        "log = get_logger(__name__)\n\n\n@flags.declare(flag.namespace(__name__))\nclass FLAGS:\n"
        '    """Where orders go."""\n\n'
        '    wait = flagtypes.Seconds("How long an order may wait.", default=5)\n'
    )
    commit(service, "orders")
    for name in (".tools", ".build", ".venv"):
        (service / name).symlink_to((baked / name).resolve())
    script = [sys.executable, ROOT / "scripts" / "update.py", "--service", service]
    updated = subprocess.run(script, capture_output=True, text=True, check=False)
    assert updated.returncode == 0, updated.stdout + updated.stderr
    kept(service)
    orders = (package / "orders.py").read_text()
    assert "from halfsync import flag, flags, get_logger\n" in orders
    assert "chassis" not in orders
    assert not (service / "typings").exists()


def test_a_name_without_a_place_is_told(template: Path, service: Path) -> None:
    """What the code-mods cannot rewrite is named, with its file; the rest of the update stands."""
    own = service / "src" / "hello_service" / "own.py"
    own.write_text("from .chassis.limits import Bound\nfrom hello_service.chassis.run import run\n")
    commit(service, "ours")
    updated = update(template, service)
    assert updated.returncode == 1
    assert "src/hello_service/own.py: chassis.limits.Bound is no public name of halfsync" in updated.stdout
    assert own.read_text() == "from .chassis.limits import Bound\nfrom halfsync import run\n"


def test_a_renamed_flag_is_rewritten(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Wherever a service's files give a flag that has another name now; longer names are let be."""
    monkeypatch.setitem(renames.FLAGS, "web.old", "web.new")
    (tmp_path / "unit").write_text("x --web.old=1 --web.older=2 --web.old.er=3 a--web.old\n")
    assert renames.rewrite(tmp_path, ["unit", "gone"]) == (["unit"], [])
    assert (tmp_path / "unit").read_text() == "x --web.new=1 --web.older=2 --web.old.er=3 a--web.new\n"


@pytest.mark.skipif(not LANDED, reason="this clone has no history to take earlier versions from")
@pytest.mark.parametrize("version", [*SEVERAL, BEFORE])
def test_no_flag_is_lost(version: str) -> None:
    """Every flag that the README of an earlier version names is one today, or its new name is known."""
    now = set(re.findall(r"--([a-z]+\.[a-z_]+)", (ROOT / "README.md").read_text()))
    then = git(ROOT, "show", f"{version}:README.md")
    rows = [line for line in then.splitlines() if line.startswith("| `--")]
    flags = {name for row in rows for name in re.findall(r"`--([a-z]+\.[a-z_]+)", row.split("|")[1])}
    assert len(flags) > 20
    assert flags <= now | renames.FLAGS.keys()


def test_a_lock_of_the_teams_keeps_its_pins(template: Path, service: Path, baked: Path) -> None:
    """Newer pins of the template's do not come into a lock that the team renewed; what is needed does."""
    (service / ".git" / "info" / "exclude").write_text(".tools\n")
    (service / ".tools").symlink_to((baked / ".tools").resolve())
    lock = service / "requirements.lock"
    (pinned,) = re.findall(r"(?m)^(markupsafe==\S+)", lock.read_text())
    lock.write_text("# renewed by the team\n" + lock.read_text())
    commit(service, "renewed")
    skeleton = template / SKELETON
    change(skeleton / "requirements@wsgi.lock", pinned, "markupsafe==999")
    change(skeleton / "pyproject.toml", '  "flask>=3.1",', '  "flask>=3.1",\n  "tomli-w",')
    commit(template, "newer")
    updated = update(template, service)
    if re.search(r"(?i)failed to fetch|error sending request", updated.stderr):
        pytest.skip("there is no index of packages here")
    assert updated.returncode == 0, updated.stderr
    text = lock.read_text()
    assert f"\n{pinned} " in text
    assert "==999" not in text
    assert "\ntomli-w==" in text
    assert "requirements.lock" in git(service, "diff", "--cached", "--name-only")
