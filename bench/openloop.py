"""An open-loop generator: requests arrive at a rate, whether those before are answered or not.

wrk's loop is closed: a server that is slow is asked less, and so never overloaded.
Real clients do not know of each other.
Each request here has a deadline, after which its client gives up and closes the connection.

    python -m bench.openloop http://127.0.0.1:8000/blocking --rate 2400 --seconds 8

prints one JSON object: what came of the requests that arrived in the second half, and thus in a steady state.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import sys
import time
from collections import Counter
from urllib.parse import urlsplit

CRITICAL = 0.1
"""The part of the requests that says it is critical, by `X-Priority: critical`."""

TICK = 0.001
"""Seconds between two looks at which requests are due."""


class Connection(asyncio.Protocol):
    """A kept connection, with at most one request on it."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.transport: asyncio.Transport
        self.request: Request | None = None
        self._head = b""
        self._left = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  what TCP has
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Read an answer; only its length and its status matter."""
        if self._left < 0:
            self._head += data
            head, found, rest = self._head.partition(b"\r\n\r\n")
            if not found:
                return
            self._head = b""
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            self._left = int(length or 0) - len(rest)
            self._status = int(head[9:12])
            self._last = b"connection: close" in head.lower()
        else:
            self._left -= len(data)
        if self._left <= 0:
            self._left = -1
            request, self.request = self.request, None
            if request is not None:
                request.end(str(self._status))
            if self._last:
                self.transport.close()
            else:
                self.load.idle.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that a request will not be answered."""
        del exc
        if self in self.load.idle:
            self.load.idle.remove(self)
        request, self.request = self.request, None
        if request is not None:
            request.end("reset")


class Request:
    """One request, from its arrival on."""

    __slots__ = ("connection", "critical", "done", "load", "since", "timer")

    def __init__(self, load: Load, *, critical: bool) -> None:
        self.load = load
        self.critical = critical
        self.since = time.monotonic()
        self.done = False
        self.connection: Connection | None = None
        self.timer = asyncio.get_running_loop().call_later(load.deadline, self.give_up)

    def send(self, connection: Connection) -> None:
        """Send it."""
        if self.done:
            self.load.idle.append(connection)
            return
        self.connection = connection
        connection.request = self
        connection.transport.write(self.load.heads[self.critical])

    def give_up(self) -> None:
        """Do as clients do at their deadline."""
        connection = self.connection
        self.end("late")
        if connection is not None:
            connection.request = None
            connection.transport.abort()

    def end(self, outcome: str) -> None:
        """Count how it ended."""
        if not self.done:
            self.done = True
            self.timer.cancel()
            self.load.count(self, outcome)


class Load:
    """A run of the generator."""

    def __init__(self, url: str, rate: float, seconds: float, deadline: float) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80
        self.rate, self.seconds, self.deadline = rate, seconds, deadline
        target = (parts.path or "/") + ("?" + parts.query if parts.query else "")
        line = f"GET {target} HTTP/1.1\r\nHost: bench\r\n"
        self.heads = [(line + extra + "\r\n").encode() for extra in ("", "X-Priority: critical\r\n")]
        self.idle: list[Connection] = []
        self.outcomes: Counter[tuple[bool, str]] = Counter()
        self.latencies: list[float] = []
        self._begun = 0.0
        self._opening: set[asyncio.Task[None]] = set()

    def count(self, request: Request, outcome: str) -> None:
        """Count a request that arrived in the second half."""
        if request.since - self._begun < self.seconds / 2:
            return
        self.outcomes[request.critical, outcome] += 1
        if outcome == "200":
            self.latencies.append(time.monotonic() - request.since)

    async def run(self) -> dict[str, object]:
        """Make the load, and return what came of it."""
        draw = random.Random(7)  # noqa: S311  the same arrivals for every server
        self._begun = time.monotonic()
        end, due = self._begun + self.seconds, self._begun
        while (now := time.monotonic()) < end:
            while due <= now:
                self._arrive(critical=draw.random() < CRITICAL)
                due += draw.expovariate(self.rate)
            await asyncio.sleep(TICK)
        lag = time.monotonic() - end
        await asyncio.sleep(self.deadline + 0.2)
        return self._result(lag)

    def _arrive(self, *, critical: bool) -> None:
        request = Request(self, critical=critical)
        if self.idle:
            request.send(self.idle.pop())
            return
        task = asyncio.get_running_loop().create_task(self._open(request))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, request: Request) -> None:
        try:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(lambda: Connection(self), self.host, self.port)
        except OSError:
            request.end("refused")
        else:
            request.send(connection)

    def _result(self, lag: float) -> dict[str, object]:
        half = self.seconds / 2
        latencies = sorted(self.latencies)
        critical = sum(n for (each, _), n in self.outcomes.items() if each)
        totals: Counter[str] = Counter()
        for (_, outcome), number in self.outcomes.items():
            totals[outcome] += number
        return {
            "offered": sum(totals.values()) / half,
            "goodput": totals["200"] / half,
            "p50": latencies[len(latencies) // 2] * 1000 if latencies else None,
            "p99": latencies[int(len(latencies) * 0.99)] * 1000 if latencies else None,
            "critical": self.outcomes[True, "200"] / critical if critical else None,
            "outcomes": dict(totals),
            "lag": lag,
        }


def main() -> None:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--rate", type=float, required=True, help="requests a second")
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--deadline", type=float, default=0.5, help="seconds until a client gives up")
    chosen = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536) if hard > 0 else 65536, hard))
    load = Load(chosen.url, chosen.rate, chosen.seconds, chosen.deadline)
    json.dump(asyncio.run(load.run()), sys.stdout)
    print()


if __name__ == "__main__":
    main()
