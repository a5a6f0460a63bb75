"""What waits to be sent on a connection: pieces in order, none of them copied."""

from __future__ import annotations

from collections import deque
from itertools import islice

TURN = 1024 * 1024
"""Bytes that a connection may send before the others have their turn."""

PIECES = 64
"""Of those that wait, so many are handed to the kernel together; IOV_MAX is 1024."""


class SendQueue:
    """Pieces of bytes, and how many bytes they are."""

    __slots__ = ("_pieces", "size")

    def __init__(self) -> None:
        self._pieces: deque[bytes | memoryview] = deque()
        self.size = 0

    def add(self, data: bytes | memoryview) -> None:
        """Put a piece behind the others."""
        self._pieces.append(data)
        self.size += len(data)

    def turn(self) -> list[bytes | memoryview]:
        """Return the first pieces, within what a turn allows; there must be one."""
        pieces: list[bytes | memoryview] = []
        room = TURN
        for piece in islice(self._pieces, PIECES):
            pieces.append(piece if len(piece) <= room else memoryview(piece)[:room])
            room -= len(piece)
            if room <= 0:
                break
        return pieces

    def drop(self, count: int) -> None:
        """Let go of so many bytes that have been sent."""
        pieces = self._pieces
        self.size -= count
        while pieces and count >= len(pieces[0]):
            count -= len(pieces.popleft())
        if count:
            pieces[0] = memoryview(pieces[0])[count:]
