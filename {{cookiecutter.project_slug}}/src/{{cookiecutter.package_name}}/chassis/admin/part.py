"""The admin interface as a part of the process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oscar import flag

from .. import flags
from ..http.bounds import Bounds
from ..http.site import Site
from ..lifecycle import Part
from ..listener import Endpoints, Listener
from .body import LONGEST
from .pages import Pages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..lifecycle import Process


@flags.declare(flag.namespace("admin"))
class FLAGS:
    """The process seen and changed by HTTP."""

    listen = Endpoints(
        "Where health, metrics, flags and the like are served; empty turns it off.",
        default="tcp:8081:interface=127.0.0.1",
    )


class Admin(Part):
    """The admin interface on a listener of its own.

    It answers until the very end: a probe must hear that the process drains.
    """

    def __init__(self, process: Process, *, listen: Sequence[str]) -> None:
        super().__init__("admin")
        bounds = Bounds(max_body=LONGEST, idle_timeout=60, request_timeout=10, write_timeout=30)
        self.factory = Site(Pages(process), bounds=bounds, access_log=False, reactor=process.reactor)
        self._listener = Listener(
            "admin", flag="admin.listen", endpoints=listen, factory=self.factory, reactor=process.reactor
        )

    @classmethod
    def from_flags(cls, process: Process) -> Admin:
        """Listen where the flags say."""
        return cls(process, listen=FLAGS.listen)

    async def start(self) -> None:
        """Listen.

        :raises StartError: when that is not possible.
        """
        await self._listener.startService()

    async def stop(self) -> None:
        """Cut every connection."""
        await self._listener.stopService()

    def problems(self) -> list[str]:
        """Say which endpoint no longer accepts, and why."""
        return self._listener.problems()

    def addresses(self) -> list[str]:
        """Give each endpoint's address for a person, with the real port."""
        return self._listener.addresses()

    def url(self) -> str | None:
        """Give the URL, reachable from this machine, of the first TCP endpoint; None when there is none."""
        return self._listener.url()
