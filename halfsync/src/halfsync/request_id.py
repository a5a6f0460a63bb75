"""The name of a request or call: the client's, or one made here, so that its lines can be found in every log.

`X-Request-Id` (a header of HTTP, or of THeader) names it when that is printable and short;
else the trace of `traceparent` does (W3C Trace Context section 3.2);
else it gets a name that no other request has, here or in another process.
"""

from __future__ import annotations

import os
import re
from itertools import count
from typing import TYPE_CHECKING

from structlog.contextvars import bind_contextvars

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HEADER = "x-request-id"
TRACEPARENT = "traceparent"

LONGEST = 128
"""Characters; a longer one is replaced."""

# No quotes, spaces or brackets: it is pasted into shells and searches.
_ACCEPTABLE = re.compile(rf"[0-9A-Za-z._~:/+=@-]{{1,{LONGEST}}}\Z")
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-|\Z)"
)


class _Process:
    """What makes names unique: random bits of this process, and a counter."""

    names: Iterator[str]

    @classmethod
    def renew(cls) -> None:
        cls.names = map(f"{os.urandom(8).hex()}%08x".__mod__, count())


_Process.renew()
os.register_at_fork(after_in_child=_Process.renew)


def made() -> str:
    """Return a new one: 24 hexadecimal digits."""
    return next(_Process.names)


def named(special: Mapping[str, str]) -> str | None:
    """Return the client's own, or that of its trace; None when it gives none that can be used.

    :param special: what the client sent, by names in lower case.
    """
    given = special.get(HEADER)
    if given is not None and _ACCEPTABLE.match(given):
        return given
    trace = special.get(TRACEPARENT)
    if trace is not None:
        match = _TRACEPARENT.match(trace)
        # Version 00 has nothing after its flags; later ones may.
        if match and (len(trace) == 55 or not trace.startswith("00")):
            return match[1]
    return None


def bind(name: str) -> None:
    """Put it on every line that is logged in the present context, and in those copied from it."""
    bind_contextvars(request_id=name)
