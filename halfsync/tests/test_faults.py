"""What goes wrong around a process, and what it does then."""

from __future__ import annotations

import json
import os
import signal
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from children import PATIENCE, Child, child, until
from disks import mount_over, needs_mount, seen_by, with_disk

if TYPE_CHECKING:
    from collections.abc import Iterator

SITE = """
import os, subprocess, sys, threading
from halfsync.endpoints import Endpoint
from halfsync.http.bounds import Bounds
from halfsync.http.site import Site
from halfsync.endpoints.listener import Listener
from halfsync.periodic import Periodic
from halfsync.tasks import Tasks
from twisted.web.resource import Resource
class Page(Resource):
    isLeaf = True
    def render_GET(self, request):
        return b"hello"
def listener(process, endpoint="tcp:0:interface=127.0.0.1", name="web"):
    bounds = Bounds(max_body=1000, idle_timeout=60, request_timeout=60, write_timeout=60)
    site = Site(Page(), bounds=bounds, access_log=False, reactor=process.reactor)
    return Listener(name, flag="web.listen", endpoints=[endpoint], factory=site, reactor=process.reactor)
"""


def port_of(service: Child, name: str = "web") -> int:
    return int(service.wait_for(f"{name}.listening")["address"].rpartition(":")[2])


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), PATIENCE)


def ask(client: socket.socket) -> bytes:
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = b""
    while not answer.endswith(b"hello"):
        more = client.recv(1000)
        if not more:
            return b""
        answer += more
    return answer[:12]


def seconds_on_the_cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.fixture
def clients() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_descriptors_run_out(clients: ExitStack):
    """Who is connected is served on, whoever comes is turned away, the log says so; then all is well."""
    code = f"""{SITE}
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
main(lambda process: process.add(listener(process)))
"""
    with child(code) as service:
        port = port_of(service)
        service.wait_for("service.started")
        first = clients.enter_context(connect(port))
        assert ask(first) == b"HTTP/1.1 200"
        held = [clients.enter_context(connect(port)) for _ in range(100)]
        turned_away = 0
        for client in held:
            try:
                turned_away += ask(client) == b""
            except ConnectionError:
                turned_away += 1
        assert 30 < turned_away < 70
        assert ask(first) == b"HTTP/1.1 200"
        told = service.wait_for("listening.turning_away")
        assert (told["level"], told["reason"], told["descriptors_allowed"]) == ("error", "EMFILE", 64)
        before = seconds_on_the_cpu(service.process.pid)
        try:
            first.settimeout(0.5)
            first.recv(1)
        except TimeoutError:
            pass
        assert seconds_on_the_cpu(service.process.pid) - before < 0.25
        for client in held:
            client.close()
        # Until it has noticed, there may still be no descriptor for whoever comes.
        until(lambda: descriptors(service.process.pid) < 40)
        for _ in range(20):
            with connect(port) as client:
                assert ask(client) == b"HTTP/1.1 200"


def test_10000_connections_opened_and_dropped(clients: ExitStack):
    """None leaves anything behind."""
    with child(f"{SITE}\nmain(lambda process: process.add(listener(process)))") as service:
        port = port_of(service)
        service.wait_for("service.started")
        first = clients.enter_context(connect(port))
        assert ask(first) == b"HTTP/1.1 200"
        before = descriptors(service.process.pid)
        for number in range(10_000):
            client = connect(port)
            if number % 3 == 0:
                client.sendall(b"GET / HT")
            elif number % 3 == 1:
                # A reset instead of an orderly end.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
        # The listening socket's queue is one for all: when this is answered, those before it were accepted.
        with connect(port) as last:
            assert ask(last) == b"HTTP/1.1 200"
            for _ in range(1000):
                if descriptors(service.process.pid) <= before + 1:
                    break
                assert ask(last) == b"HTTP/1.1 200"
            assert descriptors(service.process.pid) <= before + 1
        assert ask(first) == b"HTTP/1.1 200"
        service.signal(signal.SIGTERM)
        assert service.end()[0] == 0


def test_a_client_that_never_closes(clients: ExitStack):
    """An idle one is closed; one in the middle of its request holds the drain up to the deadline."""
    with child(f"{SITE}\nmain(lambda process: process.add(listener(process)))") as service:
        idle = clients.enter_context(connect(port_of(service)))
        assert ask(idle) == b"HTTP/1.1 200"
        service.signal(signal.SIGTERM)
        assert idle.recv(1) == b""
        assert service.end()[0] == 0
    code = f"{SITE}\nmain(lambda process: process.add(listener(process)))"
    with child(code, "--service.drain_timeout=1") as service:
        slow = clients.enter_context(connect(port_of(service)))
        assert ask(slow) == b"HTTP/1.1 200"
        slow.sendall(b"GET / HTTP/1.1\r\n")
        other = clients.enter_context(connect(slow.getpeername()[1]))
        assert ask(other) == b"HTTP/1.1 200"
        service.signal(signal.SIGTERM)
        assert service.wait_for("service.forced")["unfinished"] == ["web"]
        assert service.end()[0] == 3


def test_a_drain_is_over_every_listener_at_once(clients: ExitStack):
    """While one still has a request in flight, the others have let their clients go; nobody is let in."""
    code = f"""{SITE}
def parts(process):
    for name in ("a", "b"):
        process.add(listener(process, name=name))
main(parts)
"""
    with child(code) as service:
        ports = [port_of(service, name) for name in ("a", "b")]
        slow, idle = (clients.enter_context(connect(port)) for port in ports)
        assert ask(slow) == ask(idle) == b"HTTP/1.1 200"
        slow.sendall(b"GET / HTTP/1.1\r\n")
        slow_is_read = clients.enter_context(connect(ports[0]))
        assert ask(slow_is_read) == b"HTTP/1.1 200"
        service.signal(signal.SIGTERM)
        assert idle.recv(1) == b""
        for port in ports:
            with pytest.raises(ConnectionRefusedError):
                connect(port)
        slow.sendall(b"Host: x\r\n\r\n")
        assert b"connection: close" in slow.makefile("rb").read().lower()
        assert service.end()[0] == 0


@pytest.mark.parametrize("task", ["async def task():\n    await Deferred()", "task = threading.Event().wait"])
def test_a_task_that_never_returns(task: str):
    """In the reactor or in a thread: it is named at the deadline, and does not hang the exit."""
    code = f"""{SITE}
{task}
def parts(process):
    process.add(Tasks(Periodic("stuck", 60, task, reactor=process.reactor)))
main(parts)
"""
    with child(code, "--service.drain_timeout=0.5") as service:
        service.wait_for("service.started")
        service.signal(signal.SIGTERM)
        assert service.wait_for("service.forced")["unfinished"] == ["tasks"]
        assert service.end()[0] == 3


def test_a_child_process_does_not_keep_the_port():
    """What the service has started may outlive it, when it is killed; the next one can still listen."""
    code = f"""{SITE}
from twisted.internet import reactor
def spawn():
    for _ in range(20):
        subprocess.run(["true"], check=True)
    devnull = subprocess.DEVNULL
    sleeper = subprocess.Popen(["sleep", "60"], close_fds=False, stdout=devnull, stderr=devnull)
    print(sleeper.pid, flush=True)
    print("spawned", flush=True)
def parts(process):
    process.add(listener(process))
    process.reactor.callLater(0, spawn)
main(parts)
"""
    with child(code) as service:
        port = port_of(service)
        service.wait_for("spawned")
        sleeper = int(service.events[-2]["event"])
        try:
            service.process.kill()
            service.process.wait()
            again = f"""{SITE}
main(lambda process: process.add(listener(process, "tcp:{port}:interface=127.0.0.1")))"""
            with child(again) as second:
                second.wait_for("service.started")
        finally:
            os.kill(sleeper, signal.SIGKILL)


LOGGING = f"""{SITE}
from halfsync.logs import get_logger
class Page(Resource):
    isLeaf = True
    count = 0
    def render_GET(self, request):
        Page.count += 1
        get_logger("page").info("asked", number=Page.count, filler=500 * "x")
        return b"hello"
class Where(Part):
    async def start(self):
        # With --log.file, standard output is free.
        print(self.web.addresses()[0], "serves", sep="\\n", flush=True)
    async def stop(self):
        (lost,) = [each for each in self.process.metrics() if each.name == "log_lines_lost"]
        print("lost", int(lost.samples[0].value), flush=True)
def parts(process):
    web = process.add(listener(process))
    where = process.add(Where("where"))
    where.web, where.process = web, process
main(parts)
"""


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    folder = tmp_path / "disk"
    folder.mkdir()
    return folder


def numbers(log: str) -> list[int]:
    """Return which requests were written to the log, in whole lines."""
    events = [json.loads(line) for line in log.splitlines() if line.endswith("}")]
    return [event["number"] for event in events if event["event"] == "asked"]


@needs_mount
def test_the_disk_of_the_log_is_full(disk: Path, clients: ExitStack):
    """Every request is answered all the while; once there is room, the log says how many lines it lacks.

    A metric says it all the time.
    """
    size = 1024 * 1024
    flag = f"--log.file={disk}/log"
    with child(LOGGING, flag, wrapper=with_disk(disk, f"size={size}")) as service:
        service.wait_for("serves")
        client = clients.enter_context(connect(int(service.events[-2]["event"].rpartition(":")[2])))
        log = clients.enter_context(seen_by(service.process.pid, disk / "log").open("r+"))
        while os.fstat(log.fileno()).st_size < size:
            assert ask(client) == b"HTTP/1.1 200"
        for _ in range(200):
            assert ask(client) == b"HTTP/1.1 200"
        written = numbers(log.read())
        os.truncate(log.fileno(), 0)
        after = ""
        for _ in range(500):
            assert ask(client) == b"HTTP/1.1 200"
            log.seek(0)
            after = log.read()
            if "log.lost" in after:
                break
        service.signal(signal.SIGTERM)
        code, printed, _ = service.end()
        assert code == 0
        log.seek(0)
        after = log.read()
        (lost,) = [
            event for line in after.splitlines()[1:] if (event := json.loads(line))["event"] == "log.lost"
        ]
        written += numbers(after)
        assert lost["level"] == "warning"
        assert lost["lines"] == written[-1] - len(written) > 50
        assert printed == [f"lost {lost['lines']}"]
        assert "service.stopped" in after


@needs_mount
def test_the_disk_of_the_log_is_read_only_at_the_start(disk: Path):
    """It does not start, and says why in a line."""
    with child(LOGGING, f"--log.file={disk}/log", wrapper=with_disk(disk, "ro")) as service:
        told = f"child: --log.file: '{disk}/log': read-only file system; name a file that can be written to\n"
        assert service.end() == (1, [], told)


@needs_mount
def test_the_disk_of_the_log_is_read_only_at_a_reload(disk: Path):
    """The old file is gone on with, and says why."""
    with child(LOGGING, f"--log.file={disk}/log", wrapper=with_disk(disk, "size=1m")) as service:
        service.wait_for("serves")
        with seen_by(service.process.pid, disk / "log").open() as log:
            mount_over(service.process.pid, disk, "ro")
            service.signal(signal.SIGHUP)
            # Two signals at once would come in any order.
            until(lambda: "service.reloaded" in os.pread(log.fileno(), 1 << 20, 0).decode())
            service.signal(signal.SIGTERM)
            assert service.end()[0] == 0
            events = {event["event"]: event for event in map(json.loads, log)}
        failed = events["log.reopen_failed"]
        assert (failed["level"], failed["reason"]) == ("error", "Read-only file system")
        assert list(events)[-1] == "service.stopped"
