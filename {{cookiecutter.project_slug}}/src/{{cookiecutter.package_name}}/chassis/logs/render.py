"""One event, one line: JSON for machines, columns for people. Neither raises, whatever it is given."""

from __future__ import annotations

import json
import math
import time
import traceback
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from twisted.python.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    Record = dict[str, Any]
    """`timestamp`, `level`, `logger`, `event`, then the fields."""
    Renderer = Callable[[Record], str]

LONGEST_LINE = 131_072
"""Characters; a longer event is written with its long values cut."""

LONGEST_TEXT = 8192
MOST_ITEMS = 100
DEEPEST = 6


_second: tuple[int, str] = (-1, "")
"""A second and how it is written; all but the first event in it are spared the calendar."""


def timestamp(when: float | None = None) -> str:
    """Return a time (seconds since the epoch; now) in ISO 8601, UTC, to the microsecond (RFC 3339)."""
    global _second  # noqa: PLW0603  a cache of one entry, replaced whole
    second, micros = divmod(time.time_ns() // 1000 if when is None else round(when * 1_000_000), 1_000_000)
    known, text = _second
    if known != second:
        text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        _second = second, text
    return f"{text}{micros:06d}Z"


def json_line(record: Record) -> str:
    """Return an event as one line of JSON.

    It is pure ASCII: no newline, control character or lone surrogate of a value leaves its string.
    """
    try:
        try:
            line = _encode(record)
        except Exception:  # noqa: BLE001  a cycle, a key that is no string, NaN, a `__repr__` that raises
            line = _encode(plain(record))
        if len(line) > LONGEST_LINE:
            line = _encode(plain(record))
    except Exception as error:  # noqa: BLE001  a container that cannot even be walked
        line = _encode(
            {
                "timestamp": timestamp(),
                "level": "error",
                "logger": __name__,
                "event": "log.unprintable",
                "reason": type(error).__name__,
            }
        )
    return line + "\n"


def plain(value: object, depth: int = 0) -> Any:  # noqa: PLR0911  a case a line
    """Return a value as JSON can have it, cut to a size that fits in a line."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        # Python refuses to write an int of more than 4300 digits in decimal.
        return value if abs(value) < 2**64 else _cut(hex(value))
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return _cut(value)
    if isinstance(value, dict) and depth < DEEPEST:
        items = list(value.items())[:MOST_ITEMS]
        return {_key(key): plain(each, depth + 1) for key, each in items}
    if isinstance(value, list | tuple | set | frozenset) and depth < DEEPEST:
        return [plain(each, depth + 1) for each in list(value)[:MOST_ITEMS]]
    return _cut(text_of(value))


def text_of(value: object) -> str:
    """Return a value as text; bytes as the text that they most likely are."""
    try:
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value).decode("utf-8", "backslashreplace")
        return repr(value) if isinstance(value, BaseException) else str(value)
    except Exception:  # noqa: BLE001  someone's `__repr__`
        return f"<unprintable {type(value).__name__}>"


def exception_text(error: object) -> str:
    """Return the traceback of an exception, a Failure or an `exc_info` tuple."""
    try:
        if isinstance(error, Failure):
            found = traceback.format_exception(error.type, error.value, error.getTracebackObject())
        elif isinstance(error, BaseException):
            found = traceback.format_exception(error)
        elif isinstance(error, tuple):
            found = traceback.format_exception(*error)
        else:
            return text_of(error)
    except Exception as problem:  # noqa: BLE001  an exception's own `__str__` may raise
        return f"<no traceback: {type(problem).__name__}>"
    return "".join(found).rstrip("\n")


class Console:
    """Events for people: local time, level, event, logger, fields; a traceback below, indented."""

    def __init__(self, *, colours: bool) -> None:
        paint = _COLOURS if colours else dict.fromkeys(_COLOURS, "")
        self._dim, self._bold, self._key, self._reset = (
            paint[each] for each in ("dim", "bold", "key", "reset")
        )
        self._levels = {
            level: f"{paint.get(level, '')}{level:<8}{self._reset}"
            for level in ("debug", "info", "warning", "error", "critical")
        }

    def __call__(self, record: Record) -> str:
        """Return an event as one line, and its traceback, if it has one, as indented lines below."""
        fields = dict(record)
        when, level, logger, event = (
            fields.pop(each, "") for each in ("timestamp", "level", "logger", "event")
        )
        exception = fields.pop("exception", None)
        stamp = datetime.fromisoformat(when).astimezone().strftime("%H:%M:%S.%f")[:-3]
        line = f"{self._dim}{stamp}{self._reset} {self._levels.get(level, level)} "
        line += f"{self._bold}{_one_line(event):<28}{self._reset} {self._dim}{_one_line(logger)}{self._reset}"
        for key, value in fields.items():
            line += f" {self._key}{_one_line(key)}={self._reset}{_one_line(value, quote=True)}"
        for each in str(exception).splitlines() if exception else ():
            line += "\n    " + _one_line(each)
        return line + "\n"


_COLOURS = {
    "dim": "\x1b[2m",
    "bold": "\x1b[1m",
    "key": "\x1b[36m",
    "reset": "\x1b[0m",
    "debug": "\x1b[2m",
    "info": "\x1b[32m",
    "warning": "\x1b[33m",
    "error": "\x1b[31m",
    "critical": "\x1b[1;31m",
}


def _one_line(value: object, *, quote: bool = False) -> str:
    """Return a value without anything that could move a terminal's cursor."""
    text = value if isinstance(value, str) else text_of(plain(value))
    text = _cut(text)
    if text.isprintable() and not (quote and (not text or " " in text) and isinstance(value, str)):
        return text
    return repr(text) if quote else repr(text)[1:-1]


def _cut(text: str) -> str:
    if len(text) <= LONGEST_TEXT:
        return text
    return f"{text[:LONGEST_TEXT]}... ({len(text)} characters)"


def _key(key: object) -> str:
    return _cut(key if isinstance(key, str) else text_of(key))


_encode = json.JSONEncoder(allow_nan=False, check_circular=True, default=plain).encode
