"""Conch's own log: each step of each connection, which beside the manhole's events is noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import ILogObserver, Logger, LogLevel, globalLogPublisher
from zope.interface import implementer

if TYPE_CHECKING:
    from twisted.logger import LogEvent


@implementer(ILogObserver)
def _warnings_only(event: LogEvent) -> None:
    if event["log_level"] >= LogLevel.warn:
        globalLogPublisher(event)


conch_log = Logger(namespace="twisted.conch", observer=_warnings_only)
"""Takes the place of `_log` in the classes of conch that are extended here."""
