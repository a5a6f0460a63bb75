"""Connections of which more has come than is read in a turn: how many heads of HTTP/2 that is, and whose.

Some bytes on the wire may be a head that costs 0.3 ms, and a thousand connections may send heads in the
same turn: with one head of each, a turn took 130 ms of the processor, and whoever came meanwhile waited for
several such turns.
So the connections of a listener share what is read in a turn. Where it does not suffice for all, clients take
turns, however many connections they have, and then the connections of a client.
"""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

A_READ = 16 * 1024
"""Bytes that are read of a connection in a turn: heads of a few bytes may each take 0.3 ms."""

HEADS = 16
"""Heads of a connection in a turn; what follows them is read after the others had theirs."""

ALL_HEADS = 64
"""Heads of all connections in a turn."""

LONGEST = 0.005
"""Seconds of a turn after which no other connection is read: with a head there may come 16 KiB of data."""


class Reader(Protocol):
    """A connection of which more has come than was read."""

    def take_turn(self) -> None:
        """Read on, no more than there may be in a turn."""


class ReadingOn:
    """The connections of a listener of which more has come than was read in a turn.

    :param client_of: says whose a connection is.
    :param time: in seconds.
    """

    def __init__(
        self, reactor: Any, client_of: Callable[[Any], Hashable], *, time: Callable[[], float] = monotonic
    ) -> None:
        self._time = time
        self._reactor = reactor
        self._client_of = client_of
        self._left = ALL_HEADS
        """Heads that may be read before the next turn."""
        self._waiting: dict[Hashable, deque[Reader]] = {}
        """By client; whose turn it is comes first."""
        self._call: Any = None

    @property
    def heads(self) -> int:
        """How many heads a connection may have read now; none when the turn has seen enough."""
        return min(HEADS, self._left)

    def spend(self, heads: int) -> None:
        """Count heads that were read."""
        self._left = max(0, self._left - heads)

    def add(self, connection: Reader) -> None:
        """Have a connection read on when it is its turn; it is not waiting already."""
        self._waiting.setdefault(self._client_of(connection), deque()).append(connection)
        if self._call is None:
            self._call = self._reactor.callLater(0, self._turn)

    def _turn(self) -> None:
        self._left = ALL_HEADS
        ends = self._time() + LONGEST
        try:
            # Not more often than connections wait now: one alone has HEADS, and leaves the reactor to others.
            for _ in range(sum(map(len, self._waiting.values()))):
                if not self._left or self._time() > ends:
                    break
                client = next(iter(self._waiting))
                connections = self._waiting.pop(client)
                connection = connections.popleft()
                if connections:
                    self._waiting[client] = connections
                connection.take_turn()
        finally:
            self._call = self._reactor.callLater(0, self._turn) if self._waiting else None
