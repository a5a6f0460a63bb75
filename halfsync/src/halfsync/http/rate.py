"""How fast a client takes what is ready for it, or sends what it has begun: a slow one is no stalled one."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from halfsync.endpoints.addresses import address_text
from halfsync.endpoints.transport import SocketTransport
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from halfsync.http.bounds import Bounds
    from halfsync.http.connections import Connection

log = get_logger(__name__)

LINGER = 2.0
"""Seconds for a client to take a last answer and close, while what it still sends is dropped.

Closing with unread input makes the kernel send a reset, which can overtake the answer (RFC 9112 section 9.6).
"""


class Pace:
    """What a client has taken, or sent, while something waited for it: its average over `write_timeout`.

    It is told how many bytes are left for the client at that moment, and of what is sent from the first wait
    on: what has been sent since and is not left has been taken.
    A caller that cannot tell what is left leaves that out, and adds to `taken` what has gone, or come.
    """

    __slots__ = ("_begun", "_bounds", "_since", "_waited", "taken")

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._since: float | None = None
        """When the present wait began."""
        self._waited = 0.0
        """Seconds of the waits before."""
        self.taken = 0
        """Bytes that were left at the first wait, or sent since."""
        self._begun = False
        """Whether there has been a wait."""

    @property
    def waiting(self) -> bool:
        """Whether something waits for the client."""
        return self._since is not None

    def wait(self, now: float, left: int = 0) -> float:
        """Begin to wait, unless it is so already; return when it is time to judge."""
        if self._since is None:
            self._since = now
            if not self._begun:
                self._begun = True
                self.taken += left
        return self._since + max(0, self._bounds.write_timeout - self._waited)

    def wait_for_the_rest(self, now: float, transport: Any) -> float:
        """Begin to wait for a client to take what is left, and close; return when it is time to judge."""
        deadline = self.wait(now, untaken(transport))
        return deadline if unsent(transport) else now + LINGER

    def sent(self, size: int) -> None:
        """Count what is sent, whether the kernel takes it or it has to wait."""
        if self._begun:
            self.taken += size

    def go_on(self, now: float) -> float:
        """End a wait, if there is one; return how long it was."""
        if self._since is None:
            return 0.0
        wait, self._since = now - self._since, None
        self._waited += wait
        return wait

    def judge(self, now: float, left: int = 0) -> float | None:
        """Return when to judge again, of a client that is fast enough; None of one that is not."""
        since = now if self._since is None else self._since
        if self.taken - left < max(1, self._bounds.min_rate * (self._waited + now - since)):
            return None
        self._since, self._waited, self.taken, self._begun = None, 0.0, 0, False
        return self.wait(now, left)


def wait_or_cut(connection: Connection, pace: Pace | None, now: float) -> float:
    """Return until when a connection may still wait for its client; cut one whose client is too slow."""
    left = unsent(connection.transport)
    deadline = pace.judge(now, untaken(connection.transport)) if pace and left else None
    if deadline is not None:
        return deadline
    if left:
        log.info("http.stalled", peer=address_text(connection.client), unsent=left)
    connection.abort()
    return inf


def unsent(transport: Any) -> int:
    """Return how many bytes wait for the client in our memory, below whatever wraps the socket."""
    bottom = socket_of(transport)
    return 0 if bottom is None else bottom.unsent


def untaken(transport: Any) -> int:
    """Return how many bytes the client has not taken: those in our memory, and those in the kernel's."""
    bottom = socket_of(transport)
    return 0 if bottom is None else bottom.untaken


def socket_of(transport: Any) -> SocketTransport | None:
    """Return the transport on the socket, below whatever wraps it; None where there is no such."""
    while not isinstance(transport, SocketTransport):
        inner = getattr(transport, "transport", None)
        if inner is None or inner is transport:
            return None
        transport = inner
    return transport
