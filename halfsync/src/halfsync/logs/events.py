"""The way of every event: judged once by the level of its logger, completed, written as a line.

The levels are those of the `logging` tree, and the steps are structlog's own.
An import changes nothing: until the log of the process starts, structlog is configured as its user likes,
and what it makes of an event goes to `logging`.
"""

from __future__ import annotations

import logging
import reprlib
import traceback
from typing import TYPE_CHECKING, Any, NoReturn, cast

import structlog
from structlog.contextvars import get_contextvars, merge_contextvars
from structlog.processors import StackInfoRenderer, format_exc_info
from structlog.stdlib import BoundLogger, PositionalArgumentsFormatter, filter_by_level

from halfsync.logs.render import timestamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict, Processor

_HEAD = frozenset(("timestamp", "level", "logger", "event"))

_PLACE = "halfsync.logs"
"""The logger at which the log of the process is kept."""


def make_logger(name: str, kind: str) -> BoundLogger:
    """Return the logger of that name and kind; `loggers` says what the kinds are."""
    logger = _LOGGERS[kind](name)
    wrapped = structlog.wrap_logger(logger, processors=[_any_step], wrapper_class=_Logger)
    return cast("BoundLogger", wrapped)


class Holder(logging.Handler):
    """Keeps the log of the process where everything of `logging` is kept: in its tree.

    Not at the root, whose handlers `logging.basicConfig(force=True)` and `dictConfig` take away.
    """

    def __init__(self, steps: list[Processor], log: object) -> None:
        super().__init__(logging.CRITICAL + 1)
        self.steps = steps
        self.log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Ignore every record: no level is as high as this handler's."""


def holder() -> Holder | None:
    """Return what keeps the log of this process; None until it has started."""
    # Of each event: without the lock that getLogger takes.
    for each in getattr(logging.root.manager.loggerDict.get(_PLACE), "handlers", ()):
        if type(each) is Holder:
            return each
    return None


def hold(steps: list[Processor], log: object) -> None:
    """Keep the log of this process, which has started, with the steps of an event."""
    logging.getLogger(_PLACE).addHandler(Holder(steps, log))


def _steps() -> list[Processor]:
    """Return the steps of an event: the log's, also when the service configures structlog after its start."""
    found = holder()
    return found.steps if found else structlog.get_config()["processors"]


def watch(step: Processor) -> None:
    """Have a step see every event first, as it was said; without effect until the log has started.

    It is called in the thread and context of whoever logs, and must not raise.
    """
    if found := holder():
        found.steps.insert(0, step)


def _any_step(logger: Any, method: str, event: EventDict) -> Any:
    result: Any = event
    for step in _steps():
        result = step(logger, method, result)
    return result


def emit(logger: logging.Logger, event: str, fields: EventDict) -> None:
    """Log an event at level info that is complete: without a context, an error, or fields named as its head.

    Every request makes one, and this way it takes 9 microseconds of the reactor's thread instead of 23.
    """
    steps = _steps()
    if not steps or not isinstance(steps[-1], Completion):
        # The log has not started, or structlog.testing.capture_logs captures events.
        BoundLogger(logger, steps, dict(fields)).info(event)
    elif _is_wanted(logger):
        head = {"timestamp": timestamp(), "level": "info", "logger": logger.name, "event": event}
        steps[-1].write({**head, **fields}, audit=False)


def line_writer(logger: logging.Logger) -> Callable[[str], None] | None:
    """Return what takes whole lines of JSON, with their ends, for events at level info.

    None where `emit` has to be used: the log has no such lines, does not want the event, or is captured.
    An event of every request that is written so takes 2 microseconds of the reactor's thread.
    """
    steps = _steps()
    if steps and isinstance(steps[-1], Completion) and _is_wanted(logger):
        return steps[-1].write_line
    return None


def _is_wanted(logger: logging.Logger) -> bool:
    """Say whether the level of a logger lets events at level info pass."""
    if logger.isEnabledFor(logging.INFO):
        return True
    return logger.disabled and max(logger.getEffectiveLevel(), logger.manager.disable + 1) <= logging.INFO


class _ByLevel:
    """A logger that is disabled, judged by its level alone."""

    disabled = False

    def __init__(self, logger: logging.Logger) -> None:
        self.getEffectiveLevel = logger.getEffectiveLevel


def _by_level(logger: Any, method: str, event: EventDict) -> EventDict:
    """Let an event pass by the level of its logger.

    Whether that is disabled does not matter: `dictConfig`, in an application's own hands, disables by default
    every logger that there is and that it does not name, and the log would say no more.
    """
    kept: EventDict = filter_by_level(
        cast("Any", _ByLevel(logger)) if logger.disabled else logger, method, event
    )
    return kept


class _Logger(BoundLogger):
    """A logger whose caller never fails by it, whatever steps structlog is configured with."""

    def _proxy_to_logger(
        self, method_name: str, event: str | None = None, *event_args: str, **event_kw: Any
    ) -> Any:
        try:
            return super()._proxy_to_logger(method_name, event, *event_args, **event_kw)
        except Exception:  # noqa: BLE001  structlog's own console takes no list for a stack
            return getattr(self._logger, method_name)(f"{event} {reprlib.repr(event_kw)}")


class _EveryLevel:
    """A logger of `logging` for which every level is enabled, as structlog asks for it."""

    disabled = False

    def __init__(self, name: str) -> None:
        self.name = name

    def getEffectiveLevel(self) -> int:
        return logging.NOTSET

    def info(self, text: str, *arguments: object, **_options: object) -> None:
        self._handle(logging.INFO, text, arguments)

    def warning(self, text: str, *arguments: object, **_options: object) -> None:
        self._handle(logging.WARNING, text, arguments)

    def _handle(self, level: int, text: str, arguments: tuple[object, ...]) -> None:
        # Until the log has started. `handle` asks for no level.
        logger = logging.getLogger(self.name)
        logger.handle(logger.makeRecord(self.name, level, "", 0, text, arguments, None))


class _AuditLogger(_EveryLevel):
    """One whose events are never dropped, either."""


_LOGGERS: dict[str, Callable[[str], logging.Logger | _EveryLevel]] = {
    "plain": logging.getLogger,
    "asked": _EveryLevel,
    "audit": _AuditLogger,
}


class Completion:
    """The last step of every event: completes it, writes it, and ends its way."""

    def __init__(self, write: Callable[..., None], write_line: Callable[[str], None] | None = None) -> None:
        """Write events by `write(event, audit=bool)`: `timestamp`, `level`, `logger`, `event`, the fields.

        :param write_line: takes an event as a whole line of JSON, where such are written.
        """
        self.write = write
        self.write_line = write_line

    def __call__(self, logger: logging.Logger | _EveryLevel, method: str, fields: EventDict) -> NoReturn:
        """Complete and write an event; the code that logs is not to fail by it.

        :raises DropEvent: always, as structlog expects of a last step that has done everything.
        """
        said = fields.get("event")
        audit = isinstance(logger, _AuditLogger)
        try:
            event: Any = fields
            for step in _COMPLETE:
                event = step(logger, method, event)
            self.write(event, audit=audit)
        except Exception as error:  # noqa: BLE001  a format does not fit, or a `__str__` raises
            broken = {"event": "log.unprintable", "said": said, "reason": error}
            self.write(_with_head(logger, "error", broken), audit=audit)
        raise structlog.DropEvent


def configure(completion: Completion) -> list[Processor]:
    """Bring every event of structlog's loggers to the completion, and return the steps that do it.

    It is one list for all loggers: structlog.testing.capture_logs changes it in place.
    """
    steps: list[Processor] = [_by_level, completion]
    structlog.configure(
        processors=steps,
        wrapper_class=BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    return steps


def with_context(fields: EventDict) -> EventDict:
    """Return the fields with those that the context of the caller adds to every event."""
    return {**get_contextvars(), **fields}


def _with_failure(_logger: object, _method: str, fields: EventDict) -> EventDict:
    """Write down a Failure of Twisted's, whose own text leaves out the causes."""
    failure = fields.pop("failure", None)
    if failure is not None:
        found = traceback.format_exception(failure.type, failure.value, failure.getTracebackObject())
        fields["exception"] = "".join(found).rstrip("\n")
    return fields


def _with_head(logger: logging.Logger | _EveryLevel, method: str, fields: EventDict) -> EventDict:
    """Begin with what every event has; a field that is called the same is put beside it."""
    event = fields.pop("event", "")
    for key in _HEAD.intersection(fields):
        fields[f"{key}_"] = fields.pop(key)
    level = "error" if method == "exception" else method
    return {"timestamp": timestamp(), "level": level, "logger": logger.name, "event": event, **fields}


_COMPLETE: tuple[Processor, ...] = (
    merge_contextvars,
    PositionalArgumentsFormatter(),
    StackInfoRenderer(additional_ignores=[__name__]),
    format_exc_info,
    _with_failure,
    _with_head,
)
