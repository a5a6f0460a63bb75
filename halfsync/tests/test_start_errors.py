"""Each message that ends a start has a section in `docs/start-errors.md`, found by its words."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from halfsync.life.errors import StartError, UnusableError, WrongFlagsError

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "halfsync" / "src" / "halfsync"
DOCUMENT = ROOT / "docs" / "start-errors.md"

ERRORS = {
    "StartError",
    "UnusableError",
    "ListenError",
    "EndpointError",
    "CertificateError",
    "FlagError",
    "KeyFileError",
    "TokenError",
    "LogFileError",
}
READERS = ("flags/types.py", "flags/values.py", "endpoints/parsing.py", "endpoints/addresses.py")
"""Where a ValueError becomes one of those."""

FILLED_IN = "\0"


def text(node: ast.AST) -> str:
    """Return a text as far as it is constant."""
    if isinstance(node, ast.JoinedStr):
        return "".join(text(each) for each in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else FILLED_IN


def messages() -> Iterator[str]:
    """Find what the errors say that end a start; without those that only pass on what another one says."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args):
                continue
            name = getattr(node.exc.func, "id", getattr(node.exc.func, "attr", ""))
            if name in ERRORS or (name == "ValueError" and str(path).endswith(READERS)):
                said = text(node.exc.args[0])
                if re.search(r"[a-z]{2,} \w|\w [a-z]{2,}", re.sub(r"--[\w.]*", "", said)):
                    yield said


def headings() -> list[list[str]]:
    """Return the words of each section."""
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    return [re.findall(r"`([^`]+)`", line) for line in lines if line.startswith("### ")]


def test_each_message_has_its_section():
    """Whoever searches for the words of the line that was printed finds why, and what to do."""
    known = [words for section in headings() for words in section]
    unknown = [said for said in messages() if not any(words in said for words in known)]
    assert not unknown, f"docs/start-errors.md needs words of these in a heading: {unknown}"


def test_each_section_is_of_a_message_that_there_is():
    """Nothing is explained that cannot happen: the words stand in the source."""
    sources = [
        text(node)
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.JoinedStr | ast.Constant)
    ]
    said = "\n".join(each for each in sources if each != FILLED_IN)
    gone = [words for section in headings() for words in section if words not in said]
    assert not gone


def test_each_section_says_what_to_do():
    """A heading alone helps nobody."""
    for section in DOCUMENT.read_text(encoding="utf-8").split("\n### ")[1:]:
        assert len(section.split("\n## ")[0].splitlines()) > 2, section


@pytest.mark.parametrize(
    ("kind", "code", "wrong_argument"),
    [(StartError, 1, False), (UnusableError, 1, True), (WrongFlagsError, 2, False)],
)
def test_what_another_try_could_mend_is_tried_again(
    kind: type[StartError], code: int, *, wrong_argument: bool
) -> None:
    """Exit code 1 is; 2, that of wrong flags, is not. A wrong argument is a ValueError to a test."""
    assert issubclass(kind, StartError)
    assert kind("one line").exit_code == code
    assert issubclass(kind, ValueError) is wrong_argument
