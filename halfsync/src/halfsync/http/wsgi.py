"""The gateway: a WSGI application (PEP 3333) as a resource of twisted.web.

A thread is taken only when the whole request has arrived, so a slow upload holds none.
The reactor hears of a small response once, head and body together;
a long one is handed over piece by piece, and its thread waits while the client does not take it.

Differences from `twisted.web.wsgi`, each a fault seen there: its threads wait for the reactor twice a write,
its queue has no bound and its responses no backpressure, a chunked upload arrives without CONTENT_LENGTH,
and a response that breaks off may look complete.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from halfsync import flag, flags
from halfsync.flags import types as flagtypes
from halfsync.http.exchange import Exchange
from halfsync.workers import Busy, WorkerPool

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

    from halfsync.http.exchange import Workers
    from halfsync.http.request import Request


@flags.declare(flag.namespace("web"))
class FLAGS:
    """The threads that run the application."""

    threads = flagtypes.Count("Worker threads that run the application.", default=16)
    queue = flagtypes.Count("Requests that may wait for a thread; beyond it 503.", default=64, minimum=0)


def workers_from_flags(reactor: Any) -> WorkerPool:
    """Make the part `workers`: the threads of `--web.threads` and `--web.queue`."""
    return WorkerPool("workers", threads=FLAGS.threads, queue=FLAGS.queue, reactor=reactor)


@implementer(IResource)
class Gateway:
    """A resource, at the root of a site or below it, that a WSGI application answers."""

    isLeaf = True
    reads_own_body = True

    def __init__(self, app: WSGIApplication, workers: Workers) -> None:
        self.app = app
        self.workers = workers

    def render(self, request: Request) -> int:
        """Hand the request to a thread, or answer 503 at once when there is none."""
        exchange = Exchange(self.app, self.workers, request)
        try:
            self.workers.submit(exchange, exchange.describe)
        except Busy as busy:
            exchange.body.close()
            request.answer(503, [(b"Retry-After", b"%d" % busy.retry_after)])
        return NOT_DONE_YET

    def getChildWithDefault(self, name: bytes, request: Request) -> IResource:
        """Never called: there is nothing below a leaf."""
        raise NotImplementedError

    def putChild(self, path: bytes, child: IResource) -> None:
        """Never called: the application has the whole path below."""
        raise NotImplementedError
