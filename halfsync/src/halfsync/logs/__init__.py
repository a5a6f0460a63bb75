"""One structured stream: what the halfsync, its users, Twisted, `logging` and `warnings` have to say.

    log = get_logger(__name__)
    log.info("cache.filled", entries=12, seconds=0.2)

An event is a short dotted name with fields.
On a terminal it is a coloured line, elsewhere a line of JSON:
`timestamp` (ISO 8601, UTC), `level`, `logger`, `event`, the fields, and `exception` with a traceback.
In tests, `structlog.testing.capture_logs` sees every event of a logger made here.
"""

from halfsync.logs.events import get_logger, put
from halfsync.logs.log_levels import level, levels, set_level
from halfsync.logs.render import timestamp
from halfsync.logs.stream import flush, reopen, start

__all__ = ["flush", "get_logger", "level", "levels", "put", "reopen", "set_level", "start", "timestamp"]
