"""Where every thread, request and task is right now: for SIGUSR1, the admin interface and the manhole."""

from __future__ import annotations

import sys
import threading
import traceback
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from halfsync.logs import get_logger

if TYPE_CHECKING:
    from types import FrameType

    from halfsync.life.parts import Process

log = get_logger(__name__)

MOST = 10
"""Requests, tasks and calls that one event names of each; the oldest ones."""


@dataclass(frozen=True, slots=True)
class ThreadStack:
    """A thread and what it is at."""

    name: str
    ident: int
    daemon: bool
    frames: list[str]
    """`file:line function: code`, outermost call first; files as they are imported, without the folder."""


def thread_stacks(interrupted: FrameType | None = None) -> list[ThreadStack]:
    """Return every thread's stack as of now, the main thread's first; for any thread.

    :param interrupted: the frame that the calling thread was in when a signal came.
    """
    frames = sys._current_frames()  # noqa: SLF001  the documented way
    if interrupted is not None:
        frames[threading.get_ident()] = interrupted
    threads = sorted(threading.enumerate(), key=lambda thread: thread is not threading.main_thread())
    return [
        ThreadStack(thread.name, thread.ident, thread.daemon, frames_of(frames[thread.ident]))
        for thread in threads
        if thread.ident in frames
    ]


def frames_of(frame: FrameType) -> list[str]:
    """Return a stack as lines, outermost call first."""
    return [
        f"{imported_as(each.filename)}:{each.lineno} {each.name}: {each.line}"
        for each in traceback.extract_stack(frame)
    ]


def imported_as(file: str) -> str:
    """Return the file without the folder of `sys.path` that it is in: a pex's is wider than a terminal."""
    return min((file.removeprefix(f"{each}/") for each in sys.path if each), key=len, default=file)


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
