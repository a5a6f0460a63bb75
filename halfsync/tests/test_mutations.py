"""What `docs/mutations.md` says of the tests that mutants asked for."""

from __future__ import annotations

import re
from pathlib import Path

from children import ROOT

TESTS = Path(__file__).parent


def test_each_test_that_a_mutant_asked_for_is_there():
    """A test that goes takes its promise with it."""
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", (ROOT / "docs" / "mutations.md").read_text())
    assert named
    for file, test in named:
        assert re.search(rf"def {test}\(", (TESTS / file).read_text()), (file, test)
