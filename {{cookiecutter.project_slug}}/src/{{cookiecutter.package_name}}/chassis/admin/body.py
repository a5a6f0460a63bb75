"""What a change says: a small JSON object whose every field is known and of its type."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .guard import RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST = 64 * 1024
"""Bytes."""

LONGEST_TEXT = 200
"""Characters of one value."""

LONGEST_TIME = 7 * 24 * 3600
"""Seconds."""

_KINDS: dict[type, str] = {bool: "true or false", str: "text", float: "a number of seconds"}


def read(data: bytes, required: Mapping[str, type], optional: Mapping[str, type]) -> dict[str, Any]:
    """Return the fields of a body; an optional one that is absent or null is None.

    :param required: names and types; a type is bool, str, or float for a number of seconds above 0.
    :raises RefusedError: with 400, naming the field, or 413.
    """
    if len(data) > LONGEST:
        raise RefusedError(413, f"body: more than {LONGEST} bytes")
    body = _object(data)
    known = {**required, **optional}
    for name in body:
        if name not in known:
            raise RefusedError(400, f"{_show(name)}: no such field; there is {', '.join(known) or 'none'}")
    for name in required:
        if name not in body:
            raise RefusedError(400, f"{name}: missing; give {_KINDS[required[name]]}")
    return {name: _value(name, body.get(name), kind, optional) for name, kind in known.items()}


def _object(data: bytes) -> dict[str, Any]:
    if not data.strip():
        return {}
    try:
        body = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise RefusedError(400, "body: nested too deeply") from None
    except ValueError as error:
        raise RefusedError(400, f"body: no JSON: {error}") from None
    if not isinstance(body, dict):
        raise RefusedError(400, "body: must be a JSON object")
    return body


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _value(name: str, value: object, kind: type, optional: Mapping[str, type]) -> Any:
    if value is None and name in optional:
        return None
    fits = isinstance(value, kind)
    if kind is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    if not fits:
        raise RefusedError(400, f"{name}: {_show(value)} is not {_KINDS[kind]}")
    if isinstance(value, str) and not (value.isprintable() and 0 < len(value) <= LONGEST_TEXT):
        raise RefusedError(
            400, f"{name}: {_show(value)} is not printable text of up to {LONGEST_TEXT} characters"
        )
    if kind is float:
        # An int may be too large to be a float.
        if not 0 < value <= LONGEST_TIME:  # type: ignore[operator]
            raise RefusedError(400, f"{name}: {_show(value)} is not between 0 and {LONGEST_TIME} seconds")
        return float(value)  # type: ignore[arg-type]
    return value


def _show(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
