"""The service's own listener, as `--web.*` describes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oscar import flag

from .. import flags, flagtypes
from ..listener import Endpoints, Listener
from .bounds import Bounds
from .site import Site

if TYPE_CHECKING:
    from twisted.web.resource import IResource


@flags.declare(flag.namespace("web"))
class FLAGS:
    """Where the service answers, and what a client may cost."""

    listen = Endpoints("Where the service answers.", default="tcp:8080")
    max_body = flagtypes.Size("Larger request bodies are refused with 413.", default=10 * 1024 * 1024)
    idle_timeout = flagtypes.Seconds("Time that a connection may stay open between requests.", default=60.0)
    request_timeout = flagtypes.Seconds("Time in which headers and body must arrive.", default=30.0)
    write_timeout = flagtypes.Seconds("Time after which a client that takes nothing is cut.", default=60.0)
    access_log = flag.Bool("One structured event a request.", default=True)


class WebListener(Listener):
    """The part `web`: a resource on the endpoints of `--web.listen`, within the bounds of its flags."""

    @classmethod
    def from_flags(cls, resource: IResource, reactor: Any) -> WebListener:
        """Serve a resource where and as the flags say."""
        bounds = Bounds(
            max_body=FLAGS.max_body,
            idle_timeout=FLAGS.idle_timeout,
            request_timeout=FLAGS.request_timeout,
            write_timeout=FLAGS.write_timeout,
        )
        site = Site(resource, bounds=bounds, access_log=FLAGS.access_log, reactor=reactor)
        return cls("web", flag="web.listen", endpoints=FLAGS.listen, factory=site, reactor=reactor)
