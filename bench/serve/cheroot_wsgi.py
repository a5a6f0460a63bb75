"""Cheroot, as CherryPy runs it. Arguments: port, threads, seconds that a connection may be idle.

Two of its defaults are raised: with its 10 keep-alive connections and a backlog of 5,
32 clients would measure how fast it closes connections.
"""

from __future__ import annotations

import sys

from app import application
from cheroot.wsgi import Server


def main() -> None:
    """Serve until killed."""
    port, threads, idle = map(int, sys.argv[1:])
    server = Server(
        ("127.0.0.1", port),
        application,
        numthreads=threads,
        max=threads,
        request_queue_size=1024,
        timeout=idle,
    )
    server.keep_alive_conn_limit = 100_000
    server.start()


if __name__ == "__main__":
    main()
