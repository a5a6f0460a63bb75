"""Which of a peer's addresses is asked next: the less loaded of two drawn at random, without the outliers.

"Least loaded of two" is as good as asking all of them, and does not send everyone to one newcomer
(Mitzenmacher, The Power of Two Choices). An address that fails five times in a row is left out for a while,
but never more than half of them: when all fail, it is not the addresses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from halfsync.client.errors import NoAddress

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from random import Random

C = TypeVar("C")

FAILURES = 5
"""In a row, before an address is ejected."""

EJECTED, LONGEST = 10.0, 120.0
"""Seconds of the first ejection; each next one is twice as long, up to the second figure."""


class Address(NamedTuple):
    """Where a peer listens."""

    host: str
    """A name or an IP address; the path of a UNIX socket."""
    port: int
    """0 for a UNIX socket."""

    def __str__(self) -> str:
        if not self.port:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(eq=False, slots=True)
class Member(Generic[C]):
    """One address of the peer, with what connects to it."""

    address: Address
    connector: C
    outstanding: int = 0
    """Calls under way."""
    failures: int = 0
    """In a row."""
    ejected_until: float = 0.0
    ejections: int = field(default=0)


class Balancer(Generic[C]):
    """The addresses of one peer."""

    def __init__(
        self, connect: Callable[[Address], C], *, seconds: Callable[[], float], random: Random
    ) -> None:
        """Balance; `connect` makes what reaches an address, once for each."""
        self.members: list[Member[C]] = []
        self._connect = connect
        self._seconds = seconds
        self._random = random

    def replace(self, addresses: Iterable[Address]) -> list[C]:
        """Take the peer's present addresses; return the connectors of those that are gone."""
        before = {member.address: member for member in self.members}
        wanted = list(dict.fromkeys(addresses))
        self.members = [before.get(each) or Member(each, self._connect(each)) for each in wanted]
        return [before[each].connector for each in before.keys() - wanted]

    def pick(self, avoid: Collection[Address] = ()) -> Member[C]:
        """Return the member to ask; one that was tried before only when there is no other.

        :raises NoAddress: when the peer has none.
        """
        if not self.members:
            raise NoAddress("the peer has no address")
        now = self._seconds()
        present = [each for each in self.members if each.ejected_until <= now] or self.members
        candidates = [each for each in present if each.address not in avoid] or present
        if len(candidates) == 1:
            return candidates[0]
        drawn = self._random.sample(candidates, 2)
        return min(drawn, key=lambda member: member.outstanding)

    def record(self, member: Member[C], *, ok: bool) -> None:
        """Take note of how a call to a member ended."""
        if ok:
            member.failures = member.ejections = 0
            return
        member.failures += 1
        now = self._seconds()
        ejected = sum(each.ejected_until > now for each in self.members)
        if member.failures >= FAILURES and (ejected + 1) * 2 <= len(self.members):
            member.ejected_until = now + min(LONGEST, EJECTED * 2**member.ejections)
            member.ejections += 1
            member.failures = 0
