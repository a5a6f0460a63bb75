"""Loggers by name: what a module makes of itself at its import, long before there is anything to log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal, cast

from halfsync._later import later

if TYPE_CHECKING:
    from structlog.stdlib import BoundLogger

    from halfsync.logs import events
else:
    events = later("halfsync.logs.events")


Kind = Literal["plain", "asked", "audit"]


def get_logger(name: str) -> BoundLogger:
    """Return the logger of that name; a module's is that of its `__name__`."""
    # The name is known from now on: a level can be set for it.
    logging.getLogger(name)
    return cast("BoundLogger", _Named(name, "plain"))


def get_asked_logger(name: str) -> BoundLogger:
    """Return a logger whose events pass every level: they are there only because somebody asks for them."""
    return cast("BoundLogger", _Named(name, "asked"))


def get_audit_logger(name: str) -> BoundLogger:
    """Return a logger whose events pass every level and are never dropped for want of room.

    They are for what people do to the process: each names the person, and there are few.
    """
    return cast("BoundLogger", _Named(name, "audit"))


class _Named:
    """A logger that is made with its first event: structlog takes a tenth of a second to import."""

    def __init__(self, name: str, kind: Kind) -> None:
        self._name = name
        self._kind: Kind = kind
        self._made: BoundLogger | None = None

    def __getattr__(self, name: str) -> Any:
        if self._made is None:
            self._made = events.make_logger(self._name, self._kind)
        return getattr(self._made, name)

    def __repr__(self) -> str:
        return f"<logger {self._name}>"
