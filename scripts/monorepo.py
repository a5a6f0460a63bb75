"""Make an example monorepo for Pants in a new folder: two services, shared libraries, one lock for all.

    python -m scripts.monorepo FOLDER [--python python3.11]

docs/building.md says what is in it. `3rdparty/` has one lock of everything that is not made here,
`libs/` the libraries that are, halfsync from its source among them, `services/` two bakes of this template.
It asks the package registry for what the locks are to pin.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from cookiecutter.main import cookiecutter

ROOT = Path(__file__).resolve().parent.parent
SERVICES = {"alpha": "wsgi", "beta": "async"}
"""Their names, and what answers HTTP there."""
KEPT = ("src", "tests", "deploy", "docs", "README.md", "pyproject.toml")
"""What a service brings: the rest is the repository's, as the locks, or has no place beside Pants."""

SOURCES = """\
python_sources(
    name="sources",
    sources=["**/*.py"],
)
"""
HALFSYNC = """\
python_sources(
    name="sources",
    sources=["**/*.py", "**/*.pyi"],
    # Its public names are imported when they are asked for, by their names: Pants cannot see that.
    # What it stands on is not left to inference either: not all of it is imported by name.
    dependencies=[
        ":typed",
REQUIREMENTS
    ],
)

resources(
    name="typed",
    sources=["**/py.typed"],
)
"""
THIRD_PARTY = """\
# One file for all: a requirement in two targets of one resolve is ambiguous, and then not inferred.
python_requirements(
    name="requirements",
    source="requirements.txt",
)

python_requirement(
    name="pytest",
    requirements=["pytest"],
    resolve="tools",
)
"""
GREETING = {
    "src/BUILD": SOURCES,
    "src/greeting/__init__.py": '''"""What all services say: a library of the team's own."""


def greet(who: str) -> str:
    """Greet somebody."""
    return f"Hello, {who}, from the shared library"
''',
    "tests/BUILD": "python_tests()\n",
    "tests/test_greet.py": """from greeting import greet


def test_it_greets() -> None:
    assert greet("you").startswith("Hello, you")
""",
}


USER = '''"""Uses a library of the team's own."""

from greeting import greet

HELLO = greet("NAME")
'''


def main() -> int:
    """Make it, and say what to do with it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path, help="it must not exist")
    parser.add_argument("--python", default=sys.executable, help="the CPython that the services run on")
    options = parser.parse_args()
    if options.folder.exists():
        sys.stderr.write(f"folder: {options.folder} exists: name one that does not\n")
        return 2
    make(options.folder.resolve(), options.python)
    sys.stdout.write(f"{options.folder}: pants list ::, pants test ::, pants package ::\n")
    return 0


def make(folder: Path, python: str) -> None:
    """Make the repository, and commit it."""
    with tempfile.TemporaryDirectory() as temporary:
        bakes = {name: _bake(Path(temporary), name, web) for name, web in SERVICES.items()}
        for name, bake in bakes.items():
            _service(folder / "services" / name, bake)
        tools = _pex(Path(temporary), bakes["alpha"], python)
        _libraries(folder / "libs")
        _settings(folder, bakes["alpha"], python)
        _third_party(folder, bakes["alpha"], tools, python)
    git = ["git", "-C", str(folder)]
    author = ["-c", "user.name=example", "-c", "user.email=example@example.org"]
    _run([*git, "init", "-q"])
    _run([*git, "add", "."])
    _run([*git, *author, "commit", "-qm", "Two services and what they share"])


def _bake(into: Path, name: str, web: str) -> Path:
    answers = {"project_name": name.title(), "web": web}
    made = cookiecutter(
        str(ROOT), no_input=True, default_config=True, output_dir=str(into), extra_context=answers
    )
    return Path(made)


def _service(place: Path, bake: Path) -> None:
    place.mkdir(parents=True)
    for name in KEPT:
        copy = shutil.copytree if (bake / name).is_dir() else shutil.copyfile
        copy(bake / name, place / name)
    own = f"services/{place.name}/src:sources"
    tests = place / "tests" / "BUILD"
    text = re.sub(r"(?m)^#.*\n|, skip_mypy=True", "", tests.read_text("utf-8"))
    tests.write_text(text.replace("//src:sources", own), encoding="utf-8")
    # Of the targets in the service's BUILD file its pex stays; the requirements are in 3rdparty/.
    binary = re.search(r"(?ms)^pex_binary\(.*?^\)\n", (bake / "BUILD").read_text("utf-8"))
    assert binary  # noqa: S101  the skeleton's own file
    (place / "BUILD").write_text(binary[0].replace("//src:sources", own), encoding="utf-8")
    module = place / "src" / place.name / "hello.py"
    module.write_text(USER.replace("NAME", place.name), encoding="utf-8")


def _libraries(place: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "halfsync" / "src", place / "halfsync" / "src", ignore=ignored)
    project = tomllib.loads((ROOT / "halfsync" / "pyproject.toml").read_text("utf-8"))["project"]
    names = [re.split(r"[\[<>=~! ;]", each)[0] for each in project["dependencies"]]
    lines = "\n".join(f'        "3rdparty:requirements#{each}",' for each in names)
    build = place / "halfsync" / "src" / "BUILD"
    build.write_text(HALFSYNC.replace("REQUIREMENTS", lines), encoding="utf-8")
    for name, text in GREETING.items():
        path = place / "greeting" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _settings(folder: Path, bake: Path, python: str) -> None:
    text = (bake / "pants.toml").read_text("utf-8")
    text = text[text.index("[GLOBAL]") :]
    for old, new in (
        (r'"requirements\.lock"', '"3rdparty/service.lock"'),
        (r'"pants-tools\.lock"', '"3rdparty/pytest.lock"'),
        # The example is built and tested; it has no lock of mypy and ruff.
        (r"(?m)^backend_packages.*$", 'backend_packages = ["pants.backend.python"]'),
        (r"(?ms)^# The versions of tools.lock.*?(?=^\[pytest\])", ""),
        (r"(?ms)^\[mypy\].*", ""),
        (r"(?m)^pants_ignore.*\n", ""),
        (r"(?m)^\[python-repos\]\n.*\n", ""),
        (r'"CPython==[\d.]+\*"', f'"CPython=={_minor(python)}.*"'),
        (
            r"(?m)^# requirements.lock is made by .*$",
            "# The locks are made by uv and pex3: docs/building.md.",
        ),
    ):
        text, count = re.subn(old, new, text)
        assert count == 1, old  # noqa: S101  the skeleton's own file
    (folder / "pants.toml").write_text(text, encoding="utf-8")
    # Pants looks for the configuration of pytest and other tools at the root.
    shared = re.search(r"(?ms)^\[tool\.pytest.*?(?=^\[)", (bake / "pyproject.toml").read_text("utf-8"))
    assert shared  # noqa: S101  the same
    (folder / "pyproject.toml").write_text(
        re.sub(r"(?m)^testpaths.*\n", "", shared[0]).rstrip() + "\n", encoding="utf-8"
    )
    (folder / ".gitignore").write_text("/dist/\n/.pants.d/\n/.pids/\n__pycache__/\n", encoding="utf-8")


def _third_party(folder: Path, bake: Path, tools: Path, python: str) -> None:
    place = folder / "3rdparty"
    place.mkdir()
    wanted: set[str] = set()
    projects = [*folder.glob("services/*/pyproject.toml"), ROOT / "halfsync" / "pyproject.toml"]
    for path in projects:
        wanted |= set(tomllib.loads(path.read_text("utf-8"))["project"]["dependencies"])
    # The library comes from its source here.
    wanted = {each for each in wanted if not each.startswith("halfsync==")}
    (place / "requirements.txt").write_text("".join(f"{each}\n" for each in sorted(wanted)), encoding="utf-8")
    (place / "BUILD").write_text(THIRD_PARTY, encoding="utf-8")
    uv = [str(Path(sys.executable).with_name("uv")), "pip", "compile", "--quiet", "--system-certs"]
    uv += ["--universal", "--generate-hashes", "--no-annotate", "--python-version", _minor(python)]
    uv += ["--custom-compile-command", "uv pip compile", "requirements.txt", "-o", "service.lock"]
    _run(uv, place)
    pytest = re.search(r"(?m)^pytest==(\S+)", (bake / "tools.lock").read_text("utf-8"))
    assert pytest  # noqa: S101  the same
    pex3 = [str(tools), "lock", "create", "--style", "universal", "--target-system", "linux", "--indent", "2"]
    pex3 += ["--interpreter-constraint", f"CPython=={_minor(python)}.*", "--python-path", python]
    _run([*pex3, f"pytest=={pytest[1]}", "-o", "pytest.lock"], place)


def _pex(into: Path, bake: Path, python: str) -> Path:
    """Install the pex that the services' tools.lock pins, for a lock of its own kind."""
    lock = (bake / "tools.lock").read_text("utf-8")
    pin = re.search(r"(?m)^pex==.*\n(?:    .*\n)+", lock)
    assert pin  # noqa: S101  the same
    (into / "pex.lock").write_text(pin[0], encoding="utf-8")
    _run([python, "-m", "venv", str(into / "tools")])
    pip = [
        str(into / "tools" / "bin" / "python"),
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--require-hashes",
    ]
    _run([*pip, "--disable-pip-version-check", "-r", str(into / "pex.lock")])
    return into / "tools" / "bin" / "pex3"


def _minor(python: str) -> str:
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.check_output([python, "-c", ask], text=True).strip()  # noqa: S603  the caller's own


def _run(command: list[str], where: Path | None = None) -> None:
    subprocess.run(command, cwd=where, check=True)  # noqa: S603  our own words


if __name__ == "__main__":
    sys.exit(main())
