"""Run waitress's functional tests against our server; `test_waitress.py` starts this in the folder of theirs.

What they import of waitress is replaced by the three modules below: their fixture servers then stand on ours.
Habits of waitress that are no rule's are translated, since each would hide what a test is about:

- its clients send HTTP/1.1 without `Host`, which is refused here: they are given one;
- it names itself in `Server`, and we do not;
- it refuses with the version of the request, and we with our own, as RFC 9110 section 6.2 says;
- it sets REMOTE_HOST, which is optional (RFC 3875 section 4.1.9);
- its answers do not name their requests.

Results go to standard output as JSON: by name of the test what it said when it failed, or null.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import types
import unittest
from pathlib import Path

from twisted.internet.defer import Deferred

from halfsync.endpoints.listener import Listener
from halfsync.http.bounds import Bounds
from halfsync.http.proxies import Proxies
from halfsync.http.site import Site
from halfsync.http.wsgi.gateway import Gateway
from halfsync.workers.pool import WorkerPool


class Server:
    """One of ours, in the shape of theirs."""

    family = socket.AF_INET

    def __init__(self, application, **options):
        self.application = application
        self.options = options
        self.socket = socket.socket(self.family)
        path = options.pop("unix_socket", None)
        self.socket.bind(path or (options.pop("host"), options.pop("port")))
        self.socket.listen(128)

    def run(self):
        """Serve until the process, a fork of its own in which there is no reactor yet, is ended."""
        from twisted.internet import reactor

        bounds = Bounds(
            # Some tests wait for the end of a connection that goes on here.
            idle_timeout=1,
            max_head=self.options.get("max_request_header_size", 16384),
            max_body=self.options.get("max_request_body_size", 2**20),
            max_headers=1000,
        )
        pool = WorkerPool("workers", threads=4, queue=64, reactor=reactor)
        site = Site(Gateway(self._named, pool), bounds=bounds, access_log=False, reactor=reactor)
        if "trusted_proxy" in self.options:
            site.proxies = Proxies(["0.0.0.0/0", "unix"])
        endpoint = f"fd:{self.socket.fileno()}"
        listener = Listener("web", flag="web.listen", endpoints=[endpoint], factory=site, reactor=reactor)
        reactor.callWhenRunning(lambda: Deferred.fromCoroutine(listener.start()))
        reactor.run()

    def _named(self, environ, start_response):
        environ["REMOTE_HOST"] = environ["REMOTE_ADDR"]
        return self.application(environ, start_response)


class Socket(socket.socket):
    """A client's, which names the host it wants."""

    def send(self, data):
        """Send requests of HTTP/1.1 with a Host, and the others as they are."""
        more = re.sub(rb"([A-Z]+ \S+ HTTP/1\.1\r\n)(?!Host:)", rb"\1Host: localhost\r\n", data)
        self.sendall(more)
        return len(data)


def install():
    """Have `import waitress` find what stands in for it."""
    modules = {
        "waitress": {},
        "waitress.server": {"TcpWSGIServer": Server, "UnixWSGIServer": Server},
        "waitress.compat": {"WIN": False},
        "waitress.utilities": {"cleanup_unix_socket": os.unlink},
    }
    for name, names in modules.items():
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(names)


def translate(functional):
    """Put the habits above on top of what the tests look at."""
    read_http, assertline = functional.read_http, functional.SubprocessTests.assertline

    def read(fp):
        line, headers, body = read_http(fp)
        assert "server" not in headers
        headers.pop("x-request-id", None)
        return line, headers | {"server": "waitress"}, body

    def same(self, line, status, reason, version):
        if int(status) >= 400 and line.startswith(b"HTTP/1.1 "):
            version = "HTTP/1.1"
        assertline(self, line, status, reason, version)

    functional.read_http = read
    functional.SubprocessTests.assertline = same
    functional.SubprocessTests.create_socket = lambda self: Socket(self.server.family, socket.SOCK_STREAM)


class Result(unittest.TestResult):
    """What has come of each test."""

    def __init__(self):
        super().__init__()
        self.said = {}

    def startTest(self, test):
        super().startTest(test)
        self.said[name(test)] = None

    def addFailure(self, test, err):
        self.said[name(test)] = f"{err[0].__name__}: {err[1]}"

    addError = addFailure


def name(test):
    """Return the test's class and method."""
    return test.id().partition("test_functional.")[2]


def main():
    """Run all of them; the argument is the folder that holds waitress's `tests`."""
    folder = sys.argv[1]
    sys.path.insert(0, folder)
    assert Path(folder, "tests", "test_functional.py").is_file()
    install()
    from tests import test_functional

    translate(test_functional)
    result = Result()
    unittest.defaultTestLoader.loadTestsFromModule(test_functional).run(result)
    json.dump(result.said, sys.stdout)


main()
