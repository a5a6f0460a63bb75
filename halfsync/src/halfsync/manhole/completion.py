"""What the tab key offers."""

from __future__ import annotations

import re
import sys
from typing import Any


def complete(line: str, namespace: dict[str, Any]) -> tuple[str, list[str]]:
    """Return the last name of a line, and the names with which it could go on.

    As Python's own prompt does: of `a.b.c`, `a.b` is evaluated, and no property of what it is.
    """
    word = re.split(r"[^\w.]", line)[-1]
    completer = _rlcompleter().Completer(namespace)
    find = completer.attr_matches if "." in word else completer.global_matches
    return word, sorted(set(find(word)))


def _rlcompleter() -> Any:
    # It would import readline, and that take over a terminal that is the service's.
    missing = object()
    before: Any = sys.modules.get("readline", missing)
    sys.modules["readline"] = None  # type: ignore[assignment]
    try:
        import rlcompleter  # noqa: PLC0415  in the absence of readline
    finally:
        del sys.modules["readline"]
        if before is not missing:
            sys.modules["readline"] = before
    return rlcompleter
