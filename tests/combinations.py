"""docs/combinations.md: what test_bakes.py and test_pants.py have seen of every combination of answers."""

from __future__ import annotations

import re
from contextlib import contextmanager
from itertools import product
from typing import TYPE_CHECKING

import pytest

from hooks.pre_gen_project import CHOICES

from .conftest import BAKED, CACHE, ROOT, alone, pythons

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = ROOT / "docs" / "combinations.md"
COLUMNS = {
    "lints, types": "test_it_lints",
    "tests": "test_its_tests_pass",
    "pex": "test_its_pex_serves",
    "serves, stops": "test_its_pex_serves",
}
"""What stands above a column, and the test in test_bakes.py that must have passed."""
PANTS = "Pants"
"""What stands above the last column. test_pants.py writes its cells, later and where there can be a Pants."""
NOT_BUILT = "-"
BY_PANTS = (("wsgi", "none", "3.11"), ("async", "none", "3.11"), ("none", "thrift", "3.11"))
"""What it builds there: each kind of `web`, with and without `rpc`."""


def row(combination: tuple[str, ...], by_pants: str = NOT_BUILT) -> str:
    """Return the line of a combination for which all has passed."""
    cells = [*(f"`{each}`" for each in combination), *["yes"] * len(COLUMNS), by_pants]
    return f"| {' | '.join(cells)} |"


def note_pants(combination: tuple[str, ...]) -> None:
    """Write that Pants has built a combination; a page that says so is left alone."""
    with rewriting() as page:
        page.append(page[0].replace(row(combination), row(combination, "yes")))


@contextmanager
def rewriting() -> Iterator[list[str]]:
    """Give the page's text, and write what is appended to it; others read the old page or the new one."""
    with alone(CACHE.parent / "combinations.lock"):
        page = [PAGE.read_text(encoding="utf-8")]
        yield page
        if page[-1] != page[0]:
            part = CACHE.parent / "combinations.md"
            part.write_text(page[-1], encoding="utf-8")
            part.replace(PAGE)


def of_pants(line: str) -> str:
    """Return what a line says of Pants."""
    return line.rsplit(" | ", maxsplit=1)[-1].removesuffix(" |")


def write_page() -> None:
    """Write a line for each combination of this run; the others stay as they were."""
    offered = set(product(*(CHOICES[key] for key in ("web", "rpc", "python_version"))))
    here = {each for each in offered if set(COLUMNS.values()) <= BAKED.get(each, set())}
    if not here or here != set(BAKED):
        pytest.skip("no combination was run before, or one of them failed")
    table = [f"| web | rpc | Python | {' | '.join([*COLUMNS, PANTS])} |", "|---" * (4 + len(COLUMNS)) + "|"]
    with rewriting() as page:
        lines = [line for line in page[0].splitlines() if "| yes |" in line]
        before = {tuple(re.findall(r"`([^`]+)`", line)): line for line in lines}
        rows = {key: line for key, line in before.items() if key in offered}
        rows |= {key: row(key, of_pants(before.get(key, row(key)))) for key in here}
        head = page[0].partition("| web ")[0]
        page.append(head + "\n".join([*table, *(rows[key] for key in sorted(rows))]) + "\n")
    assert set(rows) == offered or set(pythons()) < set(CHOICES["python_version"])


def check_page() -> None:
    """Hold that each line is of answers that are offered today, and is there once."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    offered = list(product(*(CHOICES[key] for key in ("web", "rpc", "python_version"))))
    assert lines
    assert set(lines) <= {row(each, cell) for each in offered for cell in ("yes", NOT_BUILT)}
    assert len(set(lines)) == len(lines)
    # What a test does, and no more.
    assert {line for line in lines if of_pants(line) == "yes"} == {row(each, "yes") for each in BY_PANTS}
