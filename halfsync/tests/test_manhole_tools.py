"""What a session finds, without a session."""

from __future__ import annotations

import functools
import os
import re
import sys
import threading
from typing import Any, ClassVar

import pytest
from twisted.internet import reactor as real_reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from halfsync import logs
from halfsync.endpoints.listener import Listener
from halfsync.life.about import About
from halfsync.life.facts import OpenConnection, RunningRequest
from halfsync.life.parts import Part
from halfsync.life.process import Process
from halfsync.life.stalls import Stall, Stalls
from halfsync.logs.sink import Sink
from halfsync.manhole import completion, heap, profiler, views
from halfsync.manhole.tools import Tools
from halfsync.manhole.views import render
from halfsync.periodic import Periodic

PATIENCE = 60


class Reactor(Clock):
    """A clock whose thread is the test's; it answers other threads while `answers` is set."""

    def __init__(self):
        super().__init__()
        self.answers = threading.Event()
        self.answers.set()

    def callFromThread(self, call, *arguments):
        if self.answers.wait(0):
            call(*arguments)
        else:
            threading.Thread(target=lambda: self.answers.wait(PATIENCE) and call(*arguments)).start()


@pytest.fixture
def tools():
    process = Process(About("svc", "svc", "1", ""), Reactor())
    process.add(Part("part-one"))
    made = Tools(process, lambda: {"closes_at": None}, threaded=False)
    yield made
    made.end()


def test_stalls_are_shown(tools):
    """When each was, how long it took, and what the reactor was at."""
    assert tools.stalls() == "nothing watches: --service.stall=0"
    watch = tools._process.stalls = Stalls(tools._reactor, 0.2)
    assert tools.stalls() == "no stall of 0.2 s or more"
    watch.seen.append(Stall(0, 1.5, ["x.py:1 f: g()"]))
    assert tools.stalls() == "00:00:00 UTC: 1.50 s\n    x.py:1 f: g()"


def spin(over):
    while not over.is_set():
        sum(range(1000))


def test_a_profile_names_what_takes_the_time():
    """A tree for each thread, busiest first, with the share of its calls; none of the idle, nor the log's."""
    over = threading.Event()
    Sink(os.open(os.devnull, os.O_WRONLY))
    threads = [
        threading.Thread(target=spin, args=(over,), name="spinner"),
        threading.Thread(target=over.wait, name="sleeper"),
    ]
    for thread in threads:
        thread.start()
    switch = sys.getswitchinterval()
    try:
        taker = profiler.Profiler()
        busy = taker.profile(0.2)
        everyone = taker.profile(0.02, waiting=True)
        with taker._lock, pytest.raises(RuntimeError, match="another profile"):
            taker.profile(1)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert sys.getswitchinterval() == switch
    lines = busy.split("\n")
    assert lines[0].endswith(" samples in 0.2 s")
    assert [line.partition("  ")[2] for line in lines if " spin  " in line] != []
    assert "spinner: in 100% of them" in busy
    assert "sleeper" not in busy
    assert "log: in" not in busy
    assert "sleeper: in 100% of them" in everyone


def test_growth_is_told_by_line(tools):
    """The first look begins, the second tells, the end leaves nothing traced."""
    import tracemalloc

    growth = tools._growth
    assert "every allocation is traced" in growth.look()
    kept = [bytes(1000) for _ in range(1000)]
    told = growth.look()
    assert re.fullmatch(r" +\+\d+\.\d KiB +\+\d+ blocks  test_manhole_tools.py:\d+", told.split("\n")[1])
    assert len(kept) == 1000
    tools.end()
    assert not tracemalloc.is_tracing()


class Keeper:
    """Refers to something in three ways."""

    def __init__(self, kept):
        self.kept = kept
        self.many = [1, kept]
        self.named = {"by": kept}


def test_who_refers_to_an_object():
    """Attribute, place, key and call, so that the reader finds them in the source."""
    thing = Keeper(None)
    keeper = Keeper(thing)
    told = heap.referrers(thing)
    assert "Keeper object at" in told
    assert ", at kept" in told
    assert "list of 2, at 1" in told
    assert "dict of 1, at 'by'" in told
    assert "module test_manhole_tools, at 'Keeper'" in heap.referrers(Keeper)
    assert keeper.kept is thing


def test_the_log_returns_by_itself(tools):
    """After the time given the level is what it was."""
    before = logs.level()
    try:
        assert tools.log("debug", for_=30) == "everything is logged from debug on for 30 s"
        assert logs.level() == "debug"
        tools._reactor.advance(31)
        assert logs.level() == before
    finally:
        tools._process.log_levels.set(before)


def test_requests_and_threads(tools):
    """The age, the method and path, the peer, and the thread that is at it."""
    part = Part("web")
    part.requests = lambda: [RunningRequest("web", "GET", "/slow", "10.0.0.1:1", 0.0, "web-1")]
    tools._process.add(part)
    tools._reactor.advance(2.5)
    assert tools.requests() == "   2.500 s  GET /slow  10.0.0.1:1  web-1"
    assert "test_requests_and_threads" in tools.threads()


def test_the_ten_that_hold_most_are_shown(tools):
    """In memory and on the disk together, the worst first; none that holds nothing."""
    (part,) = tools._process
    part.connections = lambda: [
        OpenConnection("web", "idle"),
        OpenConnection("web", "10.0.0.1:1", memory=5, at="POST /a"),
        *(OpenConnection("web", f"10.0.0.2:{port}", disk=port) for port in range(100, 120)),
    ]
    rows = tools.holders().split("\n")
    assert rows[0] == "web  10.0.0.2:119  0 bytes of memory  119 of disk"
    assert len(rows) == 10
    assert tools.holders(most=30).split("\n")[-1] == "web  10.0.0.1:1  5 bytes of memory  0 of disk  POST /a"
    part.connections = list
    assert tools.holders() == "no connection holds anything"


def test_connections_are_shown(tools):
    """Listener, peer, and what is known of the rest; and how many there are of each listener."""
    part = Part("web")
    whole = OpenConnection("web", "10.0.0.1:1", age=5.04, asked=3, at="GET /slow, GET /", idle=0.5, unsent=7)
    part.connections = lambda: [OpenConnection("web", "unix"), whole]
    tools._process.add(part)
    assert tools.connections().split("\n") == [
        "web  unix",
        "web  10.0.0.1:1  5.0 s old  requests: 3  idle 0.5 s  7 bytes unsent  GET /slow, GET /",
        "web: 2",
    ]


def test_the_tree_is_shown(tools):
    """Every part with its kind."""
    assert render(tools._process).split("\n")[1:] == ["  part-one: Part"]
    assert render(5) == "5"
    assert render(Deferred()).endswith(">: await _ waits for it")


@pytest.mark.parametrize("threaded", [False, True])
def test_the_greeting_fits_a_terminal(threaded):
    """Of 80 columns and 24 lines, the last of which has the prompt."""
    process = Process(About("hello-service", "hello_service", "0.1.0", ""), Reactor())
    for name in ("admin", "manhole", "workers", "web", "tasks"):
        process.add(Part(name))
    lines = Tools(process, lambda: {"closes_at": 1e9}, threaded=threaded).welcome().splitlines()
    assert lines[1] == "Every line is logged. The manhole closes at 01:46:40 UTC."
    assert len(lines) < 24
    assert max(map(len, lines)) < 80


def test_tasks_are_shown():
    """Runs, failures, the last error, and when the next run begins."""
    clock = Clock()

    async def fail():
        raise ValueError("on purpose")

    task = Periodic("sweep", 60, fail, reactor=clock)
    tasks = views.TaskTable({"sweep": task})
    assert render(tasks) == "sweep: every 60 s, 0 runs, 0 failures"
    task.run_now().addErrback(lambda _: None)
    told = render(tasks)
    assert "1 runs, 1 failures, last 0 s ago, took 0.000 s, last error: ValueError: on purpose" in told
    assert render(views.TaskTable()) == "no tasks"


class Watched:
    """Counts how often it is evaluated."""

    evaluated = 0

    @property
    def costly(self):
        Watched.evaluated += 1
        return 1


def test_completion():
    """Names, keywords and attributes; a property of what is before the dot is not evaluated."""
    namespace = {"alpha": Watched(), "alpine": 1}
    assert completion.complete("x = alp", namespace) == ("alp", ["alpha", "alpine"])
    assert completion.complete("impor", namespace) == ("impor", ["import "])
    assert completion.complete("f(alpha.co", namespace) == ("alpha.co", ["alpha.costly"])
    assert Watched.evaluated == 0
    assert completion.complete("f().co", namespace) == (".co", [])
    assert "readline" not in sys.modules or sys.modules["readline"] is not None


class Traps:
    """Has code wherever an attribute may have some; each notes that it ran."""

    ran: ClassVar[list[str]] = []

    def _note(self, *_: Any) -> Any:
        Traps.ran.append("code")
        return self

    costly = property(_note)
    cached = functools.cached_property(_note)
    __class__ = property(_note)  # type: ignore[assignment]
    __signature__ = property(_note)

    def __call__(self):
        """It can be called, and is not."""

    def __dir__(self):
        return self._note() and []

    def __getattr__(self, name):
        return self._note()

    class Descriptor:
        """Neither a property nor a function."""

        def __get__(self, *_: Any) -> Any:
            Traps.ran.append("code")
            return self

    bound = Descriptor()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("tra", ["traps("]),
        ("traps.c", ["traps.cached", "traps.costly"]),
        ("traps.b", ["traps.bound"]),
        ("traps.costly.r", []),
        ("traps.cached.r", []),
        ("traps.bound.r", []),
        ("traps.nothing.r", []),
        ("traps.ran.app", ["traps.ran.append("]),
        ("traps.plain.up", ["traps.plain.upper("]),
        ("slotted.full.up", ["slotted.full.upper("]),
        ("slotted.empty.up", []),
        ("slotted.empty", ["slotted.empty"]),
        ("Traps.ran.app", ["Traps.ran.append("]),
        ("os.path.joi", ["os.path.join("]),
        ("traps._no", ["traps._note("]),
        ("ours.evaluat", ["ours.evaluated"]),
        ("ours.costly.real", ["ours.costly.real"]),
    ],
)
def test_the_tab_key_runs_no_code(line, offered, monkeypatch):
    """The log does not have it: only objects of the library's own are asked, the others are looked at."""

    class Slotted:
        __slots__ = ("empty", "full")

    slotted, traps, ours = Slotted(), Traps(), Watched()
    slotted.full = "text"
    traps.plain = "text"
    monkeypatch.setattr(Watched, "__module__", "halfsync.sample")
    Traps.ran.clear()
    namespace = {"traps": traps, "Traps": Traps, "slotted": slotted, "os": os, "ours": ours}
    assert completion.complete(line, namespace)[1] == offered
    assert Traps.ran == []


def test_a_tool_called_in_a_thread_looks_in_the_reactor(tools, monkeypatch):
    """A set that the reactor changes must not be walked through elsewhere."""
    from halfsync.manhole import tools as module

    asked = []
    monkeypatch.setattr(module.threadable, "isInIOThread", lambda: False)
    monkeypatch.setattr(module, "blockingCallFromThread", lambda *call: asked.append(call) or "told")
    assert tools.namespace()["requests"]() == "told"
    assert [call[1].__name__ for call in asked] == ["requests"]


class ConnectionsTests(TestCase):
    """Real sockets: what is asked is the kernel."""

    async def test_every_open_connection(self):
        """Listener, peer and idle time; one that is not read from as well; closed ones no more."""
        process = Process(About("svc", "svc", "1", ""), real_reactor)
        served = []

        class Server(Protocol):
            def connectionMade(self):
                served.append(self)
                self.transport.pauseProducing()
                if len(served) == 2:
                    both.callback(None)

        both = Deferred()
        listener = process.add(
            Listener(
                "sample",
                flag="x",
                endpoints=["tcp:0:interface=127.0.0.1"],
                factory=Factory.forProtocol(Server),
                reactor=real_reactor,
            )
        )
        await listener.start()
        port = int(listener.addresses()[0].rpartition(":")[2])
        for _ in range(2):
            real_reactor.connectTCP("127.0.0.1", port, ClientFactory.forProtocol(Protocol))
        await both
        found = [each for each in process.connections() if each.part == "sample"]
        peers = [served[index].transport.getPeer() for index in range(2)]
        assert {each.peer for each in found} == {f"127.0.0.1:{peer.port}" for peer in peers}
        assert all(isinstance(peer, IPv4Address) for peer in peers)
        assert all(0 <= each.idle < PATIENCE for each in found)
        assert {(each.age, each.asked, each.at) for each in found} == {(None, None, "")}
        gone = Deferred()
        served[0].connectionLost = lambda _: gone.callback(None)
        served[0].transport.abortConnection()
        await gone
        assert len([each for each in process.connections() if each.part == "sample"]) == 1
        gone = Deferred()
        served[1].connectionLost = lambda _: gone.callback(None)
        served[1].transport.abortConnection()
        await gone
        await listener.stop()
