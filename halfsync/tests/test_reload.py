"""What SIGHUP reads again, in which order, and what of it is told."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs
from twisted.internet.task import Clock

from halfsync import flags
from halfsync.life import reload
from halfsync.life.about import About
from halfsync.life.parts import Part
from halfsync.life.process import Process


class Reads(Part):
    """A part that has something from disk."""

    def __init__(self, done, refused):
        super().__init__("reads")
        self.done = done
        self.refused = refused

    def reload(self):
        """Note it, and say what was refused."""
        self.done.append("part")
        return self.refused


@pytest.fixture
def done(monkeypatch):
    """What is done, in its order; the file of flags has nothing new unless a test says otherwise."""
    done = []
    monkeypatch.setattr(reload.logs, "reopen", lambda: done.append("log"))
    monkeypatch.setattr(reload.flags, "reload", lambda: flags.Reloaded({}, []))
    return done


def reloaded(done, refused=()):
    """Reload a process with such a part; return what was refused, and (event, level, fields) of the log."""
    process = Process(About("hello"), Clock())
    process.add(Reads(done, list(refused)))
    with capture_logs() as events:
        found = reload.reload_all(process)
    return found, [(each.pop("event"), each.pop("log_level"), each) for each in events]


def test_nothing_new_is_told_in_one_line(done):
    """The log is a new file even so, and the parts read what they have from disk."""
    assert reloaded(done) == ([], [("service.reloaded", "info", {})])
    assert done == ["log", "part"]


def test_what_changed_and_what_needs_a_start(done, monkeypatch):
    """Each is an event of its own, and only where there is something to tell."""
    monkeypatch.setattr(
        reload.flags, "reload", lambda: flags.Reloaded({"log.level": "debug"}, ["web.threads"])
    )
    assert reloaded(done) == (
        [],
        [
            ("flags.reloaded", "info", {"changed": {"log.level": "debug"}}),
            ("flags.need_a_start", "warning", {"flags": ["web.threads"]}),
            ("service.reloaded", "info", {}),
        ],
    )


def test_what_is_refused_is_told_and_keeps_nothing_else_from_being_read(done, monkeypatch):
    """The caller, which is to tell systemd, hears of the file of flags and of each part."""

    def wrong():
        raise flags.FlagError("--log.level: 'loud' is none")

    monkeypatch.setattr(reload.flags, "reload", wrong)
    found, events = reloaded(done, ["reads: the certificate has expired"])
    assert found == ["--log.level: 'loud' is none", "reads: the certificate has expired"]
    assert ("flags.reload_refused", "error", {"problem": "--log.level: 'loud' is none"}) in events
    assert events[-1] == ("service.reloaded", "info", {})
    assert done == ["log", "part"]
