"""An open-loop generator: requests arrive at a rate, whether those before are answered or not.

wrk's loop is closed: a server that is slow is asked less, and so never overloaded.
Real clients do not know of each other.
Each request here has a deadline, after which its client gives up and closes the connection;
one that was answered is kept for the next request.

    python -m bench.openloop http://127.0.0.1:8000/blocking --rate 2400 --seconds 8

prints one JSON object: what came of the requests that arrived in the second half, and thus in a steady state.

It is a bare loop over epoll(7): with asyncio a request took four times as long, and at 8,000 a second
the generator, not the server, was what answers waited for.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import select
import socket
import sys
import time
from collections import Counter, deque
from urllib.parse import urlsplit

CRITICAL = 0.05
"""The part of the requests that says it is critical, by `X-Priority: critical`.

At ten times the capacity that is half of what can be done.
"""

LONGEST_SLEEP = 0.1
"""Seconds."""


class Request:
    """One request, from its arrival on."""

    __slots__ = ("connection", "critical", "done", "since")

    def __init__(self, since: float, connection: Connection, *, critical: bool) -> None:
        self.since = since
        self.connection = connection
        self.critical = critical
        self.done = False


class Connection:
    """A kept connection, with at most one request on it."""

    __slots__ = ("fd", "head", "last", "late", "left", "request", "socket", "status", "unsent")

    def __init__(self, address: tuple[str, int]) -> None:
        """Begin to connect.

        :raises OSError: when that cannot be.
        """
        self.socket = socket.socket()
        self.socket.settimeout(0)
        self.socket.connect_ex(address)
        self.fd = self.socket.fileno()
        self.request: Request | None = None
        self.unsent = b""
        self.late = False
        """Whether the connection was not there when its request was to be sent."""
        self.head = b""
        self.left = -1
        """Bytes of the answer that are to come; -1 before its head is whole."""
        self.status = ""
        self.last = False

    def read(self, data: bytes) -> bool:
        """Read some of an answer, of which only length and status matter; say whether it is whole."""
        if self.left < 0:
            head, found, rest = (self.head + data).partition(b"\r\n\r\n")
            if not found:
                self.head += data
                return False
            lower = head.lower()
            length = lower.partition(b"content-length:")[2].partition(b"\r\n")[0]
            self.status = head[9:12].decode("ascii")
            self.last = b"connection: close" in lower
            self.head, data, self.left = b"", rest, int(length or 0)
        self.left -= len(data)
        if self.left > 0:
            return False
        self.left = -1
        return True


class Load:
    """A run of the generator."""

    def __init__(self, url: str, rate: float, seconds: float, deadline: float) -> None:
        parts = urlsplit(url)
        self.address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self.rate, self.seconds, self.deadline = rate, seconds, deadline
        target = (parts.path or "/") + ("?" + parts.query if parts.query else "")
        line = f"GET {target} HTTP/1.1\r\nHost: bench\r\n"
        self.heads = [(line + extra + "\r\n").encode() for extra in ("", "X-Priority: critical\r\n")]
        self.outcomes: Counter[tuple[bool, str]] = Counter()
        self.latencies: list[float] = []
        self.lag = 0.0
        """Seconds by which an arrival was late at most: the generator's own fault."""
        self.opened = 0
        """Connections."""
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._idle: dict[int, Connection] = {}
        """Those without a request; the last one is taken first."""
        self._waiting: deque[Request] = deque()
        """In the order in which they give up."""
        self._from = 0.0
        """When the second half begins."""

    def run(self) -> dict[str, object]:
        """Make the load, and return what came of it."""
        draw = random.Random(7)  # noqa: S311  the same arrivals for every server
        begun = due = time.monotonic()
        end, self._from = begun + self.seconds, begun + self.seconds / 2
        while True:
            now = time.monotonic()
            while due <= now and due < end:
                if due >= self._from:
                    self.lag = max(self.lag, now - due)
                self._arrive(now, critical=draw.random() < CRITICAL)
                due += draw.expovariate(self.rate)
            self._give_up(now)
            if due >= end and not self._waiting:
                for connection in list(self._connections.values()):
                    self._close(connection)
                self._epoll.close()
                return self._result()
            next_one = due if due < end else now + LONGEST_SLEEP
            if self._waiting:
                next_one = min(next_one, self._waiting[0].since + self.deadline)
            for fd, _ in self._epoll.poll(min(max(next_one - now, 0), LONGEST_SLEEP)):
                if (ready := self._connections.get(fd)) is not None:
                    self._act(ready)

    def _arrive(self, now: float, *, critical: bool) -> None:
        if self._idle:
            _, connection = self._idle.popitem()
        else:
            try:
                connection = Connection(self.address)
            except OSError:
                self._count("refused", now, critical=critical)
                return
            self.opened += 1
            self._connections[connection.fd] = connection
            self._epoll.register(connection.fd, select.EPOLLIN)
        request = connection.request = Request(now, connection, critical=critical)
        self._waiting.append(request)
        connection.unsent = self.heads[critical]
        self._send(connection)

    def _give_up(self, now: float) -> None:
        """Do as clients do at their deadline."""
        waiting = self._waiting
        while waiting and (waiting[0].done or waiting[0].since + self.deadline <= now):
            request = waiting.popleft()
            if not request.done:
                self._end(request, "late", now)
                self._close(request.connection)

    def _act(self, connection: Connection) -> None:
        if connection.unsent:
            self._send(connection)
            return
        try:
            data = connection.socket.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose(connection, "reset")
        elif connection.read(data):
            request, connection.request = connection.request, None
            if request is not None:
                self._end(request, connection.status, time.monotonic())
            if connection.last:
                self._close(connection)
            else:
                self._idle[connection.fd] = connection

    def _send(self, connection: Connection) -> None:
        """Send a request, at once or when the connection is there."""
        try:
            connection.socket.send(connection.unsent)
        except BlockingIOError:
            self._epoll.modify(connection.fd, select.EPOLLOUT)
            connection.late = True
        except OSError:
            self._lose(connection, "refused")
        else:
            connection.unsent = b""
            if connection.late:
                self._epoll.modify(connection.fd, select.EPOLLIN)
                connection.late = False

    def _lose(self, connection: Connection, outcome: str) -> None:
        if connection.request is not None:
            self._end(connection.request, outcome, time.monotonic())
        self._close(connection)

    def _close(self, connection: Connection) -> None:
        del self._connections[connection.fd]
        self._idle.pop(connection.fd, None)
        connection.socket.close()

    def _end(self, request: Request, outcome: str, now: float) -> None:
        request.done = True
        self._count(outcome, request.since, critical=request.critical)
        if outcome == "200" and request.since >= self._from:
            self.latencies.append(now - request.since)

    def _count(self, outcome: str, since: float, *, critical: bool) -> None:
        """Count a request that arrived in the second half."""
        if since >= self._from:
            self.outcomes[critical, outcome] += 1

    def _result(self) -> dict[str, object]:
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
            "lag": self.lag,
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
    json.dump(Load(chosen.url, chosen.rate, chosen.seconds, chosen.deadline).run(), sys.stdout)
    print()


if __name__ == "__main__":
    main()
