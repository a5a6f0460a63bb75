"""Sources that do not know structlog: `logging`, Twisted, `warnings`, `print`, threads that die."""

from __future__ import annotations

import logging
import re
import reprlib
import sys
import threading
from typing import TYPE_CHECKING, Any, cast

from structlog.stdlib import BoundLogger, ExtraAdder
from twisted.logger import Logger, LoggingFile, LogLevel, formatEvent, globalLogBeginner

if TYPE_CHECKING:
    from structlog.typing import Processor
    from twisted.logger import ILogObserver, LogEvent

# Twisted calls any exception that reached its loop critical.
_LEVELS = {LogLevel.warn: "warning", LogLevel.critical: "error"}

_NOISE = re.compile(
    r"Starting factory |Stopping factory |\S+ starting on |\(.*Port .*Closed\)|Main loop term"
)
"""What Twisted says in the name of other classes (`protocol.Factory.doStart`), or of none."""

_ANNOUNCEMENT = "Unhandled error in Deferred:"
_UNNAMED = {"twisted.internet.defer": "deferred.unhandled"}
"""Twisted announces such an error in one event, and tells it in the next, which has no text."""


class Sources:
    """Everything in the process that logs in its own way, brought into one stream."""

    def __init__(self, steps: list[Processor]) -> None:
        """Take structlog's steps that an event goes through."""
        self._steps = steps

    def redirect(self, *, prints: bool) -> None:
        """Bring every source in, once for all; what Twisted said before comes now.

        :param prints: whether what is printed becomes events too, so that it cannot tear a line of the log.
        """
        _silence_other_streams()
        logging.getLogger().addHandler(_FromLogging(self))
        globalLogBeginner.beginLoggingTo([cast("ILogObserver", self._from_twisted)], redirectStandardIO=False)
        # After Twisted, which takes warnings for its own.
        logging.captureWarnings(capture=True)
        threading.excepthook = self._from_thread
        sys.unraisablehook = self._from_unraisable
        if prints:
            sys.stdout = LoggingFile(Logger("stdout"), LogLevel.info)

    def logger(self, name: str, fields: dict[str, Any]) -> BoundLogger:
        """Return a logger with fields of any name; its methods take some for parameters of their own."""
        return BoundLogger(logging.getLogger(name), self._steps, dict(fields))

    def _from_twisted(self, event: LogEvent) -> None:
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
        logger = self.logger(name, {"failure": failure} if failure else {})
        getattr(logger, _LEVELS.get(level, level.name))(text or _UNNAMED.get(name, "twisted.failed"))

    def _from_thread(self, args: threading.ExceptHookArgs) -> None:
        if args.exc_type is not SystemExit:
            name = args.thread.name if args.thread else None
            self.logger("threading", {"thread": name, "exc_info": args[:3]}).error("thread.failed")

    def _from_unraisable(self, args: sys.UnraisableHookArgs) -> None:
        # Only the text of the object: keeping hold of it would resurrect it.
        fields = {"object": reprlib.repr(args.object), "message": args.err_msg, "exc_info": args.exc_value}
        self.logger("python", fields).error("python.unraisable")


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

    def __init__(self, sources: Sources) -> None:
        super().__init__()
        self._sources = sources

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record's text; its `extra` are fields."""
        fields = dict(self._add_extra(logging.root, "", {"_record": record}))
        del fields["_record"]
        fields["exc_info"] = record.exc_info
        if record.stack_info:
            fields["stack"] = record.stack_info
        if record.args:
            fields["positional_args"] = record.args if isinstance(record.args, tuple) else (record.args,)
        # Levels may lie between those that have a name.
        named = min(max(record.levelno // 10, 1), 5) * 10
        self._sources.logger(record.name, fields).log(named, str(record.msg))
