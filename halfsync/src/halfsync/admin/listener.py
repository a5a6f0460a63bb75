"""The listener of the admin interface, as `--admin.listen` describes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from halfsync import flag, flags
from halfsync._later import later
from halfsync.admin.body import LONGEST
from halfsync.admin.token import check_token_file
from halfsync.endpoints.exposure import is_shared_unix, public_address
from halfsync.endpoints.listener import Endpoints
from halfsync.endpoints.parsing import as_endpoint
from halfsync.flags import types as flagtypes
from halfsync.http.bounds import Bounds
from halfsync.http.part import HttpListener
from halfsync.life.errors import StartError, WrongFlagsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from halfsync.admin import access, handler, pages, probe
    from halfsync.endpoints.endpoint import Endpoint
    from halfsync.http import site
    from halfsync.life.process import Process
    from halfsync.life.sockets import Sockets
else:
    access = later("halfsync.admin.access")
    handler = later("halfsync.admin.handler")
    pages = later("halfsync.admin.pages")
    probe = later("halfsync.admin.probe")
    site = later("halfsync.http.site")


MOST_CONNECTIONS = 64
"""Probes, scrapes and people at a time, all of which may come from one address."""


class AdminEndpoints(Endpoints):
    """The flag: endpoints at which, without a token, only this machine can ask."""

    def fault(self) -> str | None:
        """Say what is wrong on this machine as it is, a public address without a token included."""
        return super().fault() or (None if FLAGS.token_file else exposed(self.get()))


@flags.declare(flag.namespace("admin"), at_start=True)
class FLAGS:
    """The process seen and changed by HTTP."""

    listen = AdminEndpoints(
        "Where health, metrics, flags and the like are served; empty turns it off.",
        default="tcp:8081:interface=127.0.0.1",
    )
    token_file = flagtypes.Path(
        "Its first line is the token (Authorization: Bearer) that every change needs, and every look"
        " from elsewhere than loopback or a private UNIX socket; read at each use.",
        default="",
        check=check_token_file,
    )


@flags.declare(flag.namespace(""), at_start=True)
class COMMAND:
    """What is asked of the process that runs."""

    probe = flags.Action(
        "Ask the process that runs with these flags whether it is ready; exit 0 or 1.",
        act=lambda: probe.probe(FLAGS.listen),
    )


def exposed(endpoints: Sequence[Endpoint]) -> str | None:
    """Say which endpoint other machines could ask; None when there is none."""
    for endpoint in endpoints:
        address = public_address(endpoint.source)
        if address:
            return (
                f"{endpoint.text!r}: other machines can connect to {address}, and could open the manhole;"
                " add interface=127.0.0.1, or name a file with a token by --admin.token_file"
            )
    return None


class Admin(HttpListener):
    """The part `admin`: the interface on the endpoints of `--admin.listen`."""

    may_be_off = True

    def __init__(self, process: Process, *, listen: Sequence[Endpoint | str], token_file: str = "") -> None:
        """Prepare; the parameters are those of the flags."""
        self._token_file = token_file
        self._listen = [as_endpoint(each).private() for each in listen]
        allowed = access.Access(
            token_file=token_file,
            unix_is_private=not any(is_shared_unix(each.source) for each in self._listen),
        )
        bounds = Bounds(
            max_body=LONGEST,
            idle_timeout=60,
            request_timeout=10,
            write_timeout=30,
            max_connections=MOST_CONNECTIONS,
            max_connections_per_client=MOST_CONNECTIONS,
            most_files=2,
        )
        shown = pages.Pages(process, allowed)
        self._metrics = shown.metrics
        served = site.Site(
            handler.AdminHandler(shown), bounds=bounds, access_log=False, reactor=process.reactor
        )
        super().__init__(
            "admin", flag="admin.listen", endpoints=self._listen, site=served, reactor=process.reactor
        )

    @classmethod
    def from_flags(cls, process: Process) -> Admin:
        """Listen where the flags say."""
        return cls(process, listen=FLAGS.listen, token_file=FLAGS.token_file)

    async def bind(self, sockets: Sockets) -> None:
        """Bind every endpoint, or none.

        :raises StartError: naming the flag; also when other machines could ask, and there is no token.
        """
        fault = check_token_file(self._token_file)
        if fault:
            raise StartError(f"--admin.token_file: {fault}")
        fault = None if self._token_file else exposed(self._listen)
        if fault:
            raise WrongFlagsError(f"--admin.listen: {fault}")
        await super().bind(sockets)

    async def ready(self) -> None:
        """Keep the names of the library's metrics from being used once more, now that all parts are there.

        :raises StartError: when one is.
        """
        self._metrics.reserve()

    async def stop(self) -> None:
        """Close the endpoints, and the connections that are left."""
        self._metrics.release()
        await super().stop()

    async def drain(self) -> None:
        """Go on until the very end: a probe must hear that the process drains."""
