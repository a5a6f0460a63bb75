"""A connection whose transport was given to another protocol, as a websocket's is."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from halfsync.http.context import describe
from halfsync.http.rate import LINGER, socket_of, unsent

if TYPE_CHECKING:
    from halfsync.endpoints.addresses import Address
    from halfsync.http.connection import H1Connection
    from halfsync.http.stream import Stream

A_PROTOCOL = 4 * 1024
"""Bytes of the objects of a protocol that took over, about; so each is weighed again and again."""


class TakenOver:
    """It counts as a connection until the transport ends, and ends in a drain, as an idle one does."""

    idle = False
    """What its protocol does is not known here."""
    kind = "another protocol"
    """What it is now, for people."""

    def __init__(self, before: H1Connection) -> None:
        """Stand in for the connection that it was before; the request that led to it is over."""
        stream, before.stream = before.stream, None
        self.at = self.kind if stream is None else f"{self.kind}: {describe(stream)}"
        """What it is and what it was asked for, for people."""
        before.closing = True
        before.deadline = inf
        if stream is not None:
            stream.responder = None
            stream.code = 101
            before.context.answered(stream)
        before.transport.unregisterProducer()
        self.transport: Any = before.transport
        self.client: Address = before.client
        self.since: float = before.since
        self.asked = before.asked
        self.deadline = inf
        self._closing = False
        self._ended = False
        self._context = before.context
        self._context.connections.replaced(before, self)
        bottom = socket_of(self.transport)
        if bottom is None:
            self._over()
        else:
            bottom.lost = self._over
            self.weigh()

    def streams(self) -> list[Stream]:
        """Return nothing: there are no requests."""
        return []

    def weigh(self) -> None:
        """Have the account know what is in buffers of it, as far as that can be known."""
        if not self._ended:
            self._context.memory.weigh(self, A_PROTOCOL + self.buffered())

    def buffered(self) -> int:
        """Return how many bytes wait for the client."""
        return unsent(self.transport)

    def wind_down(self, deadline: float) -> None:
        """Go on no longer than that."""
        self.deadline = deadline

    def expire(self, now: float) -> None:
        """Close; then cut what does not end."""
        if self._closing:
            self.abort()
        else:
            self._closing = True
            self.deadline = now + LINGER
            self.transport.loseConnection()

    def abort(self) -> None:
        """Cut it."""
        self.deadline = inf
        self.transport.abortConnection()

    def _over(self) -> None:
        """Be done with: the transport has ended."""
        self._ended = True
        self._context.memory.weigh(self, 0)
        self._context.connections.lost(self)
