"""Where finished lines go: a file descriptor that a thread of its own writes to."""

from __future__ import annotations

import os
import select
import threading
import time
from dataclasses import dataclass
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

BUSY = 100
BUSY_PAUSE = 0.05
"""The same after a write of more lines than that: the access log of a busy service costs a third less so."""

RETRY = 1.0
"""Seconds after which lines that must not be lost are tried again."""


@dataclass(frozen=True, slots=True)
class _AuditLine:
    """A line that waits until it is written."""

    text: str


@dataclass(frozen=True, slots=True)
class _Waiter:
    """A call to make once everything before it has been written, or, unless it is strict, has been tried."""

    call: Callable[[], object]
    strict: bool


_Item = str | _AuditLine | _Waiter


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
        self._begin()
        # A fork copies no threads.
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._queue: SimpleQueue[_Item] = SimpleQueue()
        self._owed: list[_AuditLine] = []
        """Lines that could not be written, and must be."""
        self._in_hand = 0
        """Lines that are being written."""
        self._torn = False
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def write(self, line: str) -> None:
        """Put one line, which ends in a newline, on its way."""
        if self._queue.qsize() >= PENDING:
            self.lost += 1
            return
        self._queue.put(line)

    def write_audit(self, line: str) -> None:
        """Put a line on its way that is kept until it is written; `when_written` tells when that is."""
        self._queue.put(_AuditLine(line))

    def when_written(self, call: Callable[[], object]) -> None:
        """Make a call, in the log's own thread, when every audit line up to now has been written."""
        self._queue.put(_Waiter(call, strict=True))

    @property
    def behind(self) -> int:
        """How many lines wait."""
        return self._queue.qsize() + self._in_hand

    def flush(self, timeout: float) -> bool:
        """Wait until everything up to now was tried, for at most `timeout` seconds; say whether it was."""
        done = threading.Event()
        self._queue.put(_Waiter(done.set, strict=False))
        return done.wait(timeout)

    def replace(self, descriptor: int) -> None:
        """Go on in another open file, which is taken over; no line is torn."""
        os.dup2(descriptor, self.descriptor)
        os.close(descriptor)

    def _run(self) -> None:
        told = 0
        patient: list[_Waiter] = []
        while True:
            lines, waiters = self._gather()
            self._in_hand = len(lines)
            lost = self._write(lines)
            self._in_hand = len(self._owed)
            self.lost += lost
            if not lost and self.lost != told:
                self._on_loss(self.lost - told)
                told = self.lost
            patient += [each for each in waiters if each.strict]
            ready = [each for each in waiters if not each.strict]
            if not self._owed:
                ready += patient
                patient = []
            for each in ready:
                each.call()
            if not ready:
                time.sleep(PAUSE if len(lines) <= BUSY else BUSY_PAUSE)

    def _gather(self) -> tuple[list[str | _AuditLine], list[_Waiter]]:
        """Wait for a line, and take whatever else has come by then."""
        lines: list[str | _AuditLine] = list(self._owed)
        waiters: list[_Waiter] = []
        try:
            items = [self._queue.get(timeout=RETRY if lines else None)]
        except Empty:
            return lines, waiters
        # This thread alone takes from the queue.
        items += [self._queue.get_nowait() for _ in range(self._queue.qsize())]
        for item in items:
            if isinstance(item, _Waiter):
                waiters.append(item)
            else:
                lines.append(item)
        return lines, waiters

    def _write(self, lines: list[str | _AuditLine]) -> int:
        """Write all of them; return how many could not be and are lost. Audit lines among those are owed."""
        self._owed = []
        texts = [each if isinstance(each, str) else each.text for each in lines]
        written = self._write_bytes(_encoded("".join(texts)))
        if written is None:
            return 0
        end = 0
        lost = 0
        for line, text in zip(lines, texts, strict=True):
            end += len(_encoded(text))
            if end <= written:
                continue
            if isinstance(line, _AuditLine):
                self._owed.append(line)
            else:
                lost += 1
        return lost

    def _write_bytes(self, data: bytes) -> int | None:
        """Write; return how many bytes were when it fails, else None."""
        rest = memoryview(data)
        try:
            if rest and self._torn:
                # What came before ended in the middle of a line, when the disk was full.
                os.write(self.descriptor, b"\n")
                self._torn = False
            while rest:
                try:
                    written = os.write(self.descriptor, rest)
                except BlockingIOError:
                    # Another process that shares the pipe or the terminal may have made it non-blocking.
                    writable = select.poll()
                    writable.register(self.descriptor, select.POLLOUT)
                    writable.poll()
                    continue
                rest = rest[written:]
                self._torn = bool(rest)
        except OSError:
            return len(data) - len(rest)
        return None


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
