"""Everyone who logs without knowing us: `logging`, Twisted, `warnings`, `print`, threads that die."""

from __future__ import annotations

import logging
import re
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any, TextIO

from twisted.logger import ILogObserver, Logger, LoggingFile, LogLevel, formatEvent, globalLogBeginner
from zope.interface import provider

from .hub import NUMBERS, put
from .render import text_of

if TYPE_CHECKING:
    from twisted.logger import LogEvent

_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_LEVELS = {
    LogLevel.debug: "debug",
    LogLevel.info: "info",
    LogLevel.warn: "warning",
    LogLevel.error: "error",
    # Twisted calls any exception that reached its loop critical.
    LogLevel.critical: "error",
}

_NOISE = re.compile(
    r"Starting factory |Stopping factory |\S+ starting on |\(.*Port .*Closed\)|Main loop term"
)
"""What Twisted says in the name of other classes (`protocol.Factory.doStart`), or of none."""

_ANNOUNCEMENT = "Unhandled error in Deferred:"
_UNNAMED = {"twisted.internet.defer": "deferred.unhandled"}
"""Twisted announces such an error in one event, and tells it in the next, which has no text."""


def redirect(*, prints: bool) -> None:
    """Bring every source in, once for all; what Twisted said before comes now.

    :param prints: whether what is printed becomes events too, so that it cannot tear a line of the log.
    """
    _silence_other_streams()
    logging.getLogger().addHandler(_FromLogging())
    globalLogBeginner.beginLoggingTo([_from_twisted], redirectStandardIO=False)
    warnings.showwarning = _from_warnings
    threading.excepthook = _from_thread
    sys.unraisablehook = _from_unraisable
    if prints:
        sys.stdout = LoggingFile(Logger("stdout"), LogLevel.info)


def _silence_other_streams() -> None:
    # Flask gives its logger a handler of its own when it is used before the log has started,
    # and each of its lines would come twice.
    for name in ("", *logging.root.manager.loggerDict):
        logger = logging.getLogger(name)
        for handler in list(logger.handlers):
            if type(handler) is logging.StreamHandler:
                logger.removeHandler(handler)


class _FromLogging(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; its `extra` are fields."""
        try:
            event = record.getMessage()
        except Exception:  # noqa: BLE001  someone's format does not fit its arguments
            event = f"{record.msg} {text_of(record.args)}"
        fields = {key: value for key, value in vars(record).items() if key not in _RECORD}
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        if record.stack_info:
            fields["stack"] = record.stack_info
        put(_name_of(record.levelno), record.name, event, fields)


def _name_of(number: int) -> str:
    return next((name for name, least in reversed(NUMBERS.items()) if number >= least), "debug")


@provider(ILogObserver)
def _from_twisted(event: LogEvent) -> None:
    namespace = event.get("log_namespace") or "twisted"
    level = _LEVELS.get(event.get("log_level"), "info")
    failure = event.get("log_failure") or (event.get("failure") if event.get("isError") else None)
    if event.get("log_format") == _ANNOUNCEMENT:
        return
    if level == "info" and not failure and namespace.startswith("twisted."):
        level = "debug"
    logger = logging.getLogger(namespace)
    if not logger.isEnabledFor(NUMBERS[level]):
        return
    # An old-style error's text is its traceback, which stands in a field of its own here.
    text = formatEvent(event) if failure is event.get("log_failure") else str(event.get("why") or "")
    if level == "info" and _NOISE.match(text):
        level = "debug"
        if not logger.isEnabledFor(logging.DEBUG):
            return
    put(
        level,
        namespace,
        text or _UNNAMED.get(namespace, "twisted.failed"),
        {"failure": failure} if failure else {},
    )


def _from_warnings(  # noqa: PLR0917  the signature of `warnings.showwarning`
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if file is not None:
        file.write(warnings.formatwarning(message, category, filename, lineno, line))
        return
    fields: dict[str, Any] = {"category": category.__name__, "message": str(message)}
    _put("warning", "warnings", "python.warning", {**fields, "where": f"{filename}:{lineno}"})


def _from_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is SystemExit:
        return
    fields = {"thread": args.thread.name if args.thread else None, "exc_info": args[:3]}
    _put("error", "threading", "thread.failed", fields)


def _from_unraisable(args: sys.UnraisableHookArgs) -> None:
    # Only the text of the object: keeping hold of it would resurrect it.
    fields = {"object": text_of(args.object), "message": args.err_msg, "exc_info": args.exc_value}
    _put("error", "python", "python.unraisable", fields)


def _put(level: str, name: str, event: str, fields: dict[str, Any]) -> None:
    if logging.getLogger(name).isEnabledFor(NUMBERS[level]):
        put(level, name, event, fields)
