"""Flags of a test's own, and a service with a manhole that tests share."""

from __future__ import annotations

from threading import Timer
from typing import TYPE_CHECKING

import pytest

from halfsync import flag
from halfsync.flags import declaring, parsing
from house import House, make_keys, start

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _flags_have_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a test, flags can be read and declared whenever it likes."""
    monkeypatch.setattr(declaring.reading, "allowed", True)
    monkeypatch.setattr(declaring.reading, "parsed", False)


@pytest.fixture
def own_flags(monkeypatch: pytest.MonkeyPatch) -> flag.GlobalFlagSet:
    """An empty set of flags but for those of the flags layer itself; what a test sets, no other sees."""
    shared = flag.GLOBAL_FLAGS.namespace("")._flags
    fresh = flag.GlobalFlagSet()
    fresh.namespace_flags[""] = flag.GLOBAL_FLAGS.namespace("")
    monkeypatch.setattr(flag, "GLOBAL_FLAGS", fresh)
    monkeypatch.setattr(parsing, "_settings", {})
    monkeypatch.setattr(parsing, "_registries", {})
    for var in shared.values():
        monkeypatch.setattr(var, "value", flag.UNSET)
    return fresh


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys, made once."""
    path = tmp_path_factory.mktemp("keys")
    make_keys(path)
    return path


@pytest.fixture(scope="module", params=["epoll", "asyncio"])
def house(request: pytest.FixtureRequest, folder: Path) -> Iterator[House]:
    """A service whose manhole is open, on each reactor."""
    with start(folder, "--manhole.open", f"--service.reactor={request.param}") as service:
        # A log that never says what a test waits for ends with the process.
        guard = Timer(500, service.process.kill)
        guard.start()
        made = House(service, folder)
        made.opened()
        yield made
        guard.cancel()
