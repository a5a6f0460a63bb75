"""Where every thread, request and task is right now: for SIGUSR1, the admin interface and the manhole."""

from __future__ import annotations

import sys
import threading
import traceback
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from halfsync.logs import get_logger
from halfsync.tasks import Tasks
from halfsync.workers import WorkerPool

if TYPE_CHECKING:
    from types import FrameType

    from halfsync.http.site import InFlight
    from halfsync.life.parts import Process
    from halfsync.workers import Holder

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ThreadStack:
    """A thread and what it is at."""

    name: str
    ident: int
    daemon: bool
    frames: list[str]
    """`file:line function: code`, outermost call first; files as they are imported, without the folder."""


def thread_stacks() -> list[ThreadStack]:
    """Return every thread's stack as of now, the main thread's first; for any thread."""
    frames = sys._current_frames()  # noqa: SLF001  the documented way
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


def holders(process: Process) -> dict[int, Holder]:
    """Return what holds each worker thread, by the thread's identifier."""
    pools = [part for part in process if isinstance(part, WorkerPool)]
    return {holder.ident: holder for pool in pools for holder in pool.holders()}


def requests(process: Process) -> list[InFlight]:
    """Return the requests in flight on every listener that knows its own."""
    factories = [getattr(part, "factory", None) for part in process]
    return [request for each in factories for request in getattr(each, "in_flight", list)()]


def tasks(process: Process) -> Tasks:
    """Return the periodic tasks of a process; none when it has no such part."""
    return next((part for part in process if isinstance(part, Tasks)), Tasks())


def dump(process: Process) -> None:
    """Log every thread's stack, every request in flight and every task; for the reactor's thread."""
    held = holders(process)
    for thread in thread_stacks():
        holder = held.get(thread.ident)
        holds = holder.label if holder else None
        log.info("stacks.thread", thread=thread.name, ident=thread.ident, holds=holds, stack=thread.frames)
    now = process.reactor.seconds()
    for request in requests(process):
        fields = asdict(request)
        log.info("stacks.request", age=round(now - fields.pop("since"), 3), **fields)
    for task in tasks(process):
        log.info("stacks.task", task=task.label, **task.snapshot())
