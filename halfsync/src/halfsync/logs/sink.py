"""Where finished lines go: a file descriptor that a thread of its own writes to."""

from __future__ import annotations

import os
import select
import threading
import time
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PENDING = 10_000
"""Lines that may wait; what comes on top is counted and lost."""

PAUSE = 0.01
"""Seconds between two writes, in which lines gather.

Each write costs the other threads the interpreter for a moment; a busy service makes a hundred a second
instead of one a request.
"""


class Sink:
    """Lines on their way to a file descriptor.

    `write` never waits and never raises, from any thread or signal handler: a reader that does not read,
    a full disk or a closed pipe costs lines, and never a request.
    """

    def __init__(self, descriptor: int, on_loss: Callable[[int], None] = lambda _lines: None) -> None:
        """Write to a file descriptor; `on_loss` hears how many lines were lost, once writing works again."""
        self.descriptor = descriptor
        self.lost = 0
        """Lines lost since the start."""
        self._on_loss = on_loss
        self._torn = False
        self._begin()
        # A fork copies no threads.
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._queue: SimpleQueue[str | threading.Event] = SimpleQueue()
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def write(self, line: str) -> None:
        """Put one line, which ends in a newline, on its way."""
        if self._queue.qsize() >= PENDING:
            self.lost += 1
            return
        self._queue.put(line)

    def flush(self, timeout: float) -> bool:
        """Wait until everything written so far is out, for at most `timeout` seconds; say whether it is."""
        done = threading.Event()
        self._queue.put(done)
        return done.wait(timeout)

    def replace(self, descriptor: int) -> None:
        """Go on in another open file, which is taken over; no line is torn."""
        os.dup2(descriptor, self.descriptor)
        os.close(descriptor)

    def _run(self) -> None:
        told = 0
        while True:
            lines, waiting = self._gather()
            lost = self._write("".join(lines))
            self.lost += lost
            if not lost and self.lost != told:
                self._on_loss(self.lost - told)
                told = self.lost
            for done in waiting:
                done.set()
            if not waiting:
                time.sleep(PAUSE)

    def _gather(self) -> tuple[list[str], list[threading.Event]]:
        """Wait for a line, and take whatever else has come by then."""
        lines: list[str] = []
        waiting: list[threading.Event] = []
        item = self._queue.get()
        try:
            while True:
                if isinstance(item, str):
                    lines.append(item)
                else:
                    waiting.append(item)
                item = self._queue.get_nowait()
        except Empty:
            return lines, waiting

    def _write(self, text: str) -> int:
        """Write all of it; return how many lines of it the world did not take."""
        rest = memoryview(text.encode("utf-8", "backslashreplace"))
        try:
            if rest and self._torn:
                # What came before ended in the middle of a line, when the disk was full.
                os.write(self.descriptor, b"\n")
                self._torn = False
            while rest:
                try:
                    written = os.write(self.descriptor, rest)
                except BlockingIOError:
                    # Whoever shares the pipe or the terminal with us may have made it non-blocking.
                    writable = select.poll()
                    writable.register(self.descriptor, select.POLLOUT)
                    writable.poll()
                    continue
                rest = rest[written:]
                self._torn = bool(rest)
        except OSError:
            return bytes(rest).count(b"\n")
        return 0
