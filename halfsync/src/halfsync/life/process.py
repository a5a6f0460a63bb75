"""The parts of a process: bound and started in order, each awaited, and stopped in reverse.

`twisted.application.service.MultiService` has this shape, and leaves out what is needed here:
a start that is not done when `startService` returns is not awaited, one that fails undoes nothing,
and all children stop at once, while here a part stops only after the parts above it have:
the workers outlive the listener that feeds them.
"""

from __future__ import annotations

import time
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from halfsync._later import later
from halfsync.life import open_files
from halfsync.life.facts import counter
from halfsync.life.parts import Part
from halfsync.life.sockets import Sockets
from halfsync.life.systemd import Systemd
from halfsync.logs import LogLevels, get_logger, running

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from twisted.internet import defer
    from twisted.python import threadable

    from halfsync.life.about import About
    from halfsync.life.facts import Metric, OpenConnection, PeriodicTask, RunningRequest, WorkerThread
    from halfsync.life.stalls import Stalls
else:
    defer = later("twisted.internet.defer")
    threadable = later("twisted.python.threadable")

log = get_logger(__name__)

T = TypeVar("T")
P = TypeVar("P", bound=Part)


State = Literal["starting", "running", "draining", "stopped"]


class Process:
    """All parts, and the state of the process as its parts and its probes see it."""

    def __init__(self, about: About, reactor: Any, systemd: Systemd | None = None) -> None:
        self.about = about
        self.reactor = reactor
        self.systemd = systemd or Systemd(reactor)
        """The service manager that started the process."""
        self.state: State = "starting"
        """May be read in any thread."""
        self.stalls: Stalls | None = None
        """What watches the reactor; None when nothing does."""
        self.told_to_stop: defer.Deferred[str] = defer.Deferred()
        """Fires with the reason when the process is to stop."""
        self.stop_signalled = False
        """Whether a signal to stop has come, of which the reactor may not have heard yet."""
        self.stop_reason = ""
        """Why it was told to stop."""
        self.given_up = False
        """Whether it stops because it cannot go on."""
        self.started = time.time()
        """When the process began, in seconds since the epoch."""
        self.sockets = Sockets()
        """What the process listens on."""
        self.log_levels = LogLevels(reactor)
        """Levels of the log, changed while the process runs."""
        self._parts: dict[str, Part] = {}
        self._unfinished: set[str] = set()
        self._drain_callbacks: list[Callable[[], object]] = []

    def __iter__(self) -> Iterator[Part]:
        return iter(list(self._parts.values()))

    def add(self, part: P) -> P:
        """Put a part at the end of the order of start, and return it.

        :raises ValueError: when there is one with the same name.
        """
        if self._parts.setdefault(part.label, part) is not part:
            raise ValueError(f"two parts are called {part.label!r}; give one another name")
        part.give_up = self.give_up
        return part

    def part(self, name: str) -> Part:
        """Find a part by its name.

        :raises KeyError: when there is none.
        """
        return self._parts[name]

    # The end

    def stop(self, reason: str) -> None:
        """Have the process drain and end, as SIGTERM does; from any thread.

        It returns at once. Only the first reason counts, which the log shows.
        """
        self._stop_soon(reason, given_up=False)

    def give_up(self, reason: str) -> None:
        """Have the process drain and end with exit code 3, for its supervisor to start it again.

        One that has been told to stop does so, and the exit code tells how that went.
        """
        self._stop_soon(reason, given_up=True)

    def stop_now(self, reason: str, *, given_up: bool = False) -> None:
        """Begin to stop; for the reactor's thread."""
        if not self.told_to_stop.called:
            self.stop_reason, self.given_up = reason, given_up
            self.told_to_stop.callback(reason)

    @property
    def draining(self) -> bool:
        """Whether the process finishes what it has, and ends; may be read in any thread."""
        return self.state in {"draining", "stopped"}

    def on_drain(self, callback: Callable[[], object]) -> None:
        """Make a call in the reactor when the drain begins; at once when it has begun. Its errors are logged.

        It is for what would last as long as its client likes: streams, long polls.
        """
        if self.draining:
            self._call(callback)
        else:
            self._drain_callbacks.append(callback)

    # What there is to say

    def problems(self) -> list[str]:
        """Say why the process is not ready; nothing when it is."""
        own = [] if self.state == "running" else [f"the process is {self.state}"]
        return own + [f"{part.label}: {problem}" for part in self for problem in part.problems()]

    def requests(self) -> list[RunningRequest]:
        """Return the requests in flight of every part."""
        return self._ask(lambda part: part.requests())

    def connections(self) -> list[OpenConnection]:
        """Return the open connections of every part."""
        return self._ask(lambda part: part.connections())

    def workers(self) -> dict[int, WorkerThread]:
        """Return the worker threads of every part, by the threads' identifiers."""
        return {each.ident: each for each in self._ask(lambda part: part.workers())}

    def tasks(self) -> dict[str, PeriodicTask]:
        """Return the periodic tasks of every part, by their names."""
        return {task.label: task for task in self._ask(lambda part: part.tasks())}

    def metrics(self) -> list[Metric]:
        """Return the figures of the process and of every part."""
        own = list(self.stalls.metrics()) if self.stalls else []
        if log_of_process := running():
            # While its disk is full, the log cannot say so.
            own.append(counter("log_lines_lost", "Lines that are missing in the log.", log_of_process.lost))
        return own + self._ask(lambda part: part.metrics())

    # Life

    async def start(self) -> None:
        """Bind every part, then start every part, then tell each that all have, in order.

        So a port that is taken ends a start before anything is accepted.
        A listener accepts once it is started: what its requests need comes before it.
        When one fails, stop those that had started and unbind the others, last first, and raise.
        """
        self._share_open_files()
        bound: list[Part] = []
        begun: list[Part] = []
        try:
            for part in self:
                await part.bind(self.sockets)
                bound.append(part)
            for part in self:
                await part.start()
                begun.append(part)
            if self.told_to_stop.called or self.stop_signalled:
                raise defer.CancelledError  # noqa: TRY301  a process that ends must not take over from another
            # From here on a stop drains: the process before may have let go already.
            self.state = "running"
            for part in self:
                await part.ready()
        except BaseException:
            self.state = "stopped"
            await self._undo([(part, part.stop) for part in reversed(begun)])
            await self._undo([(part, part.unbind) for part in reversed(bound[len(begun) :])])
            raise

    def reload(self) -> list[str]:
        """Have every part read again what may have changed on disk; return what they refused."""
        refused: list[str] = []
        for part in self:
            try:
                refused += part.reload() or ()
            except Exception:
                log.exception("part.reload_failed", part=part.label)
                refused.append(f"{part.label}: a bug, whose traceback is in the log")
        return refused

    async def drain(self) -> None:
        """Let every part finish its work in flight, all at the same time."""
        self.state = "draining"
        self._unfinished = {part.label for part in self}
        callbacks, self._drain_callbacks = self._drain_callbacks, []
        for callback in callbacks:
            self._call(callback)
        await defer.DeferredList([defer.Deferred.fromCoroutine(self._drain(part)) for part in self])

    def unfinished(self) -> list[str]:
        """Name the parts that have not finished their drain, or the one that does not stop."""
        return sorted(self._unfinished)

    async def close(self) -> None:
        """Stop every part, last first, each after the one above it."""
        self.state = "stopped"
        await self._undo([(part, part.stop) for part in reversed(list(self))])

    def _share_open_files(self) -> None:
        """Have all parts together promise no more than the limit of open files (getrlimit(2)) allows."""
        wanted = {part.label: part.open_files() for part in self}
        given = open_files.shares(wanted)
        for part in self:
            if given[part.label] < wanted[part.label]:
                part.allow_open_files(given[part.label])

    async def _drain(self, part: Part) -> None:
        try:
            await part.drain()
        except defer.CancelledError:
            return
        except Exception:
            # One part's bug must not cut short the drain of the others.
            log.exception("part.drain_failed", part=part.label)
        self._unfinished.discard(part.label)

    async def _undo(self, steps: Iterable[tuple[Part, Callable[[], Awaitable[None]]]]) -> None:
        for part, step in steps:
            self._unfinished = {part.label}
            try:
                await step()
            except defer.CancelledError:
                # It had its time; `service.forced` names it.
                continue
            except Exception:
                # One part's bug must not leave the others running.
                log.exception("part.stop_failed", part=part.label)
        self._unfinished = set()

    def _stop_soon(self, reason: str, *, given_up: bool) -> None:
        if threadable.isInIOThread():
            # Not within the caller's own code, which may be a part's.
            self.reactor.callLater(0, self.stop_now, reason, given_up=given_up)
        else:
            self.reactor.callFromThread(self.stop_now, reason, given_up=given_up)

    def _call(self, callback: Callable[[], object]) -> None:
        try:
            callback()
        except Exception:
            log.exception("service.drain_callback_failed")

    def _ask(self, question: Callable[[Part], Iterable[T]]) -> list[T]:
        """Collect what parts say; of one with a bug, nothing."""
        said = []
        for part in self:
            try:
                said.append(list(question(part)))
            except Exception:
                log.exception("part.failed", part=part.label)
        return list(chain.from_iterable(said))
