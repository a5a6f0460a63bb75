"""What waits to be sent on a connection: pieces in order, hardly any of them copied, and windows of files."""

from __future__ import annotations

import os
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from socket import socket

TURN = 1024 * 1024
"""Bytes that a connection may send before the others have their turn."""

PIECES = 64
"""Of those that wait, so many are handed to the kernel together; IOV_MAX is 1024."""


COPIED = 64 * 1024
"""Bytes of the rest of a piece up to which it may be copied."""


class SentFile(Protocol):
    """A file, as the queue knows it."""

    def fileno(self) -> int:
        """Return its descriptor; ValueError when it is closed."""

    def close(self) -> None:
        """Be done with it; may be called again."""


class FilePiece:
    """A window of a file."""

    __slots__ = ("_last", "_size", "file", "offset")

    def __init__(self, file: SentFile, offset: int, size: int, *, last: bool) -> None:
        """Name a window.

        :param last: whether the file is closed once it is sent.
        """
        self.file = file
        self.offset = offset
        self._size = size
        self._last = last

    def __len__(self) -> int:
        return self._size

    def drop(self, count: int) -> None:
        """Go on behind so many bytes that have been sent."""
        self.offset += count
        self._size -= count
        if self._last and not self._size:
            self.file.close()


def send_window(sock: socket, piece: FilePiece) -> int:
    """Send of a window of a file what the kernel takes; return how many bytes.

    :raises OSError: as a socket does; BlockingIOError for "not now".
    :raises ValueError: when the file is closed, or has become shorter: the response cannot be completed.
    """
    sent = os.sendfile(sock.fileno(), piece.file.fileno(), piece.offset, min(len(piece), TURN))
    if not sent:
        raise ValueError("the file is shorter than it was")
    return sent


def rest_of(piece: bytes | memoryview, count: int) -> bytes | memoryview:
    """Return what follows so many bytes of a piece.

    A short rest of a long one is copied: a view keeps all of it in memory, and counts for the rest alone.
    """
    rest = memoryview(piece)[count:]
    if len(rest) <= COPIED and 2 * len(rest) < memoryview(rest.obj).nbytes:
        return bytes(rest)
    return rest


class SendQueue:
    """Pieces of bytes, and how many bytes they are."""

    __slots__ = ("_pieces", "in_files", "size")

    def __init__(self) -> None:
        self._pieces: deque[bytes | memoryview | FilePiece] = deque()
        self.size = 0
        self.in_files = 0
        """Those that are in no memory of ours."""

    def add(self, data: bytes | memoryview | FilePiece) -> None:
        """Put a piece behind the others."""
        self._pieces.append(data)
        self.size += len(data)
        if type(data) is FilePiece:
            self.in_files += len(data)

    @property
    def file(self) -> FilePiece | None:
        """The first piece, if that is a window of a file; there must be one."""
        piece = self._pieces[0]
        return piece if type(piece) is FilePiece else None

    def turn(self) -> list[bytes | memoryview]:
        """Return the first pieces, within what a turn allows; there must be one, and it of bytes."""
        pieces: list[bytes | memoryview] = []
        room = TURN
        for piece in islice(self._pieces, PIECES):
            if isinstance(piece, FilePiece):
                break
            pieces.append(piece if len(piece) <= room else memoryview(piece)[:room])
            room -= len(piece)
            if room <= 0:
                break
        return pieces

    def drop(self, count: int) -> None:
        """Let go of so many bytes that have been sent: of a window of a file, or of bytes."""
        pieces = self._pieces
        self.size -= count
        first = pieces[0]
        if isinstance(first, FilePiece):
            self.in_files -= count
            first.drop(count)
            if not first:
                pieces.popleft()
            return
        while pieces and count >= len(pieces[0]):
            count -= len(pieces.popleft())
        if count:
            pieces[0] = rest_of(cast("bytes", pieces[0]), count)

    def close(self) -> None:
        """Close the files of which something waits: nobody takes it any more."""
        for piece in self._pieces:
            if isinstance(piece, FilePiece):
                piece.file.close()
