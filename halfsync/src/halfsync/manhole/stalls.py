"""Reactor stalls: how long the reactor did not answer, and what it ran meanwhile.

It is watched only while the manhole is open: an idle service does not wake up for it four times a second.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from halfsync.life.stacks import frames_of
from halfsync.logs import get_logger

log = get_logger(__name__)

INTERVAL = 0.25
"""Seconds from one look to the next; each wakes the reactor. All of it takes 0.2 % of a core."""

THRESHOLD = 0.25
"""Seconds without an answer that are a stall. One twice as long is always seen, a shorter one by chance."""


@dataclass(frozen=True, slots=True)
class Stall:
    """One stall."""

    at: float
    """When it was noticed, in seconds since the epoch."""
    seconds: float
    """How long the reactor did not answer, from the look that found it so."""
    frames: list[str]
    """What it was at when it had been silent for the threshold; outermost call first."""


class Stalls:
    """A thread that asks the reactor for a sign of life, and looks at its stack when there is none."""

    def __init__(self, reactor: Any, *, interval: float = INTERVAL, threshold: float = THRESHOLD) -> None:
        self.seen: deque[Stall] = deque(maxlen=20)
        self._reactor = reactor
        self._interval = interval
        self._threshold = threshold
        self._over = threading.Event()

    def start(self) -> None:
        """Begin to watch the calling thread, which must be the reactor's."""
        threading.Thread(
            target=self._watch, args=(threading.get_ident(),), name="stalls", daemon=True
        ).start()

    def stop(self) -> None:
        """End the thread, soon."""
        self._over.set()

    def _watch(self, ident: int) -> None:
        while not self._over.wait(self._interval):
            answered = threading.Event()
            asked = time.monotonic()
            self._reactor.callFromThread(answered.set)
            if answered.wait(self._threshold):
                continue
            at = time.time()
            frame = sys._current_frames().get(ident)  # noqa: SLF001  the documented way
            frames = frames_of(frame) if frame else []
            del frame
            while not answered.wait(self._interval) and not self._over.is_set():
                pass
            stall = Stall(at, time.monotonic() - asked, frames)
            self.seen.append(stall)
            log.warning("reactor.stalled", seconds=round(stall.seconds, 3), stack=frames)
