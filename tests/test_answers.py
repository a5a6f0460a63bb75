from __future__ import annotations

import ast
import random
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from cookiecutter.exceptions import FailedHookException, OutputDirExistsException
from cookiecutter.utils import create_env_with_context

from hooks import pre_gen_project

from .conftest import ROOT, Bake

BAD = [
    ("project_name", "", "is empty"),
    ("project_name", "  ", "is empty"),
    ("project_name", "Hello\nService", "control character"),
    ("project_name", "Hello\x1b[2J", "control character"),
    ("project_slug", "", "no name for a folder"),
    ("project_slug", "../evil", "no name for a folder"),
    ("project_slug", "a/b", "no name for a folder"),
    ("project_slug", "/tmp/x", "no name for a folder"),
    ("project_slug", ".", "no name for a folder"),
    ("project_slug", "Hello", "no name for a folder"),
    ("project_slug", "3d-printer", "no name for a folder"),
    ("project_slug", "-x", "no name for a folder"),
    ("project_slug", "x-", "no name for a folder"),
    ("project_slug", "x--y", "no name for a folder"),
    ("project_slug", "x_y", "no name for a folder"),
    ("project_slug", "x\n", "no name for a folder"),
    ("project_slug", "h\u0435llo", r"'h\u0435llo'"),  # a Cyrillic letter that looks like an e
    ("project_slug", "x" * 64, "at most 63"),
    ("project_slug", "{{ 7 * 7 }}", "no name for a folder"),
    ("project_slug", "$(id)", "no name for a folder"),
    ("package_name", "", "no name for a package"),
    ("package_name", "3d", "no name for a package"),
    ("package_name", "hello-service", "no name for a package"),
    ("package_name", "hello.service", "no name for a package"),
    ("package_name", "Hello", "no name for a package"),
    ("package_name", "_x", "no name for a package"),
    ("package_name", "h\u0435llo", r"'h\u0435llo'"),
    ("package_name", "\uff48ello", r"'\uff48ello'"),  # full width: Python would read it as hello
    ("package_name", "x" * 64, "at most 63"),
    ("package_name", "class", "keyword"),
    ("package_name", "match", "keyword"),
    ("package_name", "json", "standard library"),
    ("package_name", "test", "taken in the project"),
    ("package_name", "twisted", "depends on"),
    ("package_name", "oscar", "depends on"),
    ("package_name", "flask", "depends on"),
    ("package_name", "pytest", "tool"),
    ("package_name", "chassis", "taken in the project"),
    ("package_name", "main", "taken in the project"),
    ("package_name", "tests", "taken in the project"),
    ("package_name", "web", "group of flags"),
    ("package_name", "halfsync", "depends on"),
    ("package_name", "pygments", "tool"),
    ("package_name", "py", "tool"),
    ("package_name", "dist", "ruff and git skip"),
    ("package_name", "node_modules", "ruff and git skip"),
    ("package_name", "cache", "environment variables that others set"),
    ("package_name", "supervisor", "environment variables that others set"),
    ("description", None, "no text"),
    ("description", True, "no text"),
    ("description", "\udcff", "UTF-8"),
    ("author", "\udcff", "UTF-8"),
    ("web", "django", "not offered: give wsgi or async or none"),
    ("web", "", "not offered"),
    ("web", ["wsgi"], "no text"),
    ("rpc", "soap", "not offered: give none or thrift"),
    ("python_version", "3.10", "not offered: give 3.11 or 3.12 or 3.13"),
    ("python_version", 3.12, "no text"),
]

TEXTS = [
    "",
    "'single' and \"double\" and '''triple''' and \"\"\"more\"\"\"",
    'ends in a quote"',
    "ends in a backslash \\",
    "a\nnew line, a \r\n Windows one, a tab\t, a bell\a, a delete\x7f",
    "{{ 7 * 7 }} {% raw %} {# no #} {{ cookiecutter.project_name }}",
    "{{cookiecutter.project_slug}}",
    "{{ cookiecutter.project_name | slugify }}",
    "{{ cookiecutter.__class__.__mro__ }}",
    "{% for",
    "100 % %s %(x)s %n ${HOME} $$ $(touch owned) `touch owned` ; touch owned && touch owned | cat",
    "[link](javascript:alert) <script>alert(1)</script> <!-- # * _ ~ -->",
    "Grüße, 你好, \u0440\u0443\u0441\u0441\u043a\u0438\u0439, \u05e9\u05dc\u05d5\u05dd",
    "🚀 👩‍💻, \u202eright to left",
    "\\n \\u0041 \\x41 \\N{DIGIT ONE}",
    "# a comment",
    "long " * 60 + "'\"",
    "\u4f60\u597d\uff0c" * 14,  # wide characters: 84 columns in 42 characters
    "\u4f60\u597d\uff0c" * 60,
    "x" * 300,
]


@pytest.mark.parametrize(("key", "value", "said"), BAD)
def test_bad_answer_is_refused(bake: Bake, tmp_path: Path, key: str, value: object, said: str) -> None:
    """A bad answer is named with its value and what would be right, and nothing is written."""
    good = {"project_slug": "good", "package_name": "good"}
    with pytest.raises(FailedHookException) as caught:
        bake(tmp_path, **{**good, key: value})
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{key}: '" if isinstance(value, str) else f"{key}: {value!r} ")
    assert said in line
    assert list(tmp_path.iterdir()) == []


def test_existing_folder_is_refused(bake: Bake, tmp_path: Path) -> None:
    """A folder that exists is left as it is."""
    (tmp_path / "hello-service").mkdir()
    with pytest.raises(OutputDirExistsException, match="already exists"):
        bake(tmp_path)
    assert list((tmp_path / "hello-service").iterdir()) == []


def test_refusal_on_the_command_line(cookiecutter_config: Path, tmp_path: Path) -> None:
    """All bad answers are told at once, one line each, without a traceback, and the exit code is 1."""
    command = [sys.executable, "-m", "cookiecutter", "--config-file", str(cookiecutter_config), "--no-input"]
    command += ["-o", str(tmp_path), str(ROOT), "project_slug=../evil", "package_name=import", "web=foo"]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert run.returncode == 1
    slug, package, web = run.stdout.splitlines()
    assert slug.startswith("project_slug: '../evil' is no name")
    assert package.startswith("package_name: 'import' is a keyword")
    assert web.startswith("web: 'foo' is not offered: give wsgi")
    assert list(tmp_path.iterdir()) == []


def test_hook_refuses_by_itself(tmp_path: Path) -> None:
    """The hook holds the rules: run as cookiecutter runs it, it refuses with one line a problem."""
    source = (ROOT / "hooks" / "pre_gen_project.py").read_text()
    answers = (
        '{"project_name": "x", "project_slug": "X", "package_name": "x", "description": "", "author": "",'
    )
    answers += ' "python_version": "3.11", "web": "cgi", "rpc": "none"}'
    hook = tmp_path / "hook.py"
    hook.write_text(source.replace('"{{ cookiecutter | answers }}"', repr(answers)))
    run = subprocess.run([sys.executable, hook], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert [line.split(":")[0] for line in run.stderr.splitlines()] == ["project_slug", "web"]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_text_survives_as_data(
    bake: Bake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """A description and an author are the same text wherever the project has it; nothing in it runs."""
    monkeypatch.chdir(tmp_path)
    project = bake(tmp_path, description=text, author=text)
    assert project == tmp_path / "hello-service"
    described = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert described["description"] == text
    assert described.get("authors", [{"name": text}]) == [{"name": text}]
    tree = ast.parse((project / "src" / "hello_service" / "main.py").read_text(encoding="utf-8"))
    summaries = [
        node.value for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "summary"
    ]
    assert [ast.literal_eval(node) for node in summaries] == [text]
    ruff = Path(sys.executable).with_name("ruff")
    for command in (["format", "--diff"], ["check", "--quiet"]):
        run = subprocess.run(
            [ruff, *command, "src/hello_service/main.py"],
            cwd=project,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stdout
    assert not list(tmp_path.rglob("owned"))
    assert [path.name for path in tmp_path.iterdir()] == ["hello-service"]


@pytest.mark.parametrize("rpc", ["none", "thrift"])
@pytest.mark.parametrize("web", ["wsgi", "async", "none"])
def test_the_longest_names(bake: Bake, web: str, rpc: str) -> None:
    """A project whose names are as long as they may be is formatted and lints as any other."""
    project = bake(project_slug="s" * 63, package_name="p" * 63, web=web, rpc=rpc)
    ruff = Path(sys.executable).with_name("ruff")
    for command in (["format", "--diff", "."], ["check", "--quiet", "."]):
        run = subprocess.run([ruff, *command], cwd=project, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout


def test_text_is_the_same_in_a_configuration_file(
    bake: Bake, cookiecutter_config: Path, tmp_path: Path
) -> None:
    """An answer from a user's own configuration file is data too."""
    config = cookiecutter_config.with_name("default.yaml")
    config.write_text(cookiecutter_config.read_text() + 'default_context:\n  author: "{{ 7 * 7 }}"\n')
    command = [sys.executable, "-m", "cookiecutter", "--config-file", str(config), "--no-input"]
    subprocess.run([*command, "-o", str(tmp_path), str(ROOT)], check=True, stdout=subprocess.DEVNULL)
    described = tomllib.loads((tmp_path / "hello-service" / "pyproject.toml").read_text())["project"]
    assert described["authors"] == [{"name": "{{ 7 * 7 }}"}]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("author: null", "author: None is no text: put it in quotes"),
        ("description: true", "description: True is no text: put it in quotes"),
        ("description: 2026-11-28", "description: datetime.date(2026, 11, 28) is no text: put it in quotes"),
        ("python_version: 3.10", "python_version: 3.1 is no text: put it in quotes"),
        ('python_version: "3.10"', "python_version: '3.10' is not offered: give 3.11 or 3.12 or 3.13"),
        ("web: django", "web: 'django' is not offered: give wsgi or async or none"),
        ("web: [async]", "web: ['async'] is no text: put it in quotes"),
        ("author: [Ann, Bob]", "author: ['Ann', 'Bob'] is no text: put it in quotes"),
    ],
)
def test_a_configuration_file_is_held_to_the_rules(
    cookiecutter_config: Path, tmp_path: Path, line: str, said: str
) -> None:
    """Answers of other types, and choices that are none, are refused by a line; nothing is written."""
    config = tmp_path / "config.yaml"
    config.write_text(cookiecutter_config.read_text() + f"default_context:\n  {line}\n")
    out = tmp_path / "out"
    out.mkdir()
    command = [
        sys.executable,
        "-m",
        "cookiecutter",
        "--config-file",
        str(config),
        "--no-input",
        "-o",
        str(out),
    ]
    run = subprocess.run([*command, str(ROOT)], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert (run.stdout, run.stderr) == (f"{said}\n", "")
    assert list(out.iterdir()) == []


def test_prefixes_that_the_deploy_files_set(bake: Bake) -> None:
    """No package may have a name whose environment variables its deploy files, or systemd for them, set."""
    project = bake(rpc="thrift")
    unit = (project / "deploy" / "systemd" / "hello-service.service").read_text()
    # systemd.exec(5): `CacheDirectory=` sets CACHE_DIRECTORY, and so on.
    found = {name.lower() for name in re.findall(r"(?m)^(\w+)Directory=", unit)} - {"working"}
    found |= {"listen", "notify", "watchdog", "credentials", "invocation", "journal", "systemd", "mainpid"}
    for path in (project / "deploy").rglob("*"):
        if path.is_file():
            text = re.sub(r"(?m)^\s*[#;].*$", "", path.read_text())
            names = re.findall(r"\b([A-Z][A-Z0-9]*)_[A-Z_]+=|\bname: ([A-Z][A-Z0-9]*)_", text)
            found |= {word.lower() for pair in names for word in pair if word}
    found |= {
        name.lower() for name in re.findall(r"(?m)^export ([A-Z]+)_", (project / "Makefile").read_text())
    }
    # What the runbook advises to set.
    advised = re.findall(r"`([A-Z]+)_[A-Z_]+=", (ROOT / "docs" / "operations.md").read_text())
    assert "MALLOC" in advised
    found |= {name.lower() for name in advised}
    assert found - pre_gen_project.SET_ELSEWHERE == set()


def test_names_are_derived(bake: Bake, tmp_path: Path) -> None:
    """Slug and package name follow from the name, letters of other alphabets included."""
    project = bake(tmp_path, project_name='Größe "2" of 北京')
    assert project.name == "grosse-2-of-bei-jing"
    assert (project / "src" / "grosse_2_of_bei_jing").is_dir()


def test_answers_are_asked_with_labels(cookiecutter_config: Path, tmp_path: Path) -> None:
    """At the prompts every question is a sentence for a person, and what is typed is data."""
    command = [sys.executable, "-m", "cookiecutter", "--config-file", str(cookiecutter_config), str(ROOT)]
    typed = "Typed Service\n\n\n{{ 7 * 7 }}\n\n2\n3\n1\n"
    run = subprocess.run(command, cwd=tmp_path, input=typed, capture_output=True, text=True, check=True)
    assert "Oldest Python it must run on" in run.stdout
    assert "package_name" not in run.stdout
    described = tomllib.loads((tmp_path / "typed-service" / "pyproject.toml").read_text())["project"]
    assert described["description"] == "{{ 7 * 7 }}"
    assert described["requires-python"] == ">=3.12"


def test_random_answers_are_data(bake: Bake, monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 texts of random characters are the same text as an answer, and formatted Python in main.py."""
    seeded = random.Random(20261128)  # the same texts in every run
    alphabet = [*map(chr, range(1, 127)), *"\"'\\ \n{}%#äß\u4f60\uff0c\u202e\x85\u2028🚀", "{{", "}}", "{%"]
    texts = ["".join(seeded.choices(alphabet, k=seeded.choice((3, 20, 90, 200)))) for _ in range(20000)]
    monkeypatch.syspath_prepend(str(ROOT))
    environment = create_env_with_context(
        {"cookiecutter": {"_extensions": ["needs_cookiecutter_2_1_or_newer.AnswersAreData"]}}
    )
    asked = {"project_name": "x", "project_slug": "x", "package_name": "x"}
    for text in texts:
        assert environment.from_string(text).render(cookiecutter=asked) == text
    python = environment.filters["python"]
    shown = "".join(f"print(\n    summary={python(text)},\n)\n" for text in texts)
    calls = [node for node in ast.walk(ast.parse(shown)) if isinstance(node, ast.keyword)]
    assert [ast.literal_eval(call.value) for call in calls] == texts
    source = bake() / "src" / "hello_service" / "shown.py"
    # A formatter joins arguments that fit into a line; a second one keeps them apart, as in main.py.
    source.write_text(shown.replace("print(\n", "print(\n    end=__name__,\n"), encoding="utf-8")
    ruff = Path(sys.executable).with_name("ruff")
    for command in (["format", "--diff"], ["check", "--quiet", "--ignore=D100,T201"]):
        run = subprocess.run(
            [ruff, *command, source], cwd=source.parents[2], capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stdout[:2000]


def test_names_that_ruff_and_git_skip(bake: Bake) -> None:
    """No package may be named like a folder that ruff leaves out by default, or that git is told to."""
    project = bake()
    ruff = Path(sys.executable).with_name("ruff")
    shown = subprocess.run(
        [ruff, "check", "--show-settings", "."], cwd=project, capture_output=True, text=True, check=True
    ).stdout
    excluded = set(re.findall(r'"([^"]+)"', shown.split("file_resolver.exclude = [")[1].split("]")[0]))
    assert "node_modules" in excluded
    ignored = {line.strip("/") for line in (project / ".gitignore").read_text().splitlines()}
    packages = {name for name in excluded | ignored if re.fullmatch(r"[a-z][a-z0-9_]*", name)}
    assert packages <= pre_gen_project.SKIPPED
