"""One structured stream: what halfsync, its users, Twisted, `logging` and `warnings` have to say.

    log = get_logger(__name__)
    log.info("cache.filled", entries=12, seconds=0.2)

An event is a short dotted name with fields.
On a terminal it is a coloured line, elsewhere a line of JSON:
`timestamp` (ISO 8601, UTC), `level`, `logger`, `event`, the fields, and `exception` with a traceback.
In tests, `structlog.testing.capture_logs` sees every event of a logger made here.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from halfsync.logs.files import LogFileError
from halfsync.logs.levels import LogLevels, level
from halfsync.logs.loggers import get_asked_logger, get_audit_logger, get_logger
from halfsync.logs.stream import Log, flush, reopen, running, start

if TYPE_CHECKING:
    from halfsync.logs.events import emit, line_writer, watch
    from halfsync.logs.render import timestamp

__all__ = [
    "Log",
    "LogFileError",
    "LogLevels",
    "emit",
    "flush",
    "get_asked_logger",
    "get_audit_logger",
    "get_logger",
    "level",
    "line_writer",
    "reopen",
    "running",
    "start",
    "timestamp",
    "watch",
]

_LATER = {"emit": "events", "line_writer": "events", "timestamp": "render", "watch": "events"}
"""What comes with structlog, and is imported with it: `--help` logs nothing."""


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
