"""Flags of a test's own: what one test declares or sets, no other sees."""

from __future__ import annotations

import pytest
from oscar import flag

from chassis.flags import parsing


@pytest.fixture
def own_flags(monkeypatch: pytest.MonkeyPatch) -> flag.GlobalFlagSet:
    """An empty set of flags but for those of the flags layer itself (`--config`, `--help`, ...)."""
    shared = flag.GLOBAL_FLAGS.namespace("")._flags
    fresh = flag.GlobalFlagSet()
    fresh.namespace_flags[""] = flag.GLOBAL_FLAGS.namespace("")
    monkeypatch.setattr(flag, "GLOBAL_FLAGS", fresh)
    monkeypatch.setattr(parsing, "_settings", {})
    for var in shared.values():
        monkeypatch.setattr(var, "value", flag.UNSET)
    return fresh
