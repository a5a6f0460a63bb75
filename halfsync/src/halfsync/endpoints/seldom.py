"""Log lines that clients cause: each kind at most once a second, with how many were left out."""

from __future__ import annotations

from typing import Any

from halfsync.logs import get_logger

log = get_logger(__name__)

INTERVAL = 1.0
"""Seconds between two lines of one event."""


class Seldom:
    """Events of one port."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._last: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def warning(self, event: str, **fields: Any) -> None:
        """Log an event; one that follows too soon is counted, and the next one tells how many there were.

        :param event: one of a few names, as there is a counter for each.
        """
        now = self._reactor.seconds()
        if now - self._last.get(event, -INTERVAL) < INTERVAL:
            self._left_out[event] = self._left_out.get(event, 0) + 1
            return
        self._last[event] = now
        if left_out := self._left_out.pop(event, 0):
            fields["left_out"] = left_out
        log.warning(event, **fields)
