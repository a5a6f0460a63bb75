"""Twisted's own WSGIResource, as `twist web --wsgi` sets it up, with a pool of so many threads.

Arguments: port, threads.
"""

from __future__ import annotations

import sys

from app import application
from twisted.internet import reactor
from twisted.python.threadpool import ThreadPool
from twisted.web.server import Site
from twisted.web.wsgi import WSGIResource


def main() -> None:
    """Serve until killed."""
    port, threads = map(int, sys.argv[1:])
    pool = ThreadPool(threads, threads)
    pool.start()
    site = Site(WSGIResource(reactor, pool, application))
    reactor.listenTCP(port, site, backlog=1024, interface="127.0.0.1")  # type: ignore[attr-defined]
    reactor.run()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
