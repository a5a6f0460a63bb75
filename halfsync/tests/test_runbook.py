"""The runbook of `docs/operations.md`: each row names tests that break the thing and follow the advice."""

from __future__ import annotations

import re
from pathlib import Path

from children import ROOT

RUNBOOK = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def rows() -> list[list[str]]:
    """Return the rows of the table."""
    section = RUNBOOK.partition("## When something is wrong")[2].partition("\n## ")[0]
    lines = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return [line for line in lines if "you see" not in line[0]]


def test_each_claim_is_held_by_a_test_that_there_is():
    """A row without one, or with a name that has gone, is a promise that nobody keeps."""
    assert len(rows()) > 10
    for row in rows():
        named = re.findall(r"`(test_\w+\.py)::(\w+)`", row[-1])
        assert named, row
        for file, test in named:
            source = (Path(__file__).parent / file).read_text(encoding="utf-8")
            assert re.search(rf"def {test}\(", source), f"{file}::{test}"
