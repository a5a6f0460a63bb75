"""How loud the log is: one level for all, others for single loggers, each for a time if need be.

The levels are those of the `logging` tree, whoever speaks:
a logger without one has that of the nearest name above, `hello_service.tasks` that of `hello_service`.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

LEVELS = ("debug", "info", "warning", "error")


@dataclass(slots=True)
class _Temporary:
    before: int
    revert: IDelayedCall


_temporary: dict[str, _Temporary] = {}
"""Levels that return to what they were, by the logger's name."""


def set_level(
    level: str, logger: str | None = None, duration: float | None = None, reactor: Any = None
) -> None:
    """Set the level of everything, or of one logger and those below it; for the reactor's thread.

    :param level: debug, info, warning or error.
    :param logger: its name, `hello_service.tasks`; None for everything that has no level of its own.
    :param duration: seconds after which the level is what it was before the first change with a duration.
    :param reactor: what counts the seconds.
    :raises ValueError: in one line, what would be right.
    """
    if level not in LEVELS:
        raise ValueError(f"level: {level!r} is none of {', '.join(LEVELS)}")
    if duration is not None and not (math.isfinite(duration) and duration > 0):
        raise ValueError(f"duration: {duration:g} is no number of seconds above 0")
    name = logger or ""
    before = logging.getLogger(name).level
    if name in _temporary:
        temporary = _temporary.pop(name)
        temporary.revert.cancel()
        before = temporary.before
    if duration is not None:
        _temporary[name] = _Temporary(before, reactor.callLater(duration, _revert, name))
    logging.getLogger(name).setLevel(level.upper())


def _revert(name: str) -> None:
    logging.getLogger(name).setLevel(_temporary.pop(name).before)


def level(logger: str | None = None) -> str:
    """Return the level of a logger, its own or that of a name above it; that of everything for None."""
    number = logging.getLogger(logger or "").getEffectiveLevel()
    return logging.getLevelName(number).lower()


def levels() -> dict[str, Any]:
    """Return the level of everything, and those of the loggers that have their own.

    `reverts_at` is on the clock of the reactor that was given to `set_level`; None for a level that stays.
    """
    known = list(logging.root.manager.loggerDict.items())
    own = sorted(name for name, logger in known if getattr(logger, "level", logging.NOTSET))
    states = {name: {"level": level(name), "reverts_at": _reverts_at(name)} for name in own}
    return {"level": level(), "reverts_at": _reverts_at(""), "loggers": states}


def _reverts_at(name: str) -> float | None:
    return _temporary[name].revert.getTime() if name in _temporary else None
