"""The time by which an answer is wanted, carried from the caller through threads to what is called next.

A server sets it from what its client asked for; an outgoing client hands on what is left of it.
It lives in a context variable, so that it follows a request into a worker thread and back.
"""

from __future__ import annotations

from contextvars import ContextVar
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token

LONGEST_TIMEOUT = 12
"""Characters of a number of seconds; what is longer is none."""

_DEADLINE: ContextVar[float | None] = ContextVar("halfsync_deadline", default=None)


class DeadlineExceeded(TimeoutError):  # noqa: N818  the field's name for it (gRPC, Finagle)
    """The answer did not come by the time at which the caller wanted it."""


def current() -> float | None:
    """Return the deadline of the present context, on the monotonic clock; None without one."""
    return _DEADLINE.get()


def remaining(seconds: Callable[[], float] = monotonic) -> float | None:
    """Return how many seconds are left, 0 when it has passed; None without a deadline."""
    deadline = _DEADLINE.get()
    return None if deadline is None else max(0.0, deadline - seconds())


def set_deadline(deadline: float | None) -> None:
    """Set the deadline of the present context, which is a request's own; on the monotonic clock."""
    _DEADLINE.set(deadline)


def asked(text: str | None, seconds: Callable[[], float] = monotonic) -> float | None:
    """Return the deadline that a client names: a number of seconds from now on; None when it is none.

    It is what `X-Request-Timeout` has, as our own outgoing client sends it.
    """
    if text is None or len(text) > LONGEST_TIMEOUT or not text.isascii():
        return None
    if not text.replace(".", "", 1).isdecimal():
        return None
    return seconds() + float(text)


class within:  # noqa: N801  it is used like a function
    """Give a block a deadline, in seconds from its beginning; one that is set already and earlier stays.

    It is no generator: those set `__traceback__`, which exceptions of Thrift's compiler do not let them.
    :param timeout: None leaves the deadline as it is.
    """

    __slots__ = ("_seconds", "_timeout", "_token")

    def __init__(self, timeout: float | None, seconds: Callable[[], float] = monotonic) -> None:
        self._timeout = timeout
        self._seconds = seconds
        self._token: Token[float | None] | None = None

    def __enter__(self) -> None:
        now = _DEADLINE.get()
        wanted = now if self._timeout is None else self._seconds() + self._timeout
        if now is not None and wanted is not None:
            wanted = min(now, wanted)
        self._token = _DEADLINE.set(wanted)

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            _DEADLINE.reset(self._token)
