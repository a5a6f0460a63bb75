"""What a handler may want to know of the call that it answers."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Identity:
    """A client that has proved what it is called."""

    name: str
    mechanism: str
    """How: `SCRAM-SHA-256`, `SCRAM-SHA-256-PLUS`, `PLAIN`, or `certificate`."""


class Call:
    """A call of a method, as its handler and the rule that authorises it see it."""

    __slots__ = ("deadline", "headers", "identity", "method", "peer", "request_id", "service")

    def __init__(  # noqa: PLR0917  one call a request, which names would make slower
        self,
        service: str,
        method: str,
        identity: Identity | None,
        peer: str,
        headers: Mapping[str, str],
        request_id: str,
        deadline: float | None,
    ) -> None:
        self.service = service
        self.method = method
        self.identity = identity
        """None on a listener that asks nobody: loopback, or a private socket."""
        self.peer = peer
        """The client's address; `unix` for a UNIX socket."""
        self.headers = headers
        """What THeader carried, names in lower case; empty without it."""
        self.request_id = request_id
        self.deadline = deadline
        """When the client gives up, in `time.monotonic()`; None when it did not say."""

    def remaining(self) -> float | None:
        """Return the seconds that are left for the call; None when the client did not say."""
        return None if self.deadline is None else self.deadline - monotonic()


_current: ContextVar[Call] = ContextVar("halfsync_thrift_call")


def current_call() -> Call:
    """Return the call that this handler answers.

    :raises LookupError: outside of one.
    """
    return _current.get()


def set_current(call: Call) -> None:
    """Make a call the one that the code of this context answers."""
    _current.set(call)
