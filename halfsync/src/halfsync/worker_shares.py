"""Fair shares of a pool between its clients, while they ask for more than it can do.

Without them, a client that asks ten times as often as another is served ten times as often.
A share is max-min fair: a client that asks for less gets all it asks for, and what it leaves is the others'.
It is worked out once a WINDOW, from how often each client has asked in the window before, and how many calls
were made in it; so it costs two additions a call, and only while there is an overload.
"""

from __future__ import annotations

from math import inf
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

WINDOW = 0.5
"""Seconds."""

MOST_CLIENTS = 10_000
"""Clients of a window that are told apart; those that come later have no bound in it."""


class Shares:
    """What each client has asked for, and got, of late."""

    def __init__(self) -> None:
        self.share = inf
        """Calls that a client may have in a window."""
        self._asked: dict[Hashable, int] = {}
        self._got: dict[Hashable, int] = {}
        """Calls within the shares."""
        self._made = 0
        """Calls of any client that threads have taken."""
        self._since = -inf

    def allows(self, client: Hashable) -> bool:
        """Count that a client asks for a call; say whether it is within its share; for the reactor."""
        now = monotonic()
        if now - self._since >= WINDOW:
            # After a pause nothing is known of who asks.
            recent = now - self._since < 2 * WINDOW
            self.share = level(self._asked.values(), self._made) if recent else inf
            self._asked, self._got, self._made, self._since = {}, {}, 0, now
        if client not in self._asked and len(self._asked) >= MOST_CLIENTS:
            return True
        self._asked[client] = self._asked.get(client, 0) + 1
        got = self._got.get(client, 0)
        # A share is had bit by bit: the first in a window would displace all others.
        if got > self.share * max(now - self._since, 0.001) / WINDOW:
            return False
        self._got[client] = got + 1
        return True

    def made(self, client: Hashable) -> None:
        """Count that a thread takes a call, if its client is known; for any thread.

        Two at a time may count one: it is no exact thing.
        """
        if client is not None:
            self._made += 1


def level(wanted: Iterable[int], total: int) -> float:
    """Return the most that each may have so that all together have `total`; `inf` when all may have all.

    One that is alone has nobody to share with.
    """
    ordered = sorted(wanted)
    if len(ordered) == 1:
        return inf
    for index, each in enumerate(ordered):
        fair = total / (len(ordered) - index)
        if each > fair:
            # At least one: a share of none would be no share.
            return max(1.0, fair)
        total -= each
    return inf
