"""Where every thread is right now."""

from __future__ import annotations

import sys
import threading
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType


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


def stack_of(thread: threading.Thread) -> list[str]:
    """Return where a thread is, as lines, outermost call first; nothing when it has ended."""
    frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001  the documented way
    return frames_of(frame) if frame else []


def imported_as(file: str) -> str:
    """Return the file without the folder of `sys.path` that it is in: a pex's is wider than a terminal."""
    return min((file.removeprefix(f"{each}/") for each in sys.path if each), key=len, default=file)
