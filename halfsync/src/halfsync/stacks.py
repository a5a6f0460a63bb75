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


def dump(process: Process) -> None:
    """Log every thread's stack, every request in flight and every task; for the reactor's thread."""
    workers = process.workers()
    for thread in thread_stacks():
        worker = workers.get(thread.ident)
        holds = worker.label if worker else None
        log.info("stacks.thread", thread=thread.name, ident=thread.ident, holds=holds, stack=thread.frames)
    now = process.reactor.seconds()
    for request in process.requests():
        fields = asdict(request)
        log.info("stacks.request", age=round(now - fields.pop("since"), 3), **fields)
    for name, task in process.tasks().items():
        log.info("stacks.task", task=name, **task.snapshot())
