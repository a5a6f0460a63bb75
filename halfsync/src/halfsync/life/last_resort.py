"""The end of a process that does not end by itself: a thread or the reactor is stuck."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from halfsync import logs
from halfsync.life.signals import FORCED
from halfsync.life.stacks import stack_of
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from halfsync.life.process import Process

log = get_logger(__name__)

PATIENCE = 2.0
"""Seconds that a forced stop may take before the process ends without it; and that any stop may take."""


class LastResort:
    """Ends the process from a thread of its own."""

    def __init__(self, process: Process) -> None:
        self.exit_code: int | None = None
        """What the log has as exit code; nothing that comes later changes it. None while it has none."""
        self.forced = False
        """Whether the log says that the process is forced to end."""
        self._process = process

    @property
    def ended(self) -> bool:
        """Whether the life of the process is over, and the log has its exit code; may be read anywhere."""
        return self.exit_code is not None

    def arm(self) -> None:
        """End the process in a moment, when it has not ended by then."""
        timer = threading.Timer(PATIENCE, self.end)
        timer.daemon = True
        timer.start()

    def end(self) -> None:
        """End the process now, and say what was in the way; in any thread."""
        if not self.ended and not self.forced:
            log.warning(
                "service.forced",
                reason="a second signal came, and the reactor is stuck",
                unfinished=self._process.unfinished(),
                stack=stack_of(threading.main_thread()),
            )
        if threads := left_behind():
            log.warning("service.threads_left", threads=threads)
        logs.flush()
        os._exit(FORCED if self.exit_code is None else self.exit_code)


def left_behind() -> list[str]:
    """Name the threads for which the interpreter would wait."""
    main = threading.main_thread()
    return [thread.name for thread in threading.enumerate() if thread is not main and not thread.daemon]
