"""Room in an account that is empty: the worst holder is cut.

The worst is the client that holds most with all its connections together, and of those the one that holds
most: by connection alone, one honest upload would go before a thousand connections that hold a little each.
A client that needs room and is the worst itself is refused, and nobody cut for it.
"""

from __future__ import annotations

from operator import itemgetter
from threading import get_ident
from typing import TYPE_CHECKING, Any
from weakref import ref

from halfsync.endpoints.addresses import address_text
from halfsync.endpoints.seldom import Seldom

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Hashable

    from halfsync.http.account import Account, Holder
    from halfsync.http.connections import Connections

PAUSE = 0.05
"""Seconds between two looks at all holders, at least."""

A_HOLDER = 0.000_02
"""Seconds of the pause for each of them, of which there may be thousands: a look costs a twentieth of it."""

SPARE = 64
"""The part of the limit that is made free at once, for what comes in the pause."""

MOST_CUT = 100
"""Connections that are cut at a look."""

_held: Callable[[tuple[Holder, int]], int] = itemgetter(1)


class Relief:
    """Of one account; made in the reactor's thread.

    :param kind: `memory` or `disk`, for log and counts.
    :param counts: how many connections were cut for what.
    """

    def __init__(
        self, account: Account, kind: str, *, connections: Connections, reactor: Any, counts: Counter[str]
    ) -> None:
        self._account = account
        self._kind = kind
        self._connections = connections
        self._reactor = reactor
        self._counts = counts
        self._log = Seldom(reactor)
        self._home = get_ident()
        self._next_look = 0.0
        self._clients: dict[Hashable, list[tuple[ref[Holder], int]]] = {}
        """What was found at the last look, less those that were cut since."""
        self._totals: dict[Hashable, int] = {}
        """What each client holds of it."""
        self._asked = False
        self._cut: set[Holder] = set()
        """Whose bytes a thread still has, or the disk."""

    def __call__(self, holder: Holder, size: int) -> bool:
        """Make room for so many bytes, for a connection; say whether there may be some.

        In another thread than the reactor's it says no, and has room made for the next one.
        """
        if get_ident() == self._home:
            return self._make_room(holder, size)
        if not self._asked:
            self._asked = True
            self._reactor.callFromThread(self._later, holder, size)
        return False

    def _later(self, holder: Holder, size: int) -> None:
        self._asked = False
        self._make_room(holder, size)

    def _make_room(self, holder: Holder, size: int) -> bool:
        account = self._account
        wanted = max(size, account.limit // SPARE) - (account.limit - account.taken) - self._coming()
        if wanted > 0:
            self._look()
        clients, totals = self._clients, self._totals
        for _ in range(MOST_CUT):
            if wanted <= 0 or not totals:
                break
            worst = max(totals, key=totals.__getitem__)
            known, held = clients[worst][-1]
            each = known()
            if each is holder and holder is not None:
                # It is the worst itself.
                break
            clients[worst].pop()
            totals[worst] -= held
            if not clients[worst]:
                del totals[worst]
            held = account.held_by(each)
            if each is not None and held:
                wanted -= held
                self._end(each, held)
        return True

    def _coming(self) -> int:
        """Return how many bytes come back from connections that were cut."""
        held = {each: self._account.held_by(each) for each in self._cut}
        self._cut = {each for each, size in held.items() if size}
        return sum(held.values())

    def _look(self) -> None:
        """Find the open connections that hold something by their clients, the largest last."""
        now = self._reactor.seconds()
        if now < self._next_look:
            return
        cut, client_of = self._cut, self._connections.client_of
        held_by = self._account.holders()
        self._next_look = now + max(PAUSE, A_HOLDER * len(held_by))
        found: dict[Hashable, list[tuple[Holder, int]]] = {}
        for pair in held_by.items():
            each = pair[0]
            if each not in cut:
                client: Hashable = client_of(each) or id(each)
                known = found.get(client)
                if known is None:
                    found[client] = [pair]
                else:
                    known.append(pair)
        self._clients, self._totals = {}, {}
        for whose, connections in found.items():
            connections.sort(key=_held)
            # Kept until the next look, however far off that is.
            self._clients[whose] = [(ref(each), held) for each, held in connections[-MOST_CUT:]]
            self._totals[whose] = sum(map(_held, connections))

    def _end(self, connection: Holder, held: int) -> None:
        self._counts[self._kind] += 1
        self._cut.add(connection)
        peer = address_text(connection.client)
        self._log.warning("http.holder_cut", account=self._kind, peer=peer, held=held)
        connection.abort()
