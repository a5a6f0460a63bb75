"""One event, one line, whatever is in it: JSON for machines, structlog's columns for people."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from structlog.dev import ConsoleRenderer, plain_traceback

from halfsync.logs.fitting import LARGEST, MAX_DEPTH, MAX_LINE, SMALLEST, cut, default, encode, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict

_BY_ITSELF = (float, bool, type(None))
_HAS_A_FORM = (str, int, float, list, tuple, dict)


def timestamp(when: float | None = None) -> str:
    """Return a time (seconds since the epoch; now) in ISO 8601, UTC, to the microsecond (RFC 3339)."""
    if when is not None:
        return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    # The digits are cut, not computed with, and each second is written once: every request takes one.
    digits = str(time.time_ns())
    return f"{_second(digits[:-9])}.{digits[-9:-3]}Z"


@lru_cache(maxsize=2)
def _second(digits: str) -> str:
    return datetime.fromtimestamp(int(digits), UTC).strftime("%Y-%m-%dT%H:%M:%S")


def json_line(event: EventDict, max_line: int = MAX_LINE) -> str:
    """Return an event as one line of JSON of at most so many bytes.

    It is pure ASCII, and what strict readers take: no lone surrogate, no NaN, no number beyond 64 bits,
    no key twice in an object, nothing nested more deeply than they follow.
    """
    try:
        line = encode(event)
        if len(line) < max_line and _is_strict(event, line):
            return line + "\n"
    except Exception:  # noqa: BLE001, S110  a cycle, a key that is no string, NaN, a `__str__` that raises
        pass
    whole = plain(event)
    line = encode(whole)
    return (line if len(line) < max_line else encode(cut(whole, max_line - 1))) + "\n"


def _is_strict(event: EventDict, line: str) -> bool:
    """Say whether JSON of Python's is JSON of everyone's; for what most events hold at next to no cost."""
    # Half of an emoji, or both halves: the long way finds out.
    return "\\ud" not in line and all(_is_plain(value, MAX_DEPTH) for value in event.values())


def _is_plain(value: object, depth: int) -> bool:
    kind = type(value)
    if kind is str:
        return True
    if kind is int:
        return SMALLEST <= value <= LARGEST  # type: ignore[operator]  # it is a number
    if kind is list or kind is tuple:
        return depth > 0 and all(_is_plain(each, depth - 1) for each in value)  # type: ignore[attr-defined]
    if kind is dict:
        # Of other keys, two may have the same text.
        return depth > 0 and all(
            type(key) is str and _is_plain(each, depth - 1)
            for key, each in value.items()  # type: ignore[attr-defined]
        )
    # What has no form in JSON has become a text.
    return kind in _BY_ITSELF or not isinstance(value, _HAS_A_FORM)


def console(*, colours: bool, max_line: int = MAX_LINE) -> Callable[[EventDict], str]:
    """Return what writes events for people: local time, a stack or traceback below and indented.

    Nothing in an event moves the terminal's cursor or begins a line that looks like an event.
    """
    columns = ConsoleRenderer(colors=colours, sort_keys=False, exception_formatter=plain_traceback)

    def line(event: EventDict) -> str:
        whole = plain(event)
        fitting = whole if len(encode(whole)) < max_line else cut(whole, max_line - 1)
        below = [line for key in ("stack", "exception") for line in _lines(fitting.pop(key, ""))]
        shown = {_printable(key): _printable(value) for key, value in fitting.items()}
        moment = datetime.fromisoformat(event["timestamp"]).astimezone()
        shown["timestamp"] = moment.strftime("%H:%M:%S.%f")[:-3]
        return "\n    ".join([str(columns(None, "", shown)), *map(_printable, below)]) + "\n"

    return line


def _lines(stack: object) -> list[Any]:
    return stack if isinstance(stack, list) else str(stack).splitlines()


def _printable(value: object) -> str:
    text = value if isinstance(value, str) else default(value)
    return text if text.isprintable() else repr(text)[1:-1]
