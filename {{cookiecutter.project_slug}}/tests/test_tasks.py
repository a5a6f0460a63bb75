from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import treq
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from {{ cookiecutter.package_name }} import tasks

if TYPE_CHECKING:
    import pytest


def check(monkeypatch: pytest.MonkeyPatch, code: int) -> object:
    """Check a page that answers with `code`; return what comes out."""

    async def get(_url: str, **_options: Any) -> Any:
        return SimpleNamespace(code=code, content=lambda: succeed(b"Hello, world!\n"))

    monkeypatch.setattr(treq, "get", get)
    outcome: list[object] = []
    Deferred.fromCoroutine(tasks.check(Clock(), "http://page.test/")).addBoth(outcome.append)
    return outcome.pop()


def test_good_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that answers is good."""
    assert check(monkeypatch, 200) is None


def test_bad_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that answers with an error fails the run, so that it is counted and logged."""
    outcome = check(monkeypatch, 503)
    assert isinstance(outcome, Failure)
    assert outcome.check(tasks.PageError)
