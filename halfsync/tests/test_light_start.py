"""What is imported when: nothing heavy for `--help`, and nothing at all once a service runs."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import suppress

import pytest

from children import SOURCES, child

EVERY_PART = """
import sys
from halfsync import (
    About, Admin, Gateway, Listener, Manhole, Part, Periodic, Tasks, WebListener, WorkerPool,
    arrange_reactor, flag, flags, get_logger, hold_signals, run, serve_wsgi, workers_from_flags,
)
hold_signals()
arrange_reactor("child")
log = get_logger(__name__)

class Own(Part):
    pass

async def nothing():
    pass

def app(environ, start_response):
    start_response("200 OK", [])
    return [b"hello"]

def parts(process):
    process.add(Admin.from_flags(process))
    process.add(Manhole.from_flags(process))
    workers = process.add(workers_from_flags(process.reactor))
    process.add(WebListener.from_flags(Gateway(app, workers), process.reactor))
    process.add(Tasks(Periodic("nothing", 60, nothing, reactor=process.reactor)))
    process.add(Own("own"))
    more(process)

def more(process):
    pass
"""

RUN = """
import atexit
atexit.register(lambda: print("loaded", *sys.modules))
sys.exit(run(About("child"), parts))
"""

HEAVY = {
    "asyncio",
    "cryptography",
    "OpenSSL",
    "klein",
    "prometheus_client",
    "ssl",
    "structlog",
    "treq",
    "twisted",
    "zope",
}

NOT_IN_USE = {
    "halfsync.admin.probe",
    "halfsync.client",
    "halfsync.dev",
    "halfsync.handover.peers",
    "halfsync.manhole.session",
    "halfsync.manhole.ssh_server",
    "halfsync.thrift",
    "klein",
    "treq",
    "twisted.conch",
    "twisted.web.client",
}
"""What a service with default flags has no use for: the manhole is closed, no other process takes over."""


@pytest.mark.parametrize(
    "asked",
    [
        ["--help"],
        ["--version"],
        ["--print_config"],
        ["--check_config"],
        ["--probe", "--admin.listen=unix:/no/such/socket"],
        ["--web.threads=many"],
    ],
)
def test_what_is_only_asked_imports_nothing_heavy(asked):
    """A health check that runs `--probe` every ten seconds would otherwise cost half a second each time."""
    done = subprocess.run(
        [sys.executable, "-c", EVERY_PART + RUN, "--web.listen=tcp:0", *asked],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(SOURCES)},
        check=False,
    )
    loaded = done.stdout.rpartition("loaded ")[2].split()
    assert "halfsync.flags" in loaded, done
    # The standard library's http.client, by which the probe asks, brings ssl.
    assert HEAVY.intersection(loaded) == ({"ssl"} if "--probe" in asked else set())


WATCHED = """
def more(process):
    print("loaded", *sys.modules, flush=True)
    class Watch:
        def find_spec(self, name, path, target=None):
            print("imports", name, flush=True)
    class Last(Part):
        async def ready(self):
            print("serves", process.part("web").url(), flush=True)
            print("serves", process.part("admin").url(), flush=True)
            print("using", *sys.modules, flush=True)
            sys.meta_path.insert(0, Watch())
    process.add(Last("last"))
sys.exit(run(About("child"), parts))
"""


def test_a_running_service_has_what_it_needs_and_no_more():
    """All it uses to serve, drain and end was imported before it was ready, whatever becomes of the files."""
    flags = ("--web.listen=tcp:0:interface=127.0.0.1", "--admin.listen=tcp:0:interface=127.0.0.1")
    with child(WATCHED, *flags, prelude=EVERY_PART) as service:
        service.wait_for("service.started")
        printed = [each["event"].partition(" ") for each in service.events]
        in_use = next(rest for word, _, rest in printed if word == "using")
        assert NOT_IN_USE.intersection(in_use.split()) == set()
        for url in (rest.rstrip("/") for word, _, rest in printed if word == "serves"):
            for path in ("/", "/health/ready", "/metrics", "/nothing"):
                with suppress(urllib.error.HTTPError):
                    urllib.request.urlopen(url + path, timeout=20).close()
        service.signal(signal.SIGUSR1)
        service.signal(signal.SIGHUP)
        service.wait_for("service.reloaded")
        service.signal(signal.SIGTERM)
        service.end()
    imported = [each["event"] for each in service.events if each["event"].startswith("imports")]
    assert [each for each in imported if "halfsync" in each or "twisted" in each] == []
    assert imported == []
