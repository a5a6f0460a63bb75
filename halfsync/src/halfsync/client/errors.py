"""Why a call to a peer was not answered; every one is a `CallError`."""

from __future__ import annotations

from halfsync.deadline import DeadlineExceeded


class CallError(Exception):
    """A peer was asked and gave no answer that can be used, or was not asked at all."""


class CircuitOpen(CallError):  # noqa: N818  the field's name for it
    """Too many of the last calls failed: the peer is left alone for a while, and was not asked."""


class Overloaded(CallError):  # noqa: N818  the field's name for it
    """Every connection to the peer is in use, and nothing became free in time: the peer was not asked."""


class NoAddress(CallError):  # noqa: N818  what is missing, not an error of anybody's
    """The peer's name has no address."""


class Unreachable(CallError):  # noqa: N818  a state of the peer
    """No connection to the peer could be made, so it has not seen the request."""


class Interrupted(CallError):  # noqa: N818  what happened to the answer
    """The connection ended before the answer was whole, or broke the protocol; the work may be done."""


__all__ = [
    "CallError",
    "CircuitOpen",
    "DeadlineExceeded",
    "Interrupted",
    "NoAddress",
    "Overloaded",
    "Unreachable",
]
