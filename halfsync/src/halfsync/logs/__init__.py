"""One structured stream: what halfsync, its users, Twisted, `logging` and `warnings` have to say.

    log = get_logger(__name__)
    log.info("cache.filled", entries=12, seconds=0.2)

An event is a short dotted name with fields.
On a terminal it is a coloured line, elsewhere a line of JSON:
`timestamp` (ISO 8601, UTC), `level`, `logger`, `event`, the fields, and `exception` with a traceback.
In tests, `structlog.testing.capture_logs` sees every event of a logger made here.
"""

from halfsync.logs.events import emit, get_audit_logger, get_logger, line_writer
from halfsync.logs.files import LogFileError
from halfsync.logs.levels import LogLevels, level
from halfsync.logs.render import timestamp
from halfsync.logs.stream import Log, flush, reopen, running, start

__all__ = [
    "Log",
    "LogFileError",
    "LogLevels",
    "emit",
    "flush",
    "get_audit_logger",
    "get_logger",
    "level",
    "line_writer",
    "reopen",
    "running",
    "start",
    "timestamp",
]
