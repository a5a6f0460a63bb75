"""The C library's memory: one arena for all threads, so that what one frees is there for the others.

glibc gives threads arenas of their own, eight a core (mallopt(3)), against waiting for one another.
Python's threads do that anyway, for the interpreter's lock. What a worker makes and the reactor frees stayed
in the worker's arena: of 250 MiB that clients held, 530 MiB were resident; with one arena 410.
"""

from __future__ import annotations

import os
from contextlib import suppress

M_ARENA_MAX = -8


def one_arena() -> None:
    """Have one arena, where there is glibc and nobody has said otherwise (`MALLOC_ARENA_MAX`).

    Before there are threads: an arena that is there stays.
    """
    if "MALLOC_ARENA_MAX" in os.environ:
        return
    # What only a running service needs.
    from ctypes import CDLL  # noqa: PLC0415

    with suppress(OSError, AttributeError):
        CDLL(None).mallopt(M_ARENA_MAX, 1)
