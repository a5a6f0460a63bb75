"""The periodic tasks of a process, as one part."""

from __future__ import annotations

from typing import TYPE_CHECKING

from halfsync._later import later
from halfsync.life.parts import Part

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twisted.internet import defer
    from twisted.python import failure as failures

    from halfsync.life.facts import Metric, PeriodicTask, WorkerThread
    from halfsync.periodic import Periodic
else:
    defer = later("twisted.internet.defer")
    failures = later("twisted.python.failure")


class Tasks(Part):
    """The periodic tasks of a process: they start in the order given, and drain all at once."""

    def __init__(self, *tasks: Periodic) -> None:
        super().__init__("tasks")
        self._tasks = {task.label: task for task in tasks}
        if len(self._tasks) < len(tasks):
            raise ValueError(f"two tasks have one name: {', '.join(task.label for task in tasks)}")

    def __getitem__(self, name: str) -> Periodic:
        return self._tasks[name]

    def __iter__(self) -> Iterator[Periodic]:
        return iter(self._tasks.values())

    async def start(self) -> None:
        """Start every task."""
        for task in self:
            await task.start()

    async def drain(self) -> None:
        """Return when no task runs any more, and none will."""
        waits = [defer.Deferred.fromCoroutine(task.drain()) for task in self]
        for _, result in await defer.DeferredList(waits, consumeErrors=True):
            if isinstance(result, failures.Failure):
                result.raiseException()

    async def stop(self) -> None:
        """Cancel what still runs."""
        for task in self:
            await task.stop()

    def problems(self) -> list[str]:
        """Say what is wrong with the critical tasks."""
        return [problem for task in self for problem in task.problems()]

    def tasks(self) -> list[PeriodicTask]:
        """Return every task."""
        return list(self)

    def workers(self) -> list[WorkerThread]:
        """Return the tasks' own threads."""
        return [worker for task in self for worker in task.workers()]

    def metrics(self) -> Iterator[Metric]:
        """Return the figures of every task."""
        for task in self:
            yield from task.metrics()
