"""The gateway: a WSGI application (PEP 3333) as a handler, or as a resource of twisted.web below others.

A thread is taken only when the whole request has arrived, so a slow upload holds none.
The reactor hears of a small response once, head and body together;
a long one is handed over piece by piece, and its thread waits while the client does not take it.

Differences from `twisted.web.wsgi`, each a fault seen there: its threads wait for the reactor twice a write,
its queue has no bound and its responses no backpressure, a chunked upload arrives without CONTENT_LENGTH,
and a response that breaks off may look complete.
"""

from __future__ import annotations

import inspect
from typing import IO, TYPE_CHECKING, Any

from halfsync import flag, flags
from halfsync._later import later
from halfsync.deadline import asked
from halfsync.flags import types as flagtypes
from halfsync.http.client_certificate import client_variables
from halfsync.workers.pool import Busy, WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping
    from wsgiref.types import WSGIApplication

    from twisted.web import resource, server
    from twisted.web.resource import IResource
    from zope import interface

    from halfsync.endpoints.addresses import Address
    from halfsync.http.stream import RequestHead, Stream
    from halfsync.http.wsgi import environ as environs
    from halfsync.http.wsgi import exchange as exchanges
    from halfsync.http.wsgi.flow import Workers
else:
    environs = later("halfsync.http.wsgi.environ")
    exchanges = later("halfsync.http.wsgi.exchange")
    interface = later("zope.interface")
    resource = later("twisted.web.resource")
    server = later("twisted.web.server")

KNOWN_ADDRESSES = 100
"""Addresses of ours that are remembered; on IPv6 they may be many."""


@flags.declare(flag.namespace("web"), at_start=True)
class FLAGS:
    """The threads that run the application."""

    threads = flagtypes.Count("Worker threads that run the application.", default=16, maximum=10_000)
    queue = flagtypes.Count("Requests that may wait for a thread; beyond it 503.", default=64, minimum=0)
    queue_timeout = flagtypes.Seconds(
        "A request that has waited longer for a thread is answered 503 and never run.", default=10
    )
    stuck_after = flagtypes.Seconds(
        "A request that holds a thread for longer, and hands on nothing of its response, is logged with its"
        " stack; when all do, the service is not ready. 0 turns it off.",
        default=60,
        minimum=0,
    )
    exit_when_stuck = flag.Bool(
        "When all threads are held so: drain, and exit 3, to be started again. Python cannot kill a thread.",
        default=False,
    )


def workers_from_flags(reactor: Any) -> WorkerPool:
    """Make the part `workers`: the threads that `--web.threads` and its like describe."""
    return WorkerPool(
        "workers",
        threads=FLAGS.threads,
        queue=FLAGS.queue,
        queue_timeout=FLAGS.queue_timeout,
        stuck_after=FLAGS.stuck_after,
        exit_when_stuck=FLAGS.exit_when_stuck,
        reactor=reactor,
    )


def _require_application(app: Callable[..., object]) -> None:
    # It would start, be ready, and answer every request 500.
    try:
        inspect.signature(app).bind({}, None)
    except ValueError:
        # One in C says nothing of what it takes.
        return
    except TypeError:
        raise TypeError(
            f"{app!r} is no WSGI application: it does not take environ and start_response;"
            " if it makes one, call it, or give serve_wsgi(..., factory=True)"
        ) from None


class Gateway:
    """A handler that runs a WSGI application in threads."""

    isLeaf = True

    def __init__(
        self,
        app: WSGIApplication,
        workers: Workers,
        *,
        is_critical: Callable[[Mapping[str, str], str], bool] | None = None,
        share_of: Callable[[Mapping[str, str], str], Hashable] | None = None,
        refuse_body: Callable[[Mapping[str, str], str], int | None] | None = None,
    ) -> None:
        """Run an application.

        :param is_critical: says by a request's headers (`HTTP_X_...`, as in the environ) and its target
            whether it is served before all others; called in the reactor.
        :param share_of: names by the same whose request it is, as clients take turns when requests wait for
            threads; those of which it says None are one. Without a rule it is the client's address.
            Called in the reactor; where it raises, the request is answered 500.
        :param refuse_body: says by the same with which status (400 to 599) a client is refused that asks, by
            `Expect: 100-continue`, whether to send its body; None for those that are told to send it.
        :raises TypeError: when it is none: mostly the function that makes one.
        """
        _require_application(app)
        # As a decorator of the class it would import twisted.web for --help, too.
        interface.alsoProvides(self, resource.IResource)
        # Now, and not at the first request.
        self._exchange, self._new_template = exchanges.Exchange, environs.template
        self.app = app
        self.workers = workers
        self._is_critical = is_critical
        self._share_of = share_of
        self._refuse_body = refuse_body
        self._templates: dict[tuple[Address, bool], dict[str, Any]] = {}
        self._last: tuple[Address | None, bool, dict[str, Any]] = (None, False, {})
        """The one that was used last; an address's hash takes longer than the rest of it."""

    def handle(self, stream: Stream, head: RequestHead, body: IO[bytes], depth: int = 0) -> None:
        """Hand the request to a thread, or answer 503 at once when there is none.

        :param depth: how many segments of the path are the application's own place.
        """
        local, secure, environ = self._last
        if local is not stream.local or secure is not stream.secure:
            local, secure = stream.local, stream.secure
            environ = self._template(local, secure=secure)
            self._last = local, secure, environ
        if secure and (certificate := stream.certificate) is not None:
            environ = {**environ, **client_variables(certificate)}
        wanted = head.variables.get("HTTP_X_REQUEST_TIMEOUT")
        deadline = None if wanted is None else asked(wanted)
        exchange = self._exchange(self.app, self.workers, stream, head, body, environ, depth, deadline)
        if self._share_of is not None:
            # Now: a rule that raises, or names what has no hash, fails this request, and no thread.
            exchange.client = self._share_of(head.variables, head.target)
            hash(exchange.client)
        stream.responder = exchange
        critical = self._is_critical is not None and self._is_critical(head.variables, head.target)
        try:
            self.workers.submit(
                exchange, exchange.describe, patient=True, deadline=deadline, critical=critical
            )
        except Busy as busy:
            body.close()
            stream.refuse(503, [("Retry-After", str(busy.retry_after))])

    def refusal(self, head: RequestHead, depth: int = 0) -> int | None:
        """Return the status for a client that asks whether to send its body; None: it may."""
        del depth
        return None if self._refuse_body is None else self._refuse_body(head.variables, head.target)

    def _template(self, local: Address, *, secure: bool) -> dict[str, Any]:
        environ = self._templates.get((local, secure))
        if environ is None:
            environ = self._new_template(local, secure=secure)
            if len(self._templates) < KNOWN_ADDRESSES:
                self._templates[local, secure] = environ
        return environ

    def render(self, request: Any) -> int:
        """Serve what a resource above has found this for."""
        self.handle(*request.hand_over())
        return server.NOT_DONE_YET

    def getChildWithDefault(self, name: bytes, request: Any) -> IResource:
        """Never called: there is nothing below a leaf."""
        raise NotImplementedError

    def putChild(self, path: bytes, child: IResource) -> None:
        """Never called: the application has the whole path below."""
        raise NotImplementedError
