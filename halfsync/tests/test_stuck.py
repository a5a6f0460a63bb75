"""Threads that a call holds for too long: told once, counted, and a reason to end when all are held."""

from __future__ import annotations

import http.client
import json
import signal
from contextlib import closing
from math import inf
from types import SimpleNamespace
from typing import TYPE_CHECKING

from structlog.testing import capture_logs
from twisted.internet.task import Clock

from children import PATIENCE, child
from halfsync.workers import pool as worker_pool
from halfsync.workers import stuck
from halfsync.workers.stuck import StuckThreads

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


def thread(held: object = None, progressed: float = 0.0) -> SimpleNamespace:
    return SimpleNamespace(
        thread=SimpleNamespace(name=f"t-{held}", ident=1), held=held, progressed=progressed
    )


class Watched:
    """Threads that a test makes up, on a clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *threads: SimpleNamespace, most: int, after: float):
        self.clock = Clock()
        self.clock.rightNow = 100.0
        monkeypatch.setattr(stuck, "time", self.clock.seconds)
        self.reasons: list[str] = []
        self.stuck = StuckThreads(
            "workers", threads, most, after=after, reactor=self.clock, all_stuck=self.reasons.append
        )
        self.stuck.start()


def test_each_call_is_told_once_and_counted(monkeypatch):
    """With what the thread runs; the next call that gets stuck in it is another one."""
    one = thread((lambda: "GET /slow", 100.0))
    watched = Watched(monkeypatch, one, thread(), most=2, after=10)
    with capture_logs() as logs:
        watched.clock.pump([1] * 60)
    assert [(each["event"], each["work"], each["log_level"]) for each in logs] == [
        ("workers.stuck", "GET /slow", "error")
    ]
    assert 10 <= logs[0]["seconds"] <= 13
    one.held = ("POST /", watched.clock.seconds())
    with capture_logs() as logs:
        watched.clock.pump([1] * 60)
    assert [each["work"] for each in logs] == ["POST /"]
    assert watched.stuck.count == 2
    assert watched.reasons == []
    assert watched.stuck.problems() == []


def test_a_response_that_gets_on_is_not_stuck(monkeypatch):
    """Nor one that waits for its client, who is judged by its rate."""
    one, two = thread(("GET /stream", 100.0)), thread(("GET /large", 100.0), inf)
    watched = Watched(monkeypatch, one, two, most=2, after=10)
    with capture_logs() as logs:
        for _ in range(60):
            one.progressed = watched.clock.seconds()
            watched.clock.advance(1)
    assert logs == []
    assert watched.stuck.problems() == []


def test_all_are_stuck(monkeypatch):
    """Then the pool is not ready, says why, and gives up once; not before all threads are that may be."""
    one, two = thread(("a", 100.0)), thread(("b", 105.0))
    watched = Watched(monkeypatch, one, two, most=2, after=10)
    with capture_logs():
        watched.clock.pump([1] * 14)
        assert watched.stuck.problems() == []
        watched.clock.pump([1] * 20)
    problem = watched.stuck.problems()[0]
    assert problem.startswith("all 2 threads are stuck, each for 29 s or more")
    assert len(watched.reasons) == 1
    two.held = None
    assert watched.stuck.problems() == []


def test_none_is_looked_for(monkeypatch):
    """0 turns it off."""
    watched = Watched(monkeypatch, thread(("a", 0.0)), most=1, after=0)
    assert watched.clock.getDelayedCalls() == []
    assert watched.stuck.problems() == []


def test_a_pool_ends_the_process_only_when_it_is_told_to(monkeypatch):
    """By the flag for that of a listener; other pools are not ready, and no more."""
    reports: list[Callable[[str], None]] = []
    monkeypatch.setattr(worker_pool, "StuckThreads", lambda *_, **given: reports.append(given["all_stuck"]))
    ends: list[str] = []
    for given in ({}, {"exit_when_stuck": True}):
        pool = worker_pool.WorkerPool("workers", threads=1, queue=0, reactor=Clock(), **given)
        monkeypatch.setattr(pool, "give_up", ends.append)
        reports[-1]("all are stuck")
        assert len(ends) == len(given)
    assert ends == ["workers: all are stuck"]


SERVICE = """
import threading
from halfsync.admin import Admin
from halfsync.http.listener import WebListener
from halfsync.http.wsgi.gateway import Gateway, workers_from_flags
never = threading.Event()
def held_here():
    never.wait()
def app(environ, start_response):
    if environ["PATH_INFO"] == "/never":
        held_here()
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/stream":
        return stream()
    return [b"hello"]
def stream():
    # As long as the client stays, and a piece every moment.
    while not never.wait(0.02):
        yield b"x" * 100
def parts(process):
    process.add(Admin.from_flags(process))
    workers = process.add(workers_from_flags(process.reactor))
    process.add(WebListener.from_flags(Gateway(app, workers), process.reactor))
main(parts)
"""
FLAGS = (
    "--web.listen=tcp:0:interface=127.0.0.1",
    "--admin.listen=tcp:0:interface=127.0.0.1",
    "--web.threads=2",
    "--web.stuck_after=1",
    "--service.drain_timeout=0.5",
)


def port(service, event: str) -> int:
    return int(service.wait_for(event)["address"].rpartition(":")[2])


def ask(port: int, path: str) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()


def begin(port: int, path: str) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", path)
    return connection


def test_a_process_whose_threads_are_stuck_is_not_ready_and_says_why():
    """One of two stuck: logged with its stack, counted, ready. Both: not ready. A stream is never stuck."""
    with child(SERVICE, *FLAGS) as service:
        admin, web = port(service, "admin.listening"), port(service, "web.listening")
        stream = begin(web, "/stream")
        first = begin(web, "/never")
        told = service.wait_for("workers.stuck")
        assert told["work"].startswith("GET /never")
        assert any("held_here" in each for each in told["stack"])
        assert ask(admin, "/health/ready")[0] == 200
        assert b'workers_stuck_calls_total{pool="workers"} 1' in ask(admin, "/metrics")[1]
        stream.close()
        second = begin(web, "/never")
        service.wait_for("workers.all_stuck")
        status, body = ask(admin, "/health/ready")
        assert status == 503
        assert b"all 2 threads are stuck" in body
        assert [each["event"] for each in service.events].count("workers.stuck") == 2
        first.close()
        second.close()
        service.signal(signal.SIGKILL)


def test_a_process_whose_threads_are_stuck_ends_to_be_started_again():
    """With --web.exit_when_stuck it drains and exits with 3, although nobody has sent it a signal."""
    with child(SERVICE, *FLAGS, "--web.exit_when_stuck=true") as service:
        web = port(service, "web.listening")
        held = [begin(web, "/never") for _ in range(2)]
        draining = service.wait_for("service.draining")
        assert "all 2 threads are stuck" in draining["reason"]
        code, _, _ = service.end()
        assert code == 3
        for each in held:
            each.close()


def test_giving_up_is_exit_code_3_even_when_the_drain_is_clean():
    """So that a supervisor that restarts what failed does so."""
    code = """
    def parts(process):
        class Gone(Part):
            async def ready(self):
                self.give_up("cannot go on")
        process.add(Gone("gone"))
    main(parts)
    """
    with child(code) as service:
        assert service.end()[0] == 3
    assert "cannot go on" in json.dumps(service.events)
