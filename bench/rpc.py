"""Thrift RPC beside Apache's Python servers and thriftpy2's: `make rpcbench`, or ARGS=--quick.

One process each, 16 threads, 32 connections on loopback, `hello` over framed binary.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Any

from .environment import CACHE
from .rpc_load import NAME, PASSWORD, Logins, call, connect

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
SOURCES = HERE.parent / "halfsync" / "src"
RESULTS = HERE / "results"

OURS = "ours"
ASYNC = "ours-async"
"""Its handler is `async` and runs in the reactor."""
THREADED, POOL, NONBLOCKING = "TThreadedServer", "TThreadPoolServer", "TNonblockingServer"
PY2 = "thriftpy2"
CONNECTIONS = 32
IDLE = 8000
IDLE_THREADED = 2000
"""For the servers with a thread for each connection."""

PAGE = os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Measure, and write results/rpc.json and rpc.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the time and of the connections")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    part = 10 if options.quick else 1
    idle = min(IDLE // part, hard - 500)
    results = measure(options.seconds / (5 if options.quick else 1), idle, IDLE_THREADED // part)
    text = markdown(results)
    if not options.quick:
        (RESULTS / "rpc.json").write_text(json.dumps(results, indent=1) + "\n")
        (RESULTS / "rpc.md").write_text(text)
    print(text)


def measure(seconds: float, idle: int, idle_threaded: int) -> dict[str, Any]:
    """Run everything, the servers of a row right after one another."""
    names = [OURS, ASYNC, THREADED, POOL, NONBLOCKING, *([PY2] if has_thriftpy2() else [])]
    rows: dict[str, dict[str, Any]] = {name: {} for name in names}
    with tempfile.TemporaryDirectory() as folder:
        users = make_users(folder)
        for depth in (1, 16):
            for name in names:
                with serving(name) as (port, process):
                    rows[name][f"depth {depth}"] = loaded(port, process, depth, seconds)
                    print(f"{name}, depth {depth}: {rows[name][f'depth {depth}']}", flush=True)
        for name, count in ((NONBLOCKING, idle), (THREADED, idle_threaded)):
            with serving(name) as (port, process):
                rows[name]["idle"] = with_idle(port, process, count, seconds, None)
                print(f"{name}, idle: {rows[name]['idle']}", flush=True)
        with serving(OURS, users) as (port, process):
            rows[OURS]["idle"] = with_idle(port, process, idle, seconds, Logins())
            print(f"ours, idle: {rows[OURS]['idle']}", flush=True)
            rows[OURS]["logins"] = handshakes(port, process, seconds)
    return {
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "seconds": seconds,
        "servers": rows,
    }


def loaded(
    port: int, process: int, depth: int, seconds: float, logins: Logins | None = None
) -> dict[str, float]:
    """Return what 32 connections get."""
    socks = [connect(port, logins) for _ in range(CONNECTIONS)]
    try:
        call(socks, depth, seconds / 5)
    except ConnectionError:
        pass
    finally:
        close(socks)
    socks = [connect(port, logins) for _ in range(CONNECTIONS)]
    try:
        cpu = cpu_seconds(process)
        load = call(socks, depth, seconds)
        used = (cpu_seconds(process) - cpu) / max(1.0, load.rate * seconds)
        return {**load.as_json(), "cpu_us": round(used * 1e6, 1)}
    finally:
        close(socks)


def with_idle(port: int, process: int, count: int, seconds: float, logins: Logins | None) -> dict[str, float]:
    """Return rates without and with idle connections, and what one of these costs."""
    before = loaded(port, process, 1, seconds, logins)
    at_first = rss(process)
    held = [connect(port, logins) for _ in range(count)]
    # The connections that were accepted last are not all in the server's memory yet.
    time.sleep(1)
    each = (rss(process) - at_first) / count / 1024
    try:
        after = loaded(port, process, 1, seconds, logins)
    except (ConnectionError, OSError):
        after = {"rate": 0, "p99_ms": 0, "served": 0}
    close(held)
    return {
        "connections": count,
        "rate_without": before["rate"],
        "rate_with": after["rate"],
        "p99_ms_with": after["p99_ms"],
        "kib_each": round(each, 2),
    }


def handshakes(port: int, process: int, seconds: float) -> dict[str, float]:
    """Return logins a second, one after the other, with what they cost the server."""
    logins = Logins()
    close([connect(port, logins)])
    times = []
    cpu = cpu_seconds(process)
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds:
        at = time.perf_counter()
        sock = connect(port, logins)
        times.append(time.perf_counter() - at)
        sock.close()
    took = time.perf_counter() - begun
    return {
        "rate": round(len(times) / took),
        "p99_ms": round(quantiles(times, n=100)[98] * 1000, 2),
        "server_cpu_ms_each": round((cpu_seconds(process) - cpu) / len(times) * 1000, 3),
    }


@contextmanager
def serving(name: str, users: str = "") -> Iterator[tuple[int, int]]:
    """Run a server; give its port and process."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    command = [sys.executable, str(HERE / "serve" / "rpc.py"), name, str(port), users]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            patience = time.monotonic() + 30
            while True:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                if process.poll() is not None or time.monotonic() > patience:
                    raise SystemExit(f"{name} does not start: {' '.join(command)}")
                time.sleep(0.05)
            # Some of Apache's servers listen before their threads run.
            time.sleep(0.3)
            yield port, process.pid
        finally:
            process.kill()


def has_thriftpy2() -> bool:
    """Install the peer where it is missing; say so when it cannot be."""
    target = CACHE / PY2
    if target.is_dir():
        return True
    command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
    command += [
        "--only-binary=:all:",
        "--require-hashes",
        "-t",
        str(target),
        "-r",
        str(HERE / "thriftpy2.txt"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"without thriftpy2, which cannot be installed: {done.stderr.strip()[-200:]}", flush=True)
    return done.returncode == 0


def make_users(folder: str) -> str:
    """Write the file of users."""
    sys.path.insert(0, str(SOURCES))
    from halfsync.thrift.users import Keys, Users  # noqa: PLC0415  the path is set above

    path = f"{folder}/users"
    Users(path).add(NAME, Keys.of(PASSWORD))
    return path


def close(socks: list[socket.socket]) -> None:
    """Close connections."""
    for each in socks:
        each.close()


def rss(process: int) -> int:
    """Return the resident bytes of a process."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE


def cpu_seconds(process: int) -> float:
    """Return what a process has used of the processors."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def markdown(results: dict[str, Any]) -> str:
    """Return the tables, and how the figures stand."""
    rows = results["servers"]
    seconds = results["seconds"]
    lines = ["# Thrift RPC", "", f"`make rpcbench` on {results['machine']}; {seconds:g} s each.", ""]
    lines += ["| server | depth | calls/s | p99, ms | connections served of 32 | processor, us a call |"]
    lines += ["|---|---|---|---|---|---|"]
    for name, row in rows.items():
        for depth in (1, 16):
            cells = " | ".join(f"{value:,}" for value in row[f"depth {depth}"].values())
            lines.append(f"| {name} | {depth} | {cells} |")
    lines += ["", "| server | idle connections | calls/s without | with | p99 with, ms | KiB each |"]
    lines += ["|---|---|---|---|---|---|"]
    for name, row in rows.items():
        if "idle" in row:
            lines.append(f"| {name} | " + " | ".join(f"{value:,}" for value in row["idle"].values()) + " |")
    logins = rows[OURS]["logins"]
    lines += [
        "",
        (
            f"Logins (SCRAM-SHA-256), one after the other: {logins['rate']:,} a second, "
            f"p99 {logins['p99_ms']} ms, {logins['server_cpu_ms_each']} ms of the server's processor each. "
            "Ours' idle connections are logged in."
        ),
        "",
        "| figure | wanted | is |",
        "|---|---|---|",
    ]
    one, many, idle = rows[OURS]["depth 1"]["rate"], rows[OURS]["depth 16"]["rate"], rows[OURS]["idle"]
    for text, wanted, value in (
        ("depth 1, of TNonblockingServer", 1.5, one / rows[NONBLOCKING]["depth 1"]["rate"]),
        ("depth 1, of TThreadedServer", 0.6, one / rows[THREADED]["depth 1"]["rate"]),
        ("depth 16, of TThreadedServer", 1.2, many / rows[THREADED]["depth 16"]["rate"]),
        ("with idle connections, of without", 0.9, idle["rate_with"] / idle["rate_without"]),
    ):
        lines.append(f"| {text} | at least {wanted} | {value:.2f} |")
    lines.append(f"| KiB an idle, authenticated connection | at most 4 | {idle['kib_each']} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
