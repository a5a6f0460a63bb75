"""Where every thread, request and task is right now, into the log."""

from __future__ import annotations

from contextvars import Context
from dataclasses import asdict
from typing import TYPE_CHECKING

from halfsync.life.stacks import thread_stacks
from halfsync.logs import get_asked_logger

if TYPE_CHECKING:
    from types import FrameType

    from halfsync.life.process import Process

# Who sends SIGUSR1 wants to see it, also with --log.level=error.
log = get_asked_logger(__name__)

MOST = 10
"""Requests, tasks and calls that one event names of each; the oldest ones."""


class Dumps:
    """What SIGUSR1 asks for, as often as it comes."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._dumping = self._again = False

    def dump(self, interrupted: FrameType | None) -> None:
        """Log where everything is; one that comes into the middle of another makes that one more."""
        if self._dumping:
            # The stack of the dump that it has interrupted is of no interest.
            self._again = True
            return
        self._dumping = self._again = True
        try:
            while self._again:
                self._again = False
                # What the interrupted code has in its context is none of this.
                Context().run(dump, self._process, interrupted)
        except Exception:
            # The code that the signal has interrupted has no part in it.
            log.exception("stacks.failed")
        finally:
            self._dumping = False


def dump(process: Process, interrupted: FrameType | None = None) -> None:
    """Log every thread's stack, every request in flight and every task.

    For the reactor's thread, and for a signal handler that has interrupted it: a stuck reactor is seen, too.
    """
    workers = process.workers()
    for thread in thread_stacks(interrupted):
        worker = workers.get(thread.ident)
        holds = worker.label if worker else None
        log.info("stacks.thread", thread=thread.name, ident=thread.ident, holds=holds, stack=thread.frames)
    now = process.reactor.seconds()
    for request in process.requests():
        fields = asdict(request)
        log.info("stacks.request", age=round(now - fields.pop("since"), 3), **fields)
    for name, task in process.tasks().items():
        log.info("stacks.task", task=name, **task.snapshot())


def work(process: Process) -> dict[str, list[str]]:
    """Return what goes on in a process, for one event of the log: requests, tasks, calls in threads."""
    now = process.reactor.seconds()
    requests = sorted(process.requests(), key=lambda each: each.since)
    calls = sorted(
        (each for each in process.workers().values() if each.label), key=lambda each: each.since or 0
    )
    return {
        "requests": [f"{each.method} {each.path} ({now - each.since:.1f} s)" for each in requests[:MOST]],
        "tasks": [name for name, task in process.tasks().items() if task.busy][:MOST],
        "calls": [f"{each.thread}: {each.label}" for each in calls[:MOST]],
    }
