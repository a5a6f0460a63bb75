from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock

from halfsync.life.about import About
from halfsync.life.errors import StartError
from halfsync.life.parts import Part
from halfsync.life.process import Process
from halfsync.life.sockets import Sockets, listening_descriptors

ABOUT = About(name="hello", package="hello", version="1", summary="")


class Recorder(Part):
    """A part that says what is done to it, and waits where a test wants it to."""

    def __init__(self, name: str, said: list[str], waits: dict[str, Deferred[None]] | None = None) -> None:
        super().__init__(name)
        self.said = said
        self.waits = waits or {}

    async def _do(self, what: str) -> None:
        self.said.append(f"{what} {self.label}")
        await self.waits.get(what, succeed(None))
        self.said.append(f"{what} {self.label}: done")

    async def start(self) -> None:
        await self._do("start")

    async def drain(self) -> None:
        await self._do("drain")

    async def stop(self) -> None:
        await self._do("stop")

    def problems(self) -> list[str]:
        return ["unwell"] if self.label == "ill" else []


def process_of(*parts: Part) -> Process:
    process = Process(ABOUT, Clock())
    for part in parts:
        process.add(part)
    return process


def test_parts_start_in_order_each_awaited():
    """The second part does not start before the first has started."""
    said: list[str] = []
    first: Deferred[None] = Deferred()
    process = process_of(Recorder("a", said, {"start": first}), Recorder("b", said))
    started = Deferred.fromCoroutine(process.start())
    assert (said, process.state) == (["start a"], "starting")
    first.callback(None)
    assert started.called
    assert said == ["start a", "start a: done", "start b", "start b: done"]
    assert process.state == "running"


def test_parts_stop_in_reverse_each_awaited():
    """What feeds another part is gone before that part goes."""
    said: list[str] = []
    slow: Deferred[None] = Deferred()
    process = process_of(Recorder("a", said), Recorder("b", said, {"stop": slow}))
    Deferred.fromCoroutine(process.start())
    del said[:]
    Deferred.fromCoroutine(process.close())
    assert said == ["stop b"]
    slow.callback(None)
    assert said == ["stop b", "stop b: done", "stop a", "stop a: done"]


def test_a_failed_start_unwinds_what_had_started():
    """The part that failed is not stopped, nor are those after it; the error reaches the caller."""
    said: list[str] = []
    failing: Deferred[None] = Deferred()
    process = process_of(
        Recorder("a", said), Recorder("b", said), Recorder("c", said, {"start": failing}), Recorder("d", said)
    )
    started = Deferred.fromCoroutine(process.start())
    failing.errback(StartError("taken"))
    errors: list[BaseException] = []
    started.addErrback(lambda failure: errors.append(failure.value))
    assert [str(error) for error in errors] == ["taken"]
    assert said[-4:] == ["stop b", "stop b: done", "stop a", "stop a: done"]
    assert "stop c" not in said
    assert "start d" not in said
    assert process.state == "stopped"


def test_parts_drain_together_and_the_slow_ones_are_known():
    said: list[str] = []
    slow: Deferred[None] = Deferred()
    process = process_of(Recorder("a", said, {"drain": slow}), Recorder("b", said))
    Deferred.fromCoroutine(process.start())
    drained = Deferred.fromCoroutine(process.drain())
    assert said[-3:] == ["drain a", "drain b", "drain b: done"]
    assert (process.state, process.unfinished()) == ("draining", ["a"])
    slow.callback(None)
    assert drained.called
    assert process.unfinished() == []


def test_a_cancelled_drain_lets_go_and_knows_who_was_not_done():
    slow: Deferred[None] = Deferred()
    process = process_of(Recorder("a", [], {"drain": slow}), Recorder("b", []))
    Deferred.fromCoroutine(process.start())
    drained = Deferred.fromCoroutine(process.drain())
    drained.cancel()
    assert drained.called
    assert process.unfinished() == ["a"]


@pytest.mark.parametrize("when", ["drain", "stop"])
def test_one_parts_bug_does_not_keep_the_others(when):
    """A part that raises in its drain or its stop leaves the others theirs."""
    said: list[str] = []
    broken: Deferred[None] = Deferred()
    process = process_of(Recorder("a", said), Recorder("b", said, {when: broken}))
    Deferred.fromCoroutine(process.start())
    done = Deferred.fromCoroutine((process.drain if when == "drain" else process.close)())
    broken.errback(RuntimeError("bug"))
    assert done.called
    assert f"{when} a: done" in said


def test_problems_name_the_part():
    process = process_of(Recorder("well", []), Recorder("ill", []))
    assert process.problems() == ["the process is starting", "ill: unwell"]
    Deferred.fromCoroutine(process.start())
    assert process.problems() == ["ill: unwell"]


def test_parts_are_found_by_name():
    part = Recorder("a", [])
    assert process_of(part).part("a") is part
    with pytest.raises(KeyError):
        process_of().part("a")


class Binder(Recorder):
    """A part that says when it binds."""

    async def bind(self, sockets: Sockets) -> None:
        self.sockets = sockets
        await self._do("bind")

    async def unbind(self) -> None:
        await self._do("unbind")


def test_every_part_binds_before_one_starts():
    """A start that fails has accepted no connection; the bound parts let go, last first."""
    said: list[str] = []
    failing: Deferred[None] = Deferred()
    process = process_of(Binder("a", said), Binder("b", said, {"start": failing}), Binder("c", said))
    Deferred.fromCoroutine(process.start()).addErrback(lambda _: None)
    assert [each for each in said if "done" not in each] == [
        "bind a",
        "bind b",
        "bind c",
        "start a",
        "start b",
    ]
    del said[:]
    failing.errback(StartError("no"))
    assert [each for each in said if "done" not in each] == ["stop a", "unbind c", "unbind b"]


def test_a_bind_that_fails_undoes_those_before():
    """No part is started; the part that failed is not unbound, nor are those after it."""
    said: list[str] = []
    failing: Deferred[None] = Deferred()
    process = process_of(Binder("a", said), Binder("b", said, {"bind": failing}), Binder("c", said))
    Deferred.fromCoroutine(process.start()).addErrback(lambda _: None)
    failing.errback(StartError("taken"))
    assert [each for each in said if "done" not in each] == ["bind a", "bind b", "unbind a"]
    assert process.state == "stopped"


def test_sockets_that_were_given_are_taken_once_or_closed():
    """What nobody takes is known, and closed when it is forgotten."""
    sockets = Sockets()
    with socket.socket() as one, socket.socket() as other:
        sockets.give("tcp:127.0.0.1 80", one)
        sockets.give("tcp:127.0.0.1 80", other)
        assert sockets.take("unix:/x") is None
        assert sockets.take("tcp:127.0.0.1 80") is one
        assert sockets.given() == [other]
        sockets.forget()
        assert (one.fileno() >= 0, other.fileno(), sockets.given()) == (True, -1, [])
        assert sockets.take("tcp:127.0.0.1 80") is None


def test_each_is_told_when_all_have_started():
    """What must wait for the others is done after the last of them has started."""
    said: list[str] = []

    class Last(Recorder):
        async def ready(self) -> None:
            self.said.append(f"ready {self.label}, {process.state}")

    process = process_of(Last("a", said), Recorder("b", said))
    Deferred.fromCoroutine(process.start())
    assert said[-2:] == ["start b: done", "ready a, running"]


@pytest.mark.parametrize("how", ["told_to_stop", "stop_signalled"])
def test_a_stop_during_the_start_undoes_it(how):
    """By either way; no part is told that all have started, as the process before would then let go."""
    said: list[str] = []
    process = process_of(Recorder("a", said))
    if how == "told_to_stop":
        process.told_to_stop.callback("SIGTERM")
    else:
        process.stop_signalled = True
    started = Deferred.fromCoroutine(process.start())
    assert isinstance(failed(started), CancelledError)
    assert said[-1] == "stop a: done"
    assert process.state == "stopped"


def failed(deferred: Deferred[None]) -> BaseException | None:
    errors: list[BaseException] = []
    deferred.addErrback(lambda failure: errors.append(failure.value))
    return errors[0] if errors else None


def test_who_wants_to_know_is_told_once_that_the_process_drains():
    """When it begins, in the order of asking; and at once when it has begun."""
    told: list[str] = []
    process = process_of(Recorder("a", [], {"drain": Deferred()}))
    Deferred.fromCoroutine(process.start())
    process.on_drain(lambda: told.append("first"))
    process.on_drain(lambda: told.append("second"))
    assert (told, process.draining) == ([], False)
    Deferred.fromCoroutine(process.drain())
    assert (told, process.draining) == (["first", "second"], True)
    process.on_drain(lambda: told.append("late"))
    assert told == ["first", "second", "late"]


def test_what_parts_say_is_what_the_process_says():
    """Of requests, connections and figures, those of every part; one with a bug is left out."""

    class Says(Part):
        def requests(self):
            return [f"request of {self.label}"]

        def connections(self):
            return [f"connection of {self.label}"]

        def metrics(self):
            return [f"figure of {self.label}"]

    class Broken(Part):
        requests = connections = metrics = None

    process = process_of(Says("a"), Broken("x"), Says("b"))
    with capture_logs():
        assert process.requests() == ["request of a", "request of b"]
        assert process.connections() == ["connection of a", "connection of b"]
        assert process.metrics() == ["figure of a", "figure of b"]


def test_a_part_that_says_nothing_of_itself_says_so_quietly():
    """What it does not override is empty, and no error of a bug is logged for it."""
    process = Process(ABOUT, Clock())
    part = process.add(Part("plain"))
    assert part.open_files() == 0
    with capture_logs() as events:
        asked = [process.requests(), process.connections(), process.metrics(), process.problems()]
        assert (asked, process.workers(), process.tasks()) == (
            [[], [], [], ["the process is starting"]],
            {},
            {},
        )
    assert events == []
    # In no process, nobody hears it.
    Part("alone").give_up("for a reason")


def test_looking_for_sockets_that_listen_keeps_nothing_open(tmp_path):
    """A descriptor left behind would hold the log's old file, and its disk, after each rotation."""
    path = tmp_path / "log"
    with (
        path.open("w") as file,
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as connected,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
    ):
        before = sorted(Path("/proc/self/fd").iterdir())
        found = listening_descriptors()
        assert sorted(Path("/proc/self/fd").iterdir()) == before
        assert found[listening.fileno()] == os.fstat(listening.fileno()).st_ino
        assert not {file.fileno(), connected.fileno(), datagrams.fileno(), 0, 1, 2} & found.keys()
