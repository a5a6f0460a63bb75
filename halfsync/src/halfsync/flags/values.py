"""Setting a flag from text, strictly, and writing its value back as text."""

from __future__ import annotations

from typing import Any

from halfsync import flag


class FlagError(ValueError):
    """A flag cannot have the value that someone gave it. One line, for a person."""


def assign(var: flag.Var[Any], text: str) -> None:
    """Set a flag of any type, or raise what would be right and leave it as it was.

    oscar's own List keeps the items before a bad one.
    :raises FlagError: what is wrong with the text, without the flag's name.
    """
    before = var.value
    inner = getattr(var, "inner_value", var)
    if isinstance(inner, flag.Int | flag.Float) and (not text.isascii() or "_" in text):
        # Python would take 1_6 and the digits of every script.
        raise FlagError("is no whole number" if isinstance(inner, flag.Int) else "is no number")
    try:
        var.set(text)
    except (ValueError, TypeError) as error:
        var.value = before
        raise FlagError(_RIGHT.get(type(getattr(var, "inner_value", var))) or str(error)) from None


_RIGHT = {
    flag.Bool: "is neither true nor false",
    flag.Int: "is no whole number",
    flag.Float: "is no number",
}


def text_of(var: flag.Var[Any], value: object) -> str:
    """Return a value as one would write it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return getattr(var, "separator", " ").join(map(str, value))
    return str(value)


def shorten(text: str, *, quote: bool = True) -> str:
    """Return someone's text fit for one line of a message."""
    shown = text if len(text) <= 80 else f"{text[:77]}..."
    return repr(shown) if quote or not shown.isprintable() else shown
