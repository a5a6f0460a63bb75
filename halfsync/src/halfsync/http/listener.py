"""The service's own listener, as `--web.*` describes it."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, Protocol, cast

from halfsync import flag, flags
from halfsync._later import later
from halfsync.endpoints.listener import Endpoints
from halfsync.flags import types as flagtypes
from halfsync.http import proxies
from halfsync.http.bounds import Bounds
from halfsync.http.part import HttpListener
from halfsync.life.errors import WrongFlagsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from halfsync.endpoints.endpoint import Endpoint
    from halfsync.http import site, tracebacks
    from halfsync.http.mount import Mount
    from halfsync.life.sockets import Sockets
else:
    site = later("halfsync.http.site")
    tracebacks = later("halfsync.http.tracebacks")

SAFE = Bounds()

LEAST_MEMORY = 1024**2
"""Bytes: with less, hardly a request with a body would find room."""


@flags.declare(flag.namespace("web"), at_start=True)
class FLAGS:
    """Where the service answers, and what a client may cost."""

    listen = Endpoints("Where the service answers.", default="tcp:8080")
    max_body = flagtypes.Size(
        "Larger request bodies are refused with 413.", default=SAFE.max_body, maximum=2**50
    )
    max_head = flagtypes.Size(
        "Longer request lines are refused with 414, with longer headers 431.",
        default=SAFE.max_head,
        minimum=512,
        maximum=1024**2,
    )
    max_headers = flagtypes.Count(
        "Headers of a request; more are refused with 431.",
        default=SAFE.max_headers,
        minimum=8,
        maximum=10_000,
    )
    idle_timeout = flagtypes.Seconds(
        "Time that a connection may stay open between requests.", default=SAFE.idle_timeout
    )
    request_timeout = flagtypes.Seconds(
        "Time in which the head of a request must arrive; its body is judged by --web.min_rate.",
        default=SAFE.request_timeout,
    )
    write_timeout = flagtypes.Seconds(
        "Time over which the rate is judged at which a client takes a response, or sends a body.",
        default=SAFE.write_timeout,
    )
    min_rate = flagtypes.Size(
        "Bytes a second; a client that takes a response, or sends a body, more slowly is cut.",
        default=SAFE.min_rate,
        maximum=1024**3,
    )
    spool = flagtypes.Size(
        "Disk for responses that wait for slow clients, and as much for uploads; 0 turns it off.",
        default=SAFE.spool,
        minimum=0,
        maximum=2**50,
    )
    memory = flagtypes.Size(
        "Memory for everything that requests and responses of all connections hold.",
        default=SAFE.memory,
        minimum=LEAST_MEMORY,
        maximum=2**40,
    )
    max_connections = flagtypes.Count(
        "Connections open at a time; beyond it the longest idle one is closed, else 503.",
        default=SAFE.max_connections,
    )
    max_connections_per_client = flagtypes.Count(
        "Connections of one client (address, or IPv6 /64) but trusted proxies; 0: a quarter of all.",
        default=SAFE.max_connections_per_client,
        minimum=0,
    )
    trusted_proxies = proxies.TrustedProxies(
        "Whose forwarding headers are believed: addresses, networks, `unix`; separated by spaces."
    )
    proxy_headers = flagtypes.Choice(
        "The headers that these proxies set, and take from clients: X-Forwarded-*, or Forwarded (RFC 7239).",
        default=proxies.X_FORWARDED,
        choices=(proxies.X_FORWARDED, proxies.FORWARDED),
    )
    access_log = flag.Bool("One structured event a request.", default=True)
    tracebacks = flag.Bool(
        "For development: a request that fails is answered with its traceback, to clients of this machine;"
        " refused where others can connect. `make dev` sets it.",
        default=False,
    )


class WebResource(Protocol):
    """What answers requests in the reactor: a resource of twisted.web, klein's `app.resource()` among them.

    It says what `twisted.web.resource.IResource` does, to type checkers that know no zope.interface.
    """

    def render(self, request: Any, /) -> Any:
        """Answer a request."""

    def getChildWithDefault(self, name: Any, request: Any, /) -> Any:
        """Return the resource for the next segment of a path."""


class WebListener(HttpListener):
    """The part `web`: a resource on the endpoints of `--web.listen`, within the bounds of its flags."""

    @classmethod
    def from_flags(cls, resource: WebResource | Mount, reactor: Any) -> WebListener:
        """Serve a resource, a Gateway, or a Mount of several, where and as the flags say."""
        if FLAGS.tracebacks:
            resource = cast("Any", tracebacks.Tracebacks(resource))
        return cls.another("web", resource, flag="web.listen", endpoints=FLAGS.listen, reactor=reactor)

    async def bind(self, sockets: Sockets) -> None:
        """Bind every endpoint, or none.

        :raises StartError: naming the flag; also when other machines could see tracebacks.
        """
        if self.label == "web" and FLAGS.tracebacks and (fault := tracebacks.exposed(self._endpoints)):
            raise WrongFlagsError(f"--web.tracebacks: {fault}; leave it out, or add interface=127.0.0.1")
        await super().bind(sockets)

    @classmethod
    def another(
        cls,
        name: str,
        resource: WebResource | Mount,
        *,
        flag: str,
        endpoints: Sequence[Endpoint | str],
        reactor: Any,
    ) -> WebListener:
        """Serve something else on endpoints of its own, within the bounds of `--web.*` once more.

        :param name: of the part, in the log and in metrics.
        :param flag: the name of the flag that an error names.
        :param endpoints: such a flag's value, or endpoint strings.
        :raises EndpointError: when a string is wrong.
        """
        named = [each.name for each in fields(Bounds) if each.name in dir(FLAGS)]
        bounds = Bounds(**{each: getattr(FLAGS, each) for each in named})
        trusted = None
        if FLAGS.trusted_proxies:
            trusted = proxies.Proxies(FLAGS.trusted_proxies, headers=FLAGS.proxy_headers)
        served = site.Site(
            resource, bounds=bounds, access_log=FLAGS.access_log, reactor=reactor, proxies=trusted
        )
        return cls(name, flag=flag, endpoints=endpoints, site=served, reactor=reactor)
