"""The service tree: parts start in order, each awaited, and stop in reverse.

`twisted.application.service` gives the tree its shape and names.
Two things it leaves out are added here.
A start that is not done when `startService` returns (binding a port) is awaited, and when it fails,
what had started before it is stopped again, last first.
And `MultiService` stops all its children at once, while here a part stops only after the parts above it have:
the workers outlive the listener that feeds them.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from twisted.application.service import MultiService, Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList

from halfsync.life.sockets import Sockets
from halfsync.logs import LogLevels, get_logger

if TYPE_CHECKING:
    from halfsync.life.about import About

log = get_logger(__name__)

P = TypeVar("P", bound="Part")

State = Literal["starting", "running", "draining", "stopped"]


class Part(Service):
    """A part of the process: a Twisted service that starts asynchronously and knows how to drain.

    A subclass overrides `start`, `drain`, `stop` and `problems` as it needs; all are called in the reactor.
    """

    def __init__(self, name: str) -> None:
        self.setName(name)
        self.label = name

    async def bind(self, sockets: Sockets) -> None:
        """Bind what the part listens on; accept nothing yet.

        Every part binds before the first one starts, so that a start that fails has accepted no connection.
        A part that raises must leave nothing behind: its `unbind` is not called.
        :raises StartError: when the sockets cannot be had.
        """

    async def unbind(self) -> None:
        """Let go of what was bound; called instead of `stop` when the part has not started."""

    async def start(self) -> None:
        """Acquire what the part needs.

        A part that raises must leave nothing behind: its `stop` is not called.
        :raises StartError: when the world does not allow it.
        """

    async def drain(self) -> None:
        """Take no more work, and return when the work in flight is done.

        Called once, at the same time as every other part's; cancelled at the deadline.
        """

    async def stop(self) -> None:
        """Abort what is left and release everything."""

    def reload(self) -> None:
        """Read again what may have changed on disk; the process was told to (HUP)."""

    def problems(self) -> list[str]:
        """Say why the process is not ready on account of this part; nothing when it is."""
        return []

    def startService(self) -> Deferred[None]:
        """Start; the Deferred fires when `start` has returned."""
        Service.startService(self)
        return Deferred.fromCoroutine(self.start())

    def stopService(self) -> Deferred[None]:
        """Stop; the Deferred fires when `stop` has returned."""
        Service.stopService(self)
        return Deferred.fromCoroutine(self.stop())


class Process(MultiService):
    """The root of the service tree, and the state of the process as its parts and its probes see it."""

    def __init__(self, about: About, reactor: Any) -> None:
        MultiService.__init__(self)
        self.about = about
        self.reactor = reactor
        self.state: State = "starting"
        self.sockets = Sockets()
        """What the process listens on."""
        self.started = time.time()
        """When the process began, in seconds since the epoch."""
        self.log_levels = LogLevels(reactor)
        """Levels of the log, changed while the process runs."""
        self._draining: set[str] = set()

    def add(self, part: P) -> P:
        """Put a part at the end of the order of start, and return it."""
        self.addService(part)
        return part

    def part(self, name: str) -> Part:
        """Find a part by its name.

        :raises KeyError: when there is none.
        """
        return cast("Part", self.getServiceNamed(name))

    def problems(self) -> list[str]:
        """Say why the process is not ready; nothing when it is."""
        own = [] if self.state == "running" else [f"the process is {self.state}"]
        return own + [f"{part.label}: {problem}" for part in self._parts() for problem in part.problems()]

    async def start(self) -> None:
        """Bind every part, then start each in order; when one fails, undo all, last first, and raise."""
        self.running = 1
        bound: list[Part] = []
        started: list[Part] = []
        try:
            for part in self._parts():
                await part.bind(self.sockets)
                bound.append(part)
            for part in self._parts():
                await part.startService()
                started.append(part)
        except BaseException:
            self.state = "stopped"
            await self._stop(started)
            for part in reversed(bound[len(started) :]):
                await part.unbind()
            raise
        self.state = "running"

    async def drain(self) -> None:
        """Let every part finish its work in flight, all at the same time."""
        self.state = "draining"
        self._draining = {part.label for part in self._parts()}
        await DeferredList([Deferred.fromCoroutine(self._drain(part)) for part in self._parts()])

    def unfinished(self) -> list[str]:
        """Name the parts that have not finished their drain."""
        return sorted(self._draining)

    async def stop(self) -> None:
        """Stop every part, last first, each after the one above it."""
        self.state = "stopped"
        await self._stop(self._parts())

    async def _drain(self, part: Part) -> None:
        try:
            await part.drain()
        except CancelledError:
            return
        except Exception:
            # One part's bug must not cut short the drain of the others.
            log.exception("part.drain_failed", part=part.label)
        self._draining.discard(part.label)

    async def _stop(self, parts: list[Part]) -> None:
        self.running = 0
        for part in reversed(parts):
            try:
                await part.stopService()
            except Exception:
                # One part's bug must not leave the others running.
                log.exception("part.stop_failed", part=part.label)

    def _parts(self) -> list[Part]:
        return [cast("Part", service) for service in self]
