"""Everyone who logs without knowing us: `logging`, Twisted, `warnings`, `print`, threads that die."""

from __future__ import annotations

import logging
import re
import reprlib
import sys
import threading
from typing import TYPE_CHECKING

from structlog.stdlib import ExtraAdder
from twisted.logger import ILogObserver, Logger, LoggingFile, LogLevel, formatEvent, globalLogBeginner
from zope.interface import provider

from halfsync.logs.events import say

if TYPE_CHECKING:
    from twisted.logger import LogEvent

# Twisted calls any exception that reached its loop critical.
_LEVELS = {LogLevel.warn: "warning", LogLevel.critical: "error"}

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
    # After Twisted, which takes warnings for its own.
    logging.captureWarnings(capture=True)
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
    _add_extra = ExtraAdder()

    def emit(self, record: logging.LogRecord) -> None:
        """Say a record again; its `extra` are fields."""
        fields = self._add_extra(logging.root, "", {"_record": record})
        del fields["_record"]
        fields["exc_info"] = record.exc_info
        if record.stack_info:
            fields["stack"] = record.stack_info
        if record.args:
            fields["positional_args"] = record.args if isinstance(record.args, tuple) else (record.args,)
        # Levels may lie between those that have a name.
        named = min(max(record.levelno // 10, 1), 5) * 10
        say(record.name, fields).log(named, str(record.msg))


@provider(ILogObserver)
def _from_twisted(event: LogEvent) -> None:
    if event.get("log_format") == _ANNOUNCEMENT:
        return
    name = event.get("log_namespace") or "twisted"
    failure, text = event.get("log_failure"), formatEvent(event)
    if failure is None and event.get("isError"):
        # Of an old-style error, the text is its traceback.
        failure, text = event.get("failure"), str(event.get("why") or "")
    level = event.get("log_level") or LogLevel.info
    if level is LogLevel.info and not failure and (name.startswith("twisted.") or _NOISE.match(text)):
        level = LogLevel.debug
    logger = say(name, {"failure": failure} if failure else {})
    getattr(logger, _LEVELS.get(level, level.name))(text or _UNNAMED.get(name, "twisted.failed"))


def _from_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is not SystemExit:
        name = args.thread.name if args.thread else None
        say("threading", {"thread": name, "exc_info": args[:3]}).error("thread.failed")


def _from_unraisable(args: sys.UnraisableHookArgs) -> None:
    # Only the text of the object: keeping hold of it would resurrect it.
    fields = {"object": reprlib.repr(args.object), "message": args.err_msg, "exc_info": args.exc_value}
    say("python", fields).error("python.unraisable")
