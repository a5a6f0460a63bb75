"""What all parts may have open together is within the limit of open files; whose share is less is told so."""

from __future__ import annotations

import os
import resource
import signal
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from children import child
from halfsync.endpoints import handshakes, listener
from halfsync.life import open_files

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("room", "wanted", "given"),
    [
        (1000, {"admin": 100, "web": 300}, {"admin": 100, "web": 300}),
        (1000, {"admin": 100, "web": 5000}, {"admin": 100, "web": 900}),
        (1000, {"web": 5000, "admin": 100, "rpc": 5000}, {"admin": 100, "web": 450, "rpc": 450}),
        (0, {"web": 10}, {"web": 0}),
        (1000, {}, {}),
    ],
)
def test_shares(monkeypatch, room, wanted, given):
    """Who wants little gets it; the others get the same, and no more together than there is."""
    limit = room + open_files.OTHERS + len(os.listdir("/proc/self/fd"))  # noqa: PTH208  as there
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert open_files.shares(wanted) == given


def test_no_limit(monkeypatch):
    """Then each has what it wants."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert open_files.shares({"web": 10**9}) == {"web": 10**9}


NONE = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "raised"),
    [
        (1024, 4096, 4096),
        (1024, open_files.ENOUGH + 1, open_files.ENOUGH),
        (1024, NONE, open_files.ENOUGH),
        (4096, 4096, None),
        (open_files.ENOUGH, NONE, None),
        (open_files.ENOUGH + 1, NONE, None),
        (NONE, NONE, None),
    ],
)
def test_the_soft_limit_is_raised_as_far_as_it_is_of_use(monkeypatch, soft, hard, raised):
    """It is never lowered."""
    done = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: done.append(limits))
    assert open_files.raise_open_files() == (raised or soft)
    assert done == ([(raised, hard)] if raised else [])


@pytest.mark.parametrize("error", [OSError("no"), ValueError("no")])
def test_a_limit_that_cannot_be_raised_is_told(monkeypatch, error):
    """The service works all the same, for fewer clients."""

    def refuse(_, __):
        raise error

    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    with capture_logs() as events:
        assert open_files.raise_open_files() == 1024
    (event,) = events
    assert (event["event"], event["log_level"]) == ("limits.open_files", "warning")
    assert (event["soft"], event["hard"], event["reason"]) == (1024, 4096, "no")


def test_the_number_of_handshakes_is_one_number():
    """It stands in a module that imports no Twisted, too."""
    assert listener.HANDSHAKES == handshakes.MOST


SERVICE = """
import resource
from halfsync.admin import Admin
from halfsync.manhole import Manhole
from halfsync.http.listener import WebListener
from halfsync.http.wsgi.gateway import Gateway, workers_from_flags
def app(environ, start_response):
    start_response("200 OK", [])
    return [b"hello"]
class Told(Part):
    async def ready(self):
        print("wanted", sum(part.open_files() for part in every), flush=True)
def parts(process):
    every.append(process.add(Admin.from_flags(process)))
    every.append(process.add(Manhole.from_flags(process)))
    workers = process.add(workers_from_flags(process.reactor))
    every.append(workers)
    gateway = Gateway(app, workers)
    every.append(process.add(WebListener.from_flags(gateway, process.reactor)))
    site = Site(gateway, bounds=Bounds(), access_log=False, reactor=process.reactor)
    second = HttpListener("second", flag="none", endpoints=ENDPOINTS, site=site, reactor=process.reactor)
    every.append(process.add(second))
    process.add(Told("told"))
from halfsync.http.bounds import Bounds
from halfsync.http.part import HttpListener
from halfsync.http.site import Site
every = []
"""


def test_a_process_with_few_files(tmp_path: Path):
    """Two listeners of 10,000 connections each share 1,024 files with the other parts, and say so."""
    code = SERVICE + f"ENDPOINTS = ['unix:{tmp_path}/second.sock']\nmain(parts)\n"
    flags = ("--web.listen=tcp:0:interface=127.0.0.1", "--admin.listen=tcp:0:interface=127.0.0.1")
    with child(code, *flags, wrapper=["prlimit", "--nofile=1024"]) as service:
        lowered = [service.wait_for(f"{part}.max_connections_lowered") for part in ("web", "second")]
        service.wait_for("service.started")
        (told,) = [each["event"] for each in service.events if each["event"].startswith("wanted ")]
        service.signal(signal.SIGTERM)
        assert service.end()[0] == 0
    assert [each["asked"] for each in lowered] == [10_000, 10_000]
    assert all(100 <= each["used"] < 500 for each in lowered)
    # There are 15 to 20 of the process's own, and OTHERS.
    assert 900 < int(told.split()[1]) <= 1024 - open_files.OTHERS - 8
    assert not any(each["event"] == "admin.max_connections_lowered" for each in service.events)


def test_a_process_with_enough_files():
    """Nothing is lowered, and nothing is said."""
    code = SERVICE + "ENDPOINTS = ['tcp:0:interface=127.0.0.1']\nmain(parts)\n"
    flags = ("--web.listen=tcp:0:interface=127.0.0.1", "--web.max_connections=100", "--admin.listen=")
    with child(code.replace("Bounds()", "Bounds(max_connections=100)"), *flags) as service:
        service.wait_for("service.started")
        assert not any("lowered" in each["event"] for each in service.events)
        service.signal(signal.SIGTERM)
        assert service.end()[0] == 0
