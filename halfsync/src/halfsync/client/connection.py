"""A connection to a peer, which may send anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from twisted.web.client import HTTP11ClientProtocol, ResponseFailed  # type: ignore[attr-defined]

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

MAX_HEAD = 64 * 1024
"""Bytes of the head of an answer, interim answers included: twisted.web bounds lines, not their number."""


class EndlessHead(Exception):  # noqa: N818  what the peer sent
    """A head of more than MAX_HEAD bytes."""


class Connection(HTTP11ClientProtocol):
    """Closes itself when the head of an answer has no end."""

    _head_left: int | None = None
    """How many bytes of a head may still come; None while none is awaited."""

    def request(self, request: Any) -> Deferred[Any]:
        """Send a request; return its answer once its head is here."""
        self._head_left = MAX_HEAD

        def ended(result: Any) -> Any:
            endless = isinstance(result, Failure) and self._head_left is not None and self._head_left <= 0
            self._head_left = None
            if endless:
                error = EndlessHead(f"the head of the answer is longer than {MAX_HEAD} bytes")
                return Failure(ResponseFailed([Failure(error)]))
            return result

        sent: Deferred[Any] = super().request(request)
        return sent.addBoth(ended)

    def dataReceived(self, data: bytes) -> None:
        """Take what has come, if it may still be part of a head or is part of a body."""
        if self._head_left is not None:
            if self._head_left <= 0:
                self.transport.abortConnection()  # type: ignore[union-attr]
                return
            # A body's beginning may be in it. twisted.web reads no more of one before its head was handed on.
            self._head_left -= len(data)
        super().dataReceived(data)  # type: ignore[no-untyped-call]


class Connections(Factory):
    """Makes them for a pool, which hears from each that it is free again."""

    noisy = False

    def __init__(self, free: Any, _name: str) -> None:
        self._free = free

    def buildProtocol(self, _: object) -> Connection:
        """Make one."""
        return Connection(self._free)
