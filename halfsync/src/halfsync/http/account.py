"""What the connections of a listener hold, in memory or on the disk: one account for each, with a limit.

Whatever holds bytes for a client takes room for them first, in the name of its connection, and gives it back.
What is in buffers before anything can be asked (heads that have come in part, what waits to be sent) is
weighed instead, as it grows: a connection counts for what it has taken, or for what it weighs, whichever is
more, as what waits to be sent is mostly an answer for which room was taken. What TLS holds comes on top, and
what HTTP/2 has not read yet, or remembers.
When there is no room, `relief` may make some.
"""

from __future__ import annotations

from heapq import nlargest
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Holder = Any
    """A connection; None where nobody needs to know."""


class Account:
    """For any thread.

    :param limit: bytes.
    :param most_files: open files that may be made of it, where it is one of a disk.
    """

    def __init__(self, limit: int, *, most_files: int = 1 << 30) -> None:
        self.limit = limit
        self.taken = 0
        """Bytes."""
        self.files = 0
        """Files that are open."""
        self.most_files = most_files
        self.relief: Callable[[Holder, int], bool] | None = None
        """Told who needs how many bytes; says whether there may be room now. Called in any thread."""
        self._reserved: dict[Holder, int] = {}
        self._buffers: dict[Holder, int] = {}
        self._tls: dict[Holder, int] = {}
        self._kept: dict[Holder, int] = {}
        self._lock = Lock()

    @property
    def full(self) -> bool:
        """Whether there is no room at all."""
        return self.taken >= self.limit

    def take(self, size: int, holder: Holder = None) -> bool:
        """Take room for so many bytes, if there is any, or any can be made."""
        if self._take(size, holder):
            return True
        relief = self.relief
        return relief is not None and relief(holder, size) and self._take(size, holder)

    def give_back(self, size: int, holder: Holder = None) -> None:
        """Return room that was taken."""
        with self._lock:
            self._change(self._reserved, self._buffers, holder, -size)

    def weigh(self, holder: Holder, size: int) -> None:
        """Note how many bytes a connection has in buffers at the moment, for the reactor's thread."""
        with self._lock:
            self._change(self._buffers, self._reserved, holder, size - self._buffers.get(holder, 0))
        if self.taken > self.limit and self.relief is not None:
            # It is there already, so it may be this one that is cut.
            self.relief(None, 0)

    def weigh_tls(self, holder: Holder, size: int) -> None:
        """Note what TLS holds for a connection at the moment, beside all else; for the reactor's thread."""
        self._weigh_beside(self._tls, holder, size)

    def weigh_kept(self, holder: Holder, size: int) -> None:
        """Note what a connection keeps of what has come, beside all else; likewise."""
        self._weigh_beside(self._kept, holder, size)

    def _weigh_beside(self, sums: dict[Holder, int], holder: Holder, size: int) -> None:
        with self._lock:
            self.taken += size - sums.pop(holder, 0)
            if size:
                sums[holder] = size
        if self.taken > self.limit and self.relief is not None:
            self.relief(None, 0)

    def weighed(self) -> list[Holder]:
        """Return who has something in buffers."""
        return list(self._buffers)

    def room_for(self, holder: Holder) -> bool:
        """Say whether a new request finds room, be it that some is made for it."""
        return not self.full or (self.relief is not None and self.relief(holder, 1) and not self.full)

    def take_file(self) -> bool:
        """Count a file that is going to be made, if one more may be."""
        with self._lock:
            if self.files >= self.most_files:
                return False
            self.files += 1
            return True

    def give_back_file(self) -> None:
        """Count a file that was closed."""
        with self._lock:
            self.files -= 1

    def held_by(self, holder: Holder) -> int:
        """Return how many bytes a connection counts for."""
        own = max(self._reserved.get(holder, 0), self._buffers.get(holder, 0))
        return own + self._tls.get(holder, 0) + self._kept.get(holder, 0)

    def holders(self) -> dict[Holder, int]:
        """Return who holds how many bytes."""
        with self._lock:
            found = dict(self._reserved)
            # There may be thousands.
            known = found.get
            found.update({each: size for each, size in self._buffers.items() if size > known(each, 0)})
            for sums in (self._tls, self._kept):
                for each, size in sums.items():
                    found[each] = known(each, 0) + size
        found.pop(None, None)
        return found

    def largest(self, count: int) -> list[tuple[Holder, int]]:
        """Return those that hold most, the worst first."""
        return nlargest(count, self.holders().items(), key=_size)

    def _take(self, size: int, holder: Holder) -> bool:
        with self._lock:
            if self.taken + size > self.limit:
                return False
            self._change(self._reserved, self._buffers, holder, size)
            return True

    def _change(self, sums: dict[Holder, int], others: dict[Holder, int], holder: Holder, more: int) -> None:
        before, other = sums.get(holder, 0), others.get(holder, 0)
        after = before + more
        self.taken += max(after, other) - max(before, other)
        if after:
            sums[holder] = after
        else:
            sums.pop(holder, None)


def _size(pair: tuple[Holder, int]) -> int:
    return pair[1]
