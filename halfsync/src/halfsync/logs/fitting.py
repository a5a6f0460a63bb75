"""An event made fit for one line: values that every reader of JSON takes, cut to what there is room for."""

from __future__ import annotations

import json
import re
import reprlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_LINE = 16_384
"""Bytes of a line, its end included; a longer event is cut and says so."""

LONGEST_TEXT = 8192
"""Characters of what Python writes of an object."""

LONGEST_KEY = 200

SMALLEST, LARGEST = -(2**63), 2**64 - 1
"""Whole numbers that strict readers take; others are written as text."""

MAX_DEPTH = 32
"""Levels of lists and objects in a field; what is deeper is text. .NET's reader takes 64, Ruby's 100."""

TRUNCATED = "truncated"
"""The field by which an event says that it was cut."""

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")

_short = reprlib.Repr()
"""Texts of what has no end, or no text: a cycle, a million items, an object whose `__repr__` raises."""
_short.maxdict = _short.maxlist = _short.maxtuple = _short.maxset = 20
_short.maxother = _short.maxstring = LONGEST_TEXT


def default(value: object) -> str:
    """Return the text of what JSON has no form for."""
    return clean(repr(value) if isinstance(value, BaseException) else str(value))


encode = json.JSONEncoder(allow_nan=False, default=default).encode
"""As pure ASCII, so that no newline or control character of a value leaves its string."""


def plain(event: Mapping[Any, Any]) -> dict[str, Any]:
    """Return an event whose keys and values are as JSON can have them, each but for its length."""
    return {_text(key)[:LONGEST_KEY]: _plain(value) for key, value in event.items()}


def _plain(value: object) -> Any:
    try:
        encode(value)
        # A second way to the same object, and none to a cycle: `encode` has refused that.
        return _strict(value, MAX_DEPTH)
    except Exception:  # noqa: BLE001  a cycle, two keys of one text, NaN, a `__str__` that raises
        return _text(value)


def _strict(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, (int, float, type(None))):
        beyond = isinstance(value, int) and not SMALLEST <= value <= LARGEST
        return str(value) if beyond else value
    if isinstance(value, (dict, list, tuple)) and not depth:
        return _text(value)
    if isinstance(value, dict):
        found = {clean(str(key)): _strict(each, depth - 1) for key, each in value.items()}
        if len(found) < len(value):
            raise ValueError("two keys have the same text, as 1 and '1'")
        return found
    if isinstance(value, (list, tuple)):
        return [_strict(each, depth - 1) for each in value]
    return default(value)


def clean(text: str) -> str:
    """Return a text without lone surrogates, which no strict reader takes: each is spelled, as an escape."""
    return _LONE_SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _text(value: object) -> str:
    """Return a value as text that is not too long."""
    try:
        text = value if isinstance(value, str) else _short.repr(value)
    except Exception:  # noqa: BLE001  Python writes no whole number of more than 4300 digits
        text = f"<unprintable {type(value).__name__}>"
    return clean(text)


def cut(event: Mapping[str, Any], limit: int) -> dict[str, Any]:
    """Return an event that takes at most so many bytes, its long values cut, and says so."""
    room = limit - len(encode({TRUNCATED: True}))
    sizes = [len(encode({key: value})) for key, value in event.items()]
    longest = room // 2
    while longest >= 32:
        if sum(min(size, longest) for size in sizes) <= room:
            kept = {key: _shorten(value, longest) for key, value in event.items()}
            if len(encode(kept)) <= room:
                return {**kept, TRUNCATED: True}
        longest //= 2
    # Too many fields: the first ones stay, with which every event begins.
    some: dict[str, Any] = {}
    for key, value in event.items():
        short = _shorten(value, longest)
        room -= len(encode({key: short}))
        if room < 0:
            break
        some[key] = short
    return {**some, TRUNCATED: True}


def _shorten(value: Any, longest: int) -> Any:
    """Return a value of about `longest` bytes; of a text or a list, the beginning and the end stay."""
    whole = len(encode(value))
    if whole <= longest:
        return value
    if isinstance(value, list):
        return _shorten_list(value, longest)
    text = value if isinstance(value, str) else encode(value)
    # A letter that is not ASCII takes up to twelve bytes.
    half = max(longest * len(text) // whole // 2, 4)
    shown = f"{text[:half]}... ({len(text)} characters) ...{text[-half:]}"
    return shown if len(encode(shown)) < 2 * longest else f"{text[:4]}... ({len(text)} characters)"


def _shorten_list(items: list[Any], longest: int) -> list[Any]:
    head: list[Any] = []
    tail: list[Any] = []
    room = longest
    for at in range(len(items) // 2):
        # The last first: of a stack, they are the calls that run.
        for end, part in ((items[-1 - at], tail), (items[at], head)):
            short = _shorten(end, longest // 4)
            room -= len(encode(short)) + 2
            if room < 0:
                return [*head, f"... ({len(items)} items) ...", *reversed(tail)]
            part.append(short)
    return [*head, f"... ({len(items)} items) ...", *reversed(tail)]
