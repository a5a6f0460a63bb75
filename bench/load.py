"""Clients: wrk for rates and latencies, and a crowd that reads slowly."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from .servers import Died

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .servers import Running

HERE = Path(__file__).parent
CONNECTIONS = 32


@dataclass(frozen=True)
class Load:
    """What wrk saw."""

    rate: float
    """Requests answered a second."""
    p50: float
    """Milliseconds, as p99; of the requests that were answered."""
    p99: float
    failed: int
    """Connections refused or cut, requests that took over 2 s, and answers of 4xx and 5xx."""
    served: float
    """How many connections had a request under way on average, of those answered (Little's law).

    wrk says nothing of a connection that never gets an answer: a server that serves 16 of 32
    looks as good as one that serves them all.
    """


def find_wrk() -> str:
    """Return the path of wrk, or say how to get it."""
    path = shutil.which("wrk")
    if path is None:
        raise SystemExit("The load comes from wrk, which is not here. Debian, Ubuntu: apt-get install wrk")
    return path


def wrk(
    url: str,
    *,
    seconds: float,
    connections: int = CONNECTIONS,
    body: int = 0,
    browser: bool = False,
    close: bool = False,
) -> Load:
    """Send requests on so many keep-alive connections for so long.

    :param body: bytes to POST; 0 for a GET.
    :param close: whether to make a connection for each request.
    :param browser: whether with the ten headers of a browser instead of Host alone.
    """
    command = [find_wrk(), "--threads", str(min(2, connections)), "--connections", str(connections)]
    whole = max(1, round(seconds))
    command += ["--duration", f"{whole}s", "--timeout", "2s", "--script", str(HERE / "wrk.lua"), url]
    if close:
        command += ["--header", "Connection: close"]
    run = subprocess.run(
        [*command, "--", str(body), "browser" if browser else ""],
        capture_output=True,
        text=True,
        check=False,
        timeout=whole + 30,
    )
    found = [line for line in run.stdout.splitlines() if line.startswith("JSON ")]
    if not found:
        # It sends nothing at all when it cannot connect.
        return Load(0.0, 0.0, 0.0, connections, 0.0)
    seen = json.loads(found[0].removeprefix("JSON "))
    rate = seen["requests"] / (seen["microseconds"] / 1e6)
    return Load(
        rate=rate,
        p50=seen["p50"] / 1000,
        p99=seen["p99"] / 1000,
        failed=seen["failed"] + seen["refused"],
        served=rate * seen["mean"] / 1e6,
    )


def h2load(url: str, *, seconds: float, streams: int) -> Load:
    """Send requests over HTTP/2 (RFC 9113), so many at a time on each of the connections.

    :raises Died: when there is no answer, or no h2load.
    """
    path = shutil.which("h2load")
    if path is None:
        raise Died("not measured: it needs h2load (Debian, Ubuntu: apt-get install nghttp2-client)")
    whole = max(1, round(seconds))
    with tempfile.NamedTemporaryFile() as log:
        command = [path, "--duration", str(whole), "--clients", str(CONNECTIONS), "--threads", "1"]
        command += ["--max-concurrent-streams", str(streams), f"--log-file={log.name}", url]
        # It waits for ever for a server that takes connections and says nothing.
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(command, capture_output=True, check=False, timeout=whole + 30)
        # When it began (microseconds since the epoch), status, and how long it took (microseconds).
        requests = [list(map(int, line.split(b"\t"))) for line in log]
    answered = sorted(took for _, status, took in requests if 0 < status < HTTPStatus.BAD_REQUEST)
    if not answered:
        raise Died("no answer")
    rate = len(answered) / whole
    return Load(
        rate=rate,
        p50=answered[len(answered) // 2] / 1000,
        p99=answered[int(len(answered) * 0.99)] / 1000,
        failed=len(requests) - len(answered),
        served=rate * sum(answered) / len(answered) / 1e6,
    )


RECEIVE_BUFFER = 65_536
SIP = 4096


@contextlib.contextmanager
def slow_readers(server: Running, path: str, count: int, rate: int) -> Iterator[None]:
    """Have so many clients ask for something long, and read so many bytes of it a second."""
    stop = threading.Event()
    crowd = threading.Thread(target=_sip, args=(server, path, count, rate, stop))
    crowd.start()
    try:
        yield
    finally:
        stop.set()
        crowd.join()


def _sip(server: Running, path: str, count: int, rate: int, stop: threading.Event) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
    connections = []
    for _ in range(count):
        connection = socket.socket()
        # Before connecting: the window that is offered follows from it.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        connection.settimeout(5)
        try:
            connection.connect(("127.0.0.1", server.port))
            connection.sendall(request)
        except OSError:
            break  # it has died; who measures will see
        connection.setblocking(False)  # noqa: FBT003  the method takes it by place only
        connections.append(connection)
    while not stop.wait(SIP / rate):
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.recv(SIP)
    for connection in connections:
        connection.close()


def hold_unread(server: Running, path: str) -> socket.socket:
    """Ask for something long, and read nothing of it."""
    connection = server.ask(path)
    time.sleep(0.05)
    return connection
