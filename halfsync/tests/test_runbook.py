"""The runbook of `docs/operations.md`: each row names tests that break the thing and follow the advice."""

from __future__ import annotations

import re
from pathlib import Path

from children import ROOT

RUNBOOK = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


TABLES = ("When something is wrong", "What holds the rest of this page")


def rows(heading: str) -> list[list[str]]:
    """Return the rows of the table below a heading."""
    section = RUNBOOK.partition(f"## {heading}")[2].partition("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return lines[1:]


def test_each_claim_is_held_by_a_test_that_there_is():
    """A row without one, or with a name that has gone, is a promise that nobody keeps."""
    for heading in TABLES:
        assert len(rows(heading)) > 10
        for row in rows(heading):
            named = re.findall(r"`((?:tests/)?test_\w+\.py)::(\w+)`", row[-1])
            assert named, row
            for file, test in named:
                place = ROOT if file.startswith("tests/") else Path(__file__).parent
                source = (place / file).read_text(encoding="utf-8")
                assert re.search(rf"def {test}\(", source), f"{file}::{test}"


def test_each_section_has_claims_that_are_held():
    """The first table has its own section, the second one those of all others."""
    headings = re.findall(r"(?m)^## (.+)$", RUNBOOK)
    assert {row[0] for row in rows(TABLES[1])} == set(headings) - set(TABLES)
