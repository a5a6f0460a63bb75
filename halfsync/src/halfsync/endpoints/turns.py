"""Whose turn it is, where more connections are ready than can be served in a turn of the reactor.

A thousand connections of one client, each with 16 KiB to be read, take 50 ms, and a client of one connection
waited for all of them at each of its requests. So clients take turns, and then the connections of a client.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable


class Turns:
    """Descriptors with what is ready of them, by whose they are."""

    def __init__(self) -> None:
        self._ready: dict[int, int] = {}
        self._queues: dict[Hashable, deque[int]] = {}
        """Whose turn it is comes first."""

    def __bool__(self) -> bool:
        """Say whether any waits."""
        return bool(self._queues)

    def add(self, share: Hashable, fd: int, event: int) -> None:
        """Have a descriptor wait for its turn, behind the others of its share, unless it does so already."""
        ready = self._ready
        if fd in ready:
            ready[fd] |= event
            return
        ready[fd] = event
        queue = self._queues.get(share)
        if queue is None:
            self._queues[share] = deque((fd,))
        else:
            queue.append(fd)

    def forget(self, fd: int) -> None:
        """Have it wait no more: it may be closed, and its number another's."""
        self._ready.pop(fd, None)

    def next(self) -> tuple[int, int] | None:
        """Return whose turn it is, and what is ready of it; None when nothing waits."""
        while self._queues:
            share = next(iter(self._queues))
            queue = self._queues.pop(share)
            fd = queue.popleft()
            if queue:
                self._queues[share] = queue
            event = self._ready.pop(fd, 0)
            if event:
                return fd, event
        return None
