"""A sampling profiler of all threads, for a process that was not prepared for it."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from halfsync.life.stacks import imported_as

if TYPE_CHECKING:
    from types import CodeType, FrameType

EVERY = 0.01
"""Seconds from one sample to the next. With 20 threads of 30 calls each, a sample takes about 0.15 ms."""

SWITCH = 0.0005
"""Seconds after which a busy thread yields to the sampler.

With Python's own 5 ms, a thread that works in shorter bursts is met only where it waits anyway.
"""

LEAST = 0.02
"""The part of the samples below which a call is not shown."""

WAITING = {
    ("epollreactor.py", "doPoll"),
    ("selectors.py", "select"),
    ("threading.py", "wait"),
    ("queue.py", "get"),
    ("workers.py", "_work"),
    ("sink.py", "_gather"),
    ("sink.py", "_run"),
}
"""(file, function) that a thread without work sits in."""


class _Node:
    __slots__ = ("calls", "samples")

    def __init__(self) -> None:
        self.samples = 0
        self.calls: dict[CodeType, _Node] = {}


class Profiler:
    """Takes one profile at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def profile(self, seconds: float, *, waiting: bool = False) -> str:
        """Look at every thread's stack for so long, and return a tree for each with the share of its calls.

        It blocks: run it in a thread.
        :param waiting: count a thread also while it has nothing to do.
        :raises RuntimeError: when another profile is being taken.
        """
        if not self._lock.acquire(blocking=False):
            raise RuntimeError("another profile is being taken")
        before = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH)
        try:
            return _profile(seconds, waiting=waiting)
        finally:
            sys.setswitchinterval(before)
            self._lock.release()


def _profile(seconds: float, *, waiting: bool) -> str:
    own = threading.get_ident()
    threads: dict[int, _Node] = {}
    samples = 0
    ends = time.monotonic() + seconds
    while not samples or time.monotonic() < ends:
        samples += 1
        for ident, frame in sys._current_frames().items():  # noqa: SLF001  the documented way
            if ident != own and (waiting or not _waits(frame)):
                _add(threads.setdefault(ident, _Node()), frame)
        time.sleep(EVERY)
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    lines = [f"{samples} samples in {seconds:g} s"]
    for ident, node in sorted(threads.items(), key=lambda item: -item[1].samples):
        name = names.get(ident, "a thread that has ended")
        lines.append(f"{name}: in {node.samples / samples:.0%} of them")
        lines += _tree(node, samples)
    return "\n".join(lines if threads else [*lines, "no thread had anything to do"])


def _waits(frame: FrameType) -> bool:
    return (Path(frame.f_code.co_filename).name, frame.f_code.co_name) in WAITING


def _add(node: _Node, innermost: FrameType) -> None:
    codes = []
    frame: FrameType | None = innermost
    while frame:
        codes.append(frame.f_code)
        frame = frame.f_back
    node.samples += 1
    for code in reversed(codes):
        node = node.calls.setdefault(code, _Node())
        node.samples += 1


def _tree(node: _Node, samples: int, depth: int = 0) -> list[str]:
    lines = []
    for code, call in sorted(node.calls.items(), key=lambda item: -item[1].samples):
        if call.samples >= LEAST * samples:
            place = f"{imported_as(code.co_filename)}:{code.co_firstlineno}"
            lines.append(f"{call.samples / samples:7.1%} {' ' * depth}{code.co_qualname}  {place}")
            lines += _tree(call, samples, depth + 1)
    return lines
