"""Thousands of idle connections: what each costs, and that requests leave nothing to the collector."""

from __future__ import annotations

import gc
import resource
import socket

from children import child
from http_tools import GET, Connection

CONNECTIONS = 2000

SERVE = """
import gc, os
from halfsync.life import open_files as limits
limits.raise_open_files()
from twisted.internet import reactor
from halfsync.http.bounds import Bounds
from halfsync.http.site import Site
from halfsync.http.wsgi.gateway import Gateway
from halfsync.workers.pool import WorkerPool
def app(environ, start_response):
    start_response("200 OK", [])
    gc.collect()
    with open("/proc/self/statm") as statm:
        pages = int(statm.read().split()[1])
    return [b"%d" % (pages * os.sysconf("SC_PAGE_SIZE"))] if environ["PATH_INFO"] == "/rss" else [b"5"]
"""
SERVE = SERVE.replace("    gc.collect()\n", "")
SERVE += """
pool = WorkerPool("workers", threads=2, queue=10, reactor=reactor)
site = Site(Gateway(app, pool), bounds=Bounds(), access_log=False, reactor=reactor)
port = reactor.listenTCP(0, site, interface="127.0.0.1", backlog=1000)
import json
print(json.dumps({"event": "listening", "port": port.getHost().port}), flush=True)
reactor.run()
"""


def ask(connection: socket.socket, path: bytes = b"/") -> bytes:
    """Make a request, and return the body."""
    connection.sendall(GET.replace(b"/", path, 1))
    reply = b""
    while b"\r\n\r\n" not in reply or reply.endswith(b"\r\n\r\n"):
        reply += connection.recv(4096)
    return reply.partition(b"\r\n\r\n")[2]


def test_memory():
    """An idle connection that has had an answer costs little; the bound leaves room for other systems."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))
    connections = []
    try:
        with child(SERVE) as process:
            address = ("127.0.0.1", process.wait_for("listening")["port"])

            def connect() -> socket.socket:
                connections.append(socket.create_connection(address, timeout=10))
                ask(connections[-1])
                return connections[-1]

            for _ in range(100):
                first = connect()
            before = int(ask(first, b"/rss"))
            for _ in range(CONNECTIONS):
                connect()
            assert int(ask(first, b"/rss")) - before < CONNECTIONS * 4.5 * 1024
    finally:
        for each in connections:
            each.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_no_garbage():
    """A request is gone when its response is, without the collector."""
    connection = Connection()
    connection.send(GET)
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        for _ in range(100):
            connection.send(GET)
        # Twenty: what the interpreter itself keeps for later.
        assert len(gc.get_objects()) - before < 20
    finally:
        gc.enable()
