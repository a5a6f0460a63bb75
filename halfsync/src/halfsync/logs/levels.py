"""Levels of the log: one for everything, others for single loggers, each for a time if need be.

The levels are those of the `logging` tree:
a logger without one has that of the nearest name above, `hello_service.tasks` that of `hello_service`.
"""

from __future__ import annotations

import logging
import math
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from halfsync import flags

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

LEVELS = ("debug", "info", "warning", "error")


@dataclass(slots=True)
class _Temporary:
    before: int
    level: int
    revert: IDelayedCall


class LogLevels:
    """Sets levels, and sets temporary ones back; each process has one. For the reactor's thread."""

    def __init__(self, reactor: Any) -> None:
        """Take the reactor that counts the seconds."""
        self._reactor = reactor
        self._temporary: dict[str, _Temporary] = {}
        """Levels that return to what they were, by the logger's name."""

    def set(
        self, level: str, logger: str | None = None, duration: float | None = None, source: str = "live"
    ) -> None:
        """Set the level of everything, or of one logger and those below it.

        A level of everything that stays is the value of the flag `log.level` from then on.

        :param level: debug, info, warning or error.
        :param logger: its name, `hello_service.tasks`; None for everything that has no level of its own.
        :param duration: seconds after which the level is what it was before the first change with a duration.
        :param source: who sets it, as the flag shows it.
        :raises ValueError: in one line, what would be right.
        """
        if level not in LEVELS:
            raise ValueError(f"level: {level!r} is none of {', '.join(LEVELS)}")
        if duration is not None and not (math.isfinite(duration) and duration > 0):
            raise ValueError(f"duration: {duration:g} is no number of seconds above 0")
        name = logger or ""
        before = logging.getLogger(name).level
        if name in self._temporary:
            holds = self._holds(name)
            temporary = self._temporary.pop(name)
            temporary.revert.cancel()
            before = temporary.before if holds else before
        logging.getLogger(name).setLevel(level.upper())
        if duration is not None:
            revert = self._reactor.callLater(duration, self._revert, name)
            self._temporary[name] = _Temporary(before, logging.getLogger(name).level, revert)
        elif not name:
            # A program that has parsed none has no flag that could say another level than there is.
            with suppress(flags.FlagError):
                flags.set_live("log.level", level, source)

    def _revert(self, name: str) -> None:
        holds = self._holds(name)
        temporary = self._temporary.pop(name)
        if holds:
            logging.getLogger(name).setLevel(temporary.before)

    def _holds(self, name: str) -> bool:
        """Say whether a logger has its temporary level; the flag may have given it another since."""
        return name in self._temporary and self._temporary[name].level == logging.getLogger(name).level

    def state(self) -> dict[str, Any]:
        """Return the level of everything, and those of the loggers that have their own.

        `reverts_at` is on the reactor's clock; None for a level that stays.
        """
        known = list(logging.root.manager.loggerDict.items())
        # A PlaceHolder, which stands for a name between two loggers, has no level.
        own = sorted(name for name, logger in known if getattr(logger, "level", logging.NOTSET))
        states = {name: {"level": level(name), "reverts_at": self._reverts_at(name)} for name in own}
        return {"level": level(), "reverts_at": self._reverts_at(""), "loggers": states}

    def _reverts_at(self, name: str) -> float | None:
        return self._temporary[name].revert.getTime() if self._holds(name) else None


def level(logger: str | None = None) -> str:
    """Return the level of a logger, its own or that of a name above it; that of everything for None."""
    number = logging.getLogger(logger or "").getEffectiveLevel()
    return logging.getLevelName(number).lower()
