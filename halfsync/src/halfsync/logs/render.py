"""One event, one line, whatever is in it: JSON for machines, structlog's columns for people."""

from __future__ import annotations

import json
import reprlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from structlog.dev import ConsoleRenderer, plain_traceback

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict

LONGEST_LINE = 131_072
"""Characters; a longer event is written with its long values cut."""

LONGEST_TEXT = 8192

_short = reprlib.Repr()
"""Texts of what has no end, or no text: a cycle, a million items, an object whose `__repr__` raises."""
_short.maxdict = _short.maxlist = _short.maxtuple = _short.maxset = 20
_short.maxother = _short.maxstring = LONGEST_TEXT


def timestamp(when: float | None = None) -> str:
    """Return a time (seconds since the epoch; now) in ISO 8601, UTC, to the microsecond (RFC 3339)."""
    moment = datetime.now(UTC) if when is None else datetime.fromtimestamp(when, UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def json_line(event: EventDict) -> str:
    """Return an event as one line of JSON.

    It is pure ASCII: no newline, control character or lone surrogate of a value leaves its string.
    """
    try:
        line = _encode(event)
        if len(line) <= LONGEST_LINE:
            return line + "\n"
    except Exception:  # noqa: BLE001, S110  a cycle, a key that is no string, NaN, a `__str__` that raises
        pass
    return _encode({_text(key): _plain(value) for key, value in event.items()}) + "\n"


def _plain(value: object) -> Any:
    """Return a value as JSON can have it and as short as a line has room for; else its text."""
    try:
        if len(_encode(value)) <= LONGEST_TEXT:
            return value
    except Exception:  # noqa: BLE001, S110  see above
        pass
    return _text(value)


def _text(value: object) -> str:
    """Return a value as text that is not too long."""
    try:
        text = value if isinstance(value, str) else _short.repr(value)
    except Exception:  # noqa: BLE001  Python writes no whole number of more than 4300 digits
        text = f"<unprintable {type(value).__name__}>"
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}... ({len(text)} characters)"


def _default(value: object) -> str:
    return repr(value) if isinstance(value, BaseException) else str(value)


_encode = json.JSONEncoder(allow_nan=False, default=_default).encode


def console(*, colours: bool) -> Callable[[EventDict], str]:
    """Return what writes events for people: local time, a stack or traceback below and indented.

    Nothing in an event moves the terminal's cursor or begins a line that looks like an event.
    """
    columns = ConsoleRenderer(colors=colours, sort_keys=False, exception_formatter=plain_traceback)

    def line(event: EventDict) -> str:
        below = [line for key in ("stack", "exception") for line in _lines(event.pop(key, ""))]
        shown = {_printable(key): _printable(value) for key, value in event.items()}
        moment = datetime.fromisoformat(event["timestamp"]).astimezone()
        shown["timestamp"] = moment.strftime("%H:%M:%S.%f")[:-3]
        return "\n    ".join([str(columns(None, "", shown)), *map(_printable, below)]) + "\n"

    return line


def _lines(stack: object) -> list[Any]:
    return stack if isinstance(stack, list) else str(stack).splitlines()


def _printable(value: object) -> str:
    plain = _plain(value)
    text = plain if isinstance(plain, str) else _default(plain)
    return text if text.isprintable() else repr(text)[1:-1]
