"""The pages in docs/ speak of what there is."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import example

ROOT = Path(__file__).parent.parent
LIBRARY = ROOT / "halfsync" / "src" / "halfsync"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "halfsync" / "README.md",
    *(ROOT / "docs").glob("*.md"),
]


def test_the_picture_of_the_house_is_the_code_s() -> None:
    """docs/house.svg shows the imports as they are, and there is no circle among the rooms."""
    run = subprocess.run(
        [sys.executable, ROOT / "scripts" / "house.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")


def test_the_architecture_names_files_that_exist() -> None:
    """Every path of a module on the page is one of the library."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    paths = re.findall(r"`([\w/]+\.py)`", text)
    assert len(paths) > 20
    missing = [path for path in paths if not (LIBRARY / path).exists() and not (ROOT / path).exists()]
    assert set(missing) <= {"main.py"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page is a file, and every anchor in it a heading."""
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        path = (page.parent / name) if name else page
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}
            assert anchor in anchors, target


def test_the_example_is_what_the_template_generates(tmp_path: Path) -> None:
    """Every file of example/ is as a bake of all defaults has it, and no other is there."""
    made = example.generate(tmp_path / "example")

    def files(folder: Path) -> dict[str, str]:
        paths = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in paths}

    assert files(ROOT / "example") == files(made), "example/ is of another time: make example"


RECIPES = ROOT / "{{cookiecutter.project_slug}}" / "docs" / "recipes.md"


def test_recipes_use_names_that_exist() -> None:
    """Every snippet of the service's recipes is Python, and imports what the library has."""
    blocks = re.findall(r"```python\n(.*?)```", RECIPES.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 8
    for block in blocks:
        tree = compile(block, "recipe", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(str(node.module))
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{node.module}.{alias.name}"


def test_every_command_of_the_build_has_its_test() -> None:
    """Each row of a table of commands names a test that exists."""
    rows = re.findall(
        r"(?m)^\| `([^`]+)` \| .* \| `(test_\w+\.py)::(test_\w+)` \|$",
        (ROOT / "docs" / "building.md").read_text("utf-8"),
    )
    assert len(rows) >= 7
    for command, file, test in rows:
        assert f"def {test}(" in (ROOT / "tests" / file).read_text("utf-8"), command
    blocks = re.findall(r"(?m)^```console\n", (ROOT / "docs" / "building.md").read_text("utf-8"))
    assert blocks == []


def test_what_is_to_be_made_can_be_made() -> None:
    """Each `make ...` that a page, a comment or a message names is a target of one of the Makefiles."""
    makefiles = (ROOT / "Makefile", ROOT / "{{cookiecutter.project_slug}}" / "Makefile")
    targets = {
        target for path in makefiles for target in re.findall(r"(?m)^([a-z]+):", path.read_text("utf-8"))
    }
    listed = subprocess.run(["git", "grep", "-zIl", "make "], cwd=ROOT, capture_output=True, check=True)
    named = {
        (name, target)
        for name in listed.stdout.decode().split("\0")[:-1]
        for target in re.findall(r"(?:`|\$ )make ([a-z]+)", (ROOT / name).read_text("utf-8"))
    }
    assert len(named) > 20
    assert {(name, target) for name, target in named if target not in targets} == set()
