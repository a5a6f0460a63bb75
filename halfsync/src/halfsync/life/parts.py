"""A part of a process: what has a life of its own, and something to say of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from halfsync.life.facts import Metric, OpenConnection, PeriodicTask, RunningRequest, WorkerThread
    from halfsync.life.sockets import Sockets


def _nobody_hears(reason: str) -> None:
    """Stand in for the process of a part that was added to none."""
    del reason


class Part:
    """A part of the process: it starts and stops with it, drains, and says of itself what there is to say.

    A subclass overrides what it needs; every method is called in the reactor's thread.
    `bind`, `start`, `ready`, `drain` and `stop` follow one another;
    of the first three, each is done with every part before the next one begins with the first part.
    """

    def __init__(self, name: str) -> None:
        self.label = name
        """The name by which `Process.part` finds it, and which health, log and metrics show."""
        self.give_up: Callable[[str], object] = _nobody_hears
        """Has the process drain and end with exit code 3, to be started again; `Process.add` sets it."""

    # The life of a part

    async def bind(self, sockets: Sockets) -> None:
        """Bind what the part listens on; accept nothing yet.

        So a start that fails has accepted no connection that it would have to drop.
        A part that raises must leave nothing behind: its `unbind` is not called.
        :raises StartError: when the sockets cannot be had.
        """

    async def unbind(self) -> None:
        """Let go of what was bound; called instead of `stop` when the part has not started."""

    async def start(self) -> None:
        """Acquire what else the part needs, and begin.

        A part that raises must undo what this method did: `unbind` is called then, and `stop` is not.
        :raises StartError: when the system does not allow it.
        """

    async def ready(self) -> None:
        """Do what must wait until every part has started; one that raises fails the start, as in `start`."""

    async def drain(self) -> None:
        """Take no more work, and return when the work in flight is done.

        Called at the same time as every other part's; cancelled at the deadline.
        """

    async def stop(self) -> None:
        """Abort what is left and release everything."""

    def reload(self) -> Iterable[str] | None:
        """Read again what may have changed on disk (SIGHUP); what is wrong is logged, and the old kept.

        :returns: what was refused, a line each, for `systemctl status`.
        """

    def toggle(self) -> None:
        """Open or close; the part called `manhole` is told so by SIGUSR2."""

    # Open files

    def open_files(self) -> int:
        """Return how many files the part may have open at most, its connections included."""
        return 0

    def allow_open_files(self, most: int) -> None:
        """Have no more than that: all parts together want more than there may be. Called before `bind`."""

    # What a part says of itself

    def problems(self) -> list[str]:
        """Say why the process is not ready on account of this part; nothing when it is."""
        return []

    def requests(self) -> list[RunningRequest]:
        """Return the requests that are not answered to their end."""
        return []

    def connections(self) -> list[OpenConnection]:
        """Return the connections that are open."""
        return []

    def workers(self) -> list[WorkerThread]:
        """Return the worker threads, and what each runs."""
        return []

    def tasks(self) -> list[PeriodicTask]:
        """Return the periodic tasks."""
        return []

    def metrics(self) -> Iterable[Metric]:
        """Return figures for Prometheus; parts of one kind use the same names, and labels to tell them apart.

        Called at each scrape: keep plain numbers, and make this of them.
        """
        return ()
