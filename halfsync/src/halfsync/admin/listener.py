"""The listener of the admin interface, as `--admin.listen` describes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from halfsync import flag, flags
from halfsync.admin.body import LONGEST
from halfsync.admin.pages import Pages
from halfsync.endpoints.listener import Endpoints
from halfsync.http.bounds import Bounds
from halfsync.http.part import HttpListener
from halfsync.http.site import Site

if TYPE_CHECKING:
    from collections.abc import Sequence

    from halfsync.life.parts import Process


@flags.declare(flag.namespace("admin"))
class FLAGS:
    """The process seen and changed by HTTP."""

    listen = Endpoints(
        "Where health, metrics, flags and the like are served; empty turns it off.",
        default="tcp:8081:interface=127.0.0.1",
    )


class Admin(HttpListener):
    """The part `admin`: the interface on the endpoints of `--admin.listen`."""

    def __init__(self, process: Process, *, listen: Sequence[str]) -> None:
        bounds = Bounds(max_body=LONGEST, idle_timeout=60, request_timeout=10, write_timeout=30)
        site = Site(Pages(process), bounds=bounds, access_log=False, reactor=process.reactor)
        super().__init__("admin", flag="admin.listen", endpoints=listen, site=site, reactor=process.reactor)

    @classmethod
    def from_flags(cls, process: Process) -> Admin:
        """Listen where the flags say."""
        return cls(process, listen=FLAGS.listen)

    async def drain(self) -> None:
        """Go on until the very end: a probe must hear that the process drains."""
