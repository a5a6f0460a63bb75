"""What is measured: each scenario takes a running server and returns figures by name."""

from __future__ import annotations

import contextlib
import http.client
import resource
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .load import CONNECTIONS, find_wrk, h2load, hold_unread, slow_readers, wrk
from .memory import group_rss
from .servers import ONE_CORE, OURS, SERVE, SERVERS, TLS, VARIANTS, Died

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .environment import Environment
    from .load import Load
    from .servers import Running

Figures = dict[str, float]


@dataclass(frozen=True)
class Settings:
    """How thorough a run is."""

    seconds: float
    """Of load, each time."""
    connections: int
    """Idle ones that are held."""
    environment: Environment


@dataclass(frozen=True)
class Scenario:
    """One thing to measure."""

    name: str
    title: str
    measure: Callable[[Running, Settings], Figures]
    most_rounds: int = 99
    """Where a round takes long and its figures vary little."""
    servers: tuple[str, ...] = tuple(SERVERS)
    columns: Mapping[str, str] = field(default_factory=dict)
    """Figures that its table has besides the rate: name -> heading."""
    rate: str = "rate"
    """The figure that is compared; empty when none is."""
    connections: int = CONNECTIONS
    """Of the load; 0 where each request has its own, and wrk's latency lacks the handshake."""


def _steady(
    path: str, *, body: int = 0, connections: int = CONNECTIONS, browser: bool = False
) -> Callable[[Running, Settings], Figures]:
    def measure(server: Running, settings: Settings) -> Figures:
        warm(server)
        load = wrk(
            server.url(path), seconds=settings.seconds, body=body, connections=connections, browser=browser
        )
        return _figures(load)

    return measure


def handshakes(server: Running, settings: Settings) -> Figures:
    """Make a connection over TLS for each request."""
    warm(server)
    return _figures(wrk(server.url("/hello"), seconds=settings.seconds, close=True))


STREAMS = 10
"""Requests under way on each connection of HTTP/2."""


def h2(server: Running, settings: Settings) -> Figures:
    """Ask over HTTP/2."""
    warm(server)
    return _figures(h2load(server.url("/hello"), seconds=settings.seconds, streams=STREAMS))


BLOCKED = 12


def beside(server: Running, settings: Settings) -> Figures:
    """Ask on two connections while handlers that wait hold most of the threads."""
    warm(server)
    command = [find_wrk(), "--threads", "1", "--connections", str(BLOCKED), "--timeout", "2s"]
    command += ["--duration", f"{round(settings.seconds) + 2}s", server.url("/blocking")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as others:
        try:
            time.sleep(0.5)
            return _figures(wrk(server.url("/hello"), seconds=settings.seconds, connections=2))
        finally:
            others.kill()


def _figures(load: Load) -> Figures:
    if not load.rate:
        raise Died("no answer")
    return {"rate": load.rate, "p50": load.p50, "p99": load.p99, "failed": load.failed, "served": load.served}


def warm(server: Running) -> None:
    """Have the interpreter specialise what it runs often."""
    if server.tls:
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            "127.0.0.1", server.port, timeout=10, context=server.tls
        )
    else:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    for _ in range(200):
        connection.request("GET", "/hello")
        connection.getresponse().read()
    connection.close()


def idle(server: Running, settings: Settings) -> Figures:
    """Compare a busy server with the same one that holds idle connections as well."""
    warm(server)
    seconds = settings.seconds
    alone = _figures(wrk(server.url("/hello"), seconds=seconds))
    before = group_rss(server.process.pid)
    command = [str(settings.environment.python), str(SERVE / "idle.py")]
    command += [str(server.port), str(settings.connections)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin is not None  # noqa: S101  they are pipes
        assert holder.stdout is not None  # noqa: S101
        try:
            held = int(holder.stdout.readline())
            grown = group_rss(server.process.pid) - before
            if held < settings.connections:
                end = "ends" if server.process.poll() is not None else "takes no more"
                raise Died(f"{end} at {held:,} connections")
            beside = _figures(wrk(server.url("/hello"), seconds=seconds))
            holder.stdin.write("\n")
            holder.stdin.flush()
            left = int(holder.stdout.readline())
        finally:
            holder.kill()
    return {
        **beside,
        "rate_alone": alone["rate"],
        "p99_alone": alone["p99"],
        "p99_times": beside["p99"] / alone["p99"],
        "kib_each": grown / held / 1024,
        "cut": held - left,
    }


SLOW_CLIENTS = 50
SLOW_RATE = 20_000
"""Bytes a second that each of them reads."""


def slow(server: Running, settings: Settings) -> Figures:
    """Have clients that do not read, or slowly, and see what that costs memory and others."""
    warm(server)
    drain(server, "/stream?mb=8")
    before = group_rss(server.process.pid)
    peak = before
    with contextlib.closing(hold_unread(server, "/stream?mb=100")):
        end = time.monotonic() + 6
        last = time.monotonic()
        # It has grown as far as it will when it has not for a second.
        while time.monotonic() < end and time.monotonic() - last < 1:
            now = group_rss(server.process.pid)
            if now > peak + 100_000:
                last = time.monotonic()
            peak = max(peak, now)
            time.sleep(0.05)
    alone = _figures(wrk(server.url("/hello"), seconds=settings.seconds, connections=4))
    with slow_readers(server, "/big?mb=8", SLOW_CLIENTS, SLOW_RATE):
        time.sleep(1)
        beside = wrk(server.url("/hello"), seconds=settings.seconds, connections=4)
    return {
        "grown_mb": (peak - before) / 1e6,
        "p99_alone": alone["p99"],
        "rate_alone": alone["rate"],
        "rate": beside.rate,
        "failed": beside.failed,
        **({"p99": beside.p99} if beside.rate else {}),
    }


def drain(server: Running, path: str) -> None:
    """Read an answer to its end, so that what it needs once is there."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", path)
    connection.getresponse().read()
    connection.close()


P99 = {"p99": "p99, ms"}
BARE = (*SERVERS, "uwsgi, no router", *ONE_CORE)

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "hello", "13 bytes, 32 keep-alive connections", _steady("/hello"), servers=BARE, columns=P99
        ),
        Scenario(
            "flask",
            "Flask, a small JSON object, 32 connections",
            _steady("/flask"),
            servers=BARE,
            columns=P99,
        ),
        Scenario(
            "headers",
            "13 bytes, 32 connections, the ten headers of a browser",
            _steady("/hello", browser=True),
            columns=P99,
        ),
        Scenario(
            "crowd",
            "13 bytes, 256 connections",
            _steady("/hello", connections=256),
            columns={**P99, "failed": "failed"},
            connections=256,
        ),
        Scenario(
            "tls",
            "13 bytes over TLS, 32 keep-alive connections",
            _steady("/hello"),
            servers=(*TLS,),
            columns=P99,
        ),
        Scenario(
            "handshakes",
            "13 bytes over TLS, a handshake each, 32 at a time",
            handshakes,
            servers=(*TLS,),
            columns=P99,
            connections=0,
        ),
        Scenario(
            "h2",
            f"13 bytes over HTTP/2 and TLS, 32 connections with {STREAMS} requests at a time each",
            h2,
            servers=tuple(name for name in TLS if not name.startswith("gunicorn")),
            columns=P99,
            connections=CONNECTIONS * STREAMS,
        ),
        Scenario(
            "one",
            "13 bytes, one connection",
            _steady("/hello", connections=1),
            servers=(*SERVERS, *ONE_CORE),
            columns=P99,
            connections=1,
        ),
        Scenario(
            "beside",
            f"13 bytes, two connections beside {BLOCKED} handlers that wait 20 ms",
            beside,
            servers=(*SERVERS, *ONE_CORE),
            columns=P99,
            connections=2,
        ),
        Scenario("blocking", "A handler that waits 20 ms; ideal: 800/s", _steady("/blocking"), columns=P99),
        Scenario("big", "1 MB response, 32 connections", _steady("/big"), columns=P99),
        Scenario(
            "upload", "1 MB request body, 32 connections", _steady("/upload", body=1_000_000), columns=P99
        ),
        Scenario(
            "idle",
            "13 bytes, 32 connections, beside idle keep-alive connections",
            idle,
            most_rounds=2,
            servers=(*SERVERS, "waitress, poll"),
            columns={
                "p99_alone": "p99 without them, ms",
                "p99": "p99 with them, ms",
                "p99_times": "times",
                "kib_each": "KiB each",
                "cut": "cut meanwhile",
            },
        ),
        Scenario(
            "slow",
            f"100 MB to a client that does not read; then 13 bytes on 4 connections, alone and beside "
            f"{SLOW_CLIENTS} clients that each read 8 MB at {SLOW_RATE // 1000} kB/s",
            slow,
            most_rounds=1,
            connections=4,
            columns={
                "grown_mb": "memory grows by, MB",
                "rate_alone": "requests/s alone",
                "p99_alone": "p99 alone, ms",
                "p99": "p99 beside them, ms",
            },
        ),
        Scenario(
            "access_log",
            "13 bytes, 32 connections: an event a request as JSON, to a file",
            _steady("/hello"),
            servers=(OURS, "ours, access log"),
            columns=P99,
        ),
    )
}

RUNNABLE = {**SERVERS, **VARIANTS, **TLS}

SPARE = 500
"""File descriptors that a server needs besides its idle connections."""


def raise_limits(connections: int) -> int:
    """Allow as many open files as the system lets us; return how many idle connections that makes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return connections if hard == resource.RLIM_INFINITY else min(connections, hard - SPARE)
