"""What a change says: a small JSON object whose every field is known and of its kind."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from halfsync.admin.message import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LONGEST = 64 * 1024
"""Bytes; the listener refuses more."""

LONGEST_TEXT = 200
"""Characters of one value."""

LONGEST_TIME = 7 * 24 * 3600
"""Seconds."""

_KINDS: dict[type, tuple[str, Callable[[Any], bool]]] = {
    bool: ("true or false", lambda value: isinstance(value, bool)),
    str: (
        f"printable text of up to {LONGEST_TEXT} characters",
        lambda value: isinstance(value, str) and value.isprintable() and 0 < len(value) <= LONGEST_TEXT,
    ),
    float: (
        f"a number of seconds above 0, {LONGEST_TIME} at most",
        lambda value: type(value) in {int, float} and 0 < value <= LONGEST_TIME,
    ),
}


def read(data: bytes, required: Mapping[str, type], optional: Mapping[str, type]) -> dict[str, Any]:
    """Return the fields of a body; an optional one that is absent or null is None.

    :param required: names and types; a type is bool, str, or float for a number of seconds above 0.
    :raises RefusedError: with 400, naming the field.
    """
    try:
        body = json.loads(data.decode().strip() or "{}")
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, f"body: no JSON: {error}") from None
    if not isinstance(body, dict):
        raise RefusedError(400, "body: must be a JSON object")
    known = {**required, **optional}
    for name in body:
        if name not in known:
            raise RefusedError(400, f"{_show(name)}: no such field; there is {', '.join(known) or 'none'}")
    for name, kind in known.items():
        right, fits = _KINDS[kind]
        if name in required and name not in body:
            raise RefusedError(400, f"{name}: missing; give {right}")
        value = body.setdefault(name, None)
        if not fits(value) and (value is not None or name in required):
            raise RefusedError(400, f"{name}: {_show(value)} is not {right}")
    return body


def _show(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
