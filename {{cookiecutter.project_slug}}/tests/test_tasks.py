from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import treq
from halfsync.testing import flags_set
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from {{ cookiecutter.package_name }} import tasks

if TYPE_CHECKING:
    import pytest
    from halfsync import Periodic


def run(monkeypatch: pytest.MonkeyPatch, code: int) -> Periodic:
    """Run the tasks for one interval of a clock's, beside a page that answers with `code`."""

    async def get(_url: str, **_options: Any) -> Any:
        return SimpleNamespace(code=code, content=lambda: succeed(b"Hello, world!\n"))

    monkeypatch.setattr(treq, "get", get)
    clock = Clock()
    with flags_set({"tasks.interval": "10"}):
        part = tasks.schedule(clock, own_page=lambda: "http://page.test/")
        Deferred.fromCoroutine(part.start())
        clock.pump([10, 1])  # a run begins up to a tenth of the interval after its time
    return part["check_page"]


def test_good_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that answers is good, and checked at the start and after each interval."""
    task = run(monkeypatch, 200)
    assert (task.runs, task.failures) == (2, 0)


def test_bad_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that answers with an error fails the run, so that it is counted and logged; the next waits."""
    task = run(monkeypatch, 503)
    assert (task.runs, task.failures) == (1, 1)
    assert task.last_error == "PageError: http://page.test/ answered 503"
