"""What is in memory: where it grows, and what refers to an object."""

from __future__ import annotations

import gc
import os
import reprlib
import tracemalloc
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from halfsync.life.stacks import imported_as

DEPTH = 5
"""Calls that are kept of each allocation; each more costs memory."""

ROWS = 15

_PAGE = os.sysconf("SC_PAGE_SIZE")


class Growth:
    """What was allocated between two looks, by the line that did it."""

    def __init__(self) -> None:
        self._base: tracemalloc.Snapshot | None = None
        self._started = False

    def look(self) -> str:
        """Begin to trace, or tell what has grown since; takes seconds in a large process."""
        if self._base is None:
            # Tracing may be on already (PYTHONTRACEMALLOC).
            self._started = not tracemalloc.is_tracing()
            tracemalloc.start(DEPTH)
            self._base = _snapshot()
            return (
                f"{_resident()} resident. From now on every allocation is traced, which makes it two to four"
                " times as slow: call it again to see what has grown, and memory(stop=True) to end that."
            )
        grown = [each for each in _snapshot().compare_to(self._base, "lineno") if each.size_diff > 0]
        rows = [
            f"{each.size_diff / 1024:+10.1f} KiB {each.count_diff:+8} blocks  "
            f"{imported_as(each.traceback[0].filename)}:{each.traceback[0].lineno}"
            for each in grown[:ROWS]
        ]
        return "\n".join([f"{_resident()} resident; grown since the first look:", *rows])

    def stop(self) -> str:
        """Trace no more."""
        if self._started:
            tracemalloc.stop()
        self._base, self._started = None, False
        return "allocations are not traced"


def _snapshot() -> tracemalloc.Snapshot:
    own = [
        tracemalloc.Filter(inclusive=False, filename_pattern=name)
        for name in (__file__, tracemalloc.__file__)
    ]
    return tracemalloc.take_snapshot().filter_traces(own)


def _resident() -> str:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return f"{pages * _PAGE / (1 << 20):.0f} MiB"


def referrers(thing: object) -> str:
    """Tell what refers to an object, a line each: types, names and places rather than contents."""
    own = referrers.__code__
    found = [each for each in gc.get_referrers(thing) if getattr(each, "f_code", None) is not own]
    more = [f"and {len(found) - ROWS} more"] if len(found) > ROWS else []
    rows = [_describe(each, thing) for each in found[:ROWS]]
    return "\n".join([*rows, *more]) or "nothing refers to it that the collector knows of"


def _describe(holder: Any, thing: object) -> str:
    if isinstance(holder, dict):
        keys = ", ".join(_short(key) for key, value in list(holder.items()) if value is thing)
        return f"{_owner(holder)}, at {keys or 'a key'}"
    if isinstance(holder, (list, tuple)):
        at = next((index for index, each in enumerate(holder) if each is thing), "?")
        return f"{type(holder).__name__} of {len(holder)}, at {at}"
    if isinstance(holder, FrameType):
        code = holder.f_code
        return f"a call of {code.co_qualname} ({imported_as(code.co_filename)}:{holder.f_lineno})"
    names = [name for name, value in list(getattr(holder, "__dict__", {}).items()) if value is thing]
    return ", at ".join([_short(holder), *names])


def _owner(holder: dict[Any, Any]) -> str:
    for each in gc.get_referrers(holder):
        if getattr(each, "__dict__", None) is holder:
            return f"module {each.__name__}" if isinstance(each, ModuleType) else _short(each)
    return f"dict of {len(holder)}"


def _short(thing: object) -> str:
    # The repr of an object of the service's may be long, or do something.
    return reprlib.repr(thing) if isinstance(thing, (str, bytes, int, type)) else object.__repr__(thing)
