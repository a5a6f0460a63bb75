"""The body of a request, while it arrives and is read: in memory as long as there is room, then on disk.

The socket is read into segments of memory that are used again: fresh memory costs more than the bytes that
come into it (1 MB uploads: 0.6 of the time).
"""

from __future__ import annotations

import io
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from halfsync.http.account import Account, Holder

SEGMENT = 256 * 1024

START = 16 * 1024
"""The first segment of a body whose length is not known."""

NOTHING = memoryview(b"")

KEPT = 64
"""Segments that are kept for the next bodies: 16 MiB."""


class NoRoom(OSError):  # noqa: N818  a state, which the client is told as 503
    """Neither memory nor disk has room for a body."""


class Segments:
    """Memory for bodies, within what all requests and responses may hold; for any thread."""

    def __init__(self, memory: Account) -> None:
        self._memory = memory
        self._free: list[memoryview] = []

    def take(self, size: int, holder: Holder) -> memoryview | None:
        """Return so many bytes of memory, if there is room for a connection."""
        if not self._memory.take(size, holder):
            return None
        if size == SEGMENT and self._free:
            return self._free.pop()
        return memoryview(bytearray(size))

    def give_back(self, segments: Sequence[memoryview], holder: Holder) -> None:
        """Return memory that was taken."""
        self._memory.give_back(sum(map(len, segments)), holder)
        if len(self._free) < KEPT:
            self._free.extend(each for each in segments if len(each) == SEGMENT)


class Small(io.BytesIO):
    """A body that arrived in one piece with its head."""

    def __init__(self, data: bytes, memory: Account, holder: Holder) -> None:
        """Hold a body for which room has been taken."""
        super().__init__(data)
        self._size, self._memory, self._holder = len(data), memory, holder

    def close(self) -> None:
        """Give the room back."""
        self._memory.give_back(self._size, self._holder)
        self._size = 0
        super().close()


class Upload(io.RawIOBase):
    """A body; `room` and `took`, or `add`, until it is `whole`.

    :param length: what the client declares; None for a chunked body.
    :param holder: the connection in whose name there is room taken.
    """

    def __init__(self, segments: Segments, disk: Account, length: int | None, holder: Holder) -> None:
        super().__init__()
        self._holder = holder
        self._segments = segments
        self._disk = disk
        self._length = length
        self._parts: list[memoryview] = []
        self._filled = 0
        """Bytes of the last part."""
        self._before = 0
        """Bytes of those before it."""
        self._file: io.FileIO | None = None
        self._written = 0
        self._position = 0

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return self._written + self._before + self._filled

    @property
    def on_disk(self) -> bool:
        """Whether it has outgrown the memory, so that `to_disk` is needed before it is whole."""
        return self._file is not None

    def room(self) -> memoryview | None:
        """Return where the next bytes may be put; None when `to_disk` has to make room first.

        :raises NoRoom: when there is not even memory for a first piece.
        """
        parts = self._parts
        if parts and self._filled < len(parts[-1]):
            return parts[-1][self._filled :]
        if parts and self._file is not None:
            # What is on the disk already goes on there, by way of one segment.
            return None
        if self._length is not None:
            want = min(SEGMENT, self._length - self.size)
        else:
            want = SEGMENT if parts else START
        segment = self._segments.take(want, self._holder)
        if segment is None:
            if not parts:
                raise NoRoom("the memory for requests and responses is full")
            return None
        self._before += self._filled
        self._filled = 0
        parts.append(segment)
        return segment

    def took(self, count: int) -> None:
        """Count bytes that are in the room given."""
        self._filled += count

    def add(self, data: memoryview) -> memoryview:
        """Take bytes; return what has to wait for a `to_disk`."""
        if self._parts:
            last, end = self._parts[-1], self._filled + len(data)
            if end <= len(last):
                last[self._filled : end] = data
                self._filled = end
                return NOTHING
        while data and (room := self.room()) is not None:
            count = min(len(room), len(data))
            room[:count] = data[:count]
            self.took(count)
            data = data[count:]
        return data

    def to_disk(self) -> None:
        """Write what is in memory to the disk; for any thread, while nothing else is done to the body.

        :raises OSError: when the disk does not take it.
        """
        if self._file is None:
            self._file = self._make_file()
        size = self._before + self._filled
        if not self._disk.take(size, self._holder):
            raise NoRoom("the disk space for requests is full")
        self._written += size
        for part in self._parts:
            rest = part if part is not self._parts[-1] else part[: self._filled]
            while rest:
                rest = rest[self._file.write(rest) :]
        self._segments.give_back(self._parts[:-1], self._holder)
        del self._parts[:-1]
        self._before = self._filled = 0

    def whole(self) -> IO[bytes]:
        """Return what an application may read; on the disk only after a last `to_disk`."""
        if self._file is not None:
            self._file.seek(0)
            return io.BufferedReader(self)
        return cast("IO[bytes]", InMemory(self))

    # io.RawIOBase.

    def close(self) -> None:
        """Give everything back."""
        parts, self._parts = self._parts, []
        self._segments.give_back(parts, self._holder)
        if self._file is not None:
            # It may be closed twice.
            if not self._file.closed:
                self._file.close()
                self._disk.give_back_file()
            self._disk.give_back(self._written, self._holder)
            self._written = 0
        super().close()

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can be read again."""
        return True

    def readinto(self, target: Any, /) -> int:
        """Read on."""
        if self._file is not None:
            return self._file.readinto(target) or 0
        part, offset = self._find(self._position)
        count = min(len(target), self.size - self._position, len(part) - offset)
        if count <= 0:
            return 0
        target[:count] = part[offset : offset + count]
        self._position += count
        return count

    def readall(self) -> bytes:
        """Read the rest."""
        return self._file.read() if self._file is not None else self.taken(self.size)

    def taken(self, size: int) -> bytes:
        """Read so many bytes of what is in memory, or all that are left.

        :raises ValueError: when it is closed.
        """
        if self.closed:
            raise ValueError("the body of the request is closed: its response has ended")
        size = min(size, self.size - self._position)
        pieces = []
        while size > 0:
            part, offset = self._find(self._position)
            piece = bytes(part[offset : offset + size])
            pieces.append(piece)
            self._position += len(piece)
            size -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go somewhere else."""
        if self._file is not None:
            return self._file.seek(offset, whence)
        self._position = max(0, offset + (0, self._position, self.size)[whence])
        return self._position

    def _make_file(self) -> io.FileIO:
        if not self._disk.take_file():
            raise NoRoom("too many requests are on the disk")
        try:
            return TemporaryFile(buffering=0)
        except OSError:
            self._disk.give_back_file()
            raise

    def _find(self, position: int) -> tuple[memoryview, int]:
        """Return the part that holds a position, and where in it that is."""
        for part in self._parts:
            if position < len(part):
                return part, position
            position -= len(part)
        return memoryview(b""), 0


class InMemory(io.BufferedIOBase):
    """A body in memory, as an application reads it: what it asks for is copied once.

    A BufferedReader copies in pieces of its own size, by several calls each: 1 MB in blocks of 64 KiB took
    150 microseconds, and takes 50. It is needed for lines, and then for the rest.
    """

    def __init__(self, upload: Upload) -> None:
        self._upload = upload
        self._lines: io.BufferedReader | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        """Read so many bytes; without a number all that are left."""
        if self._lines is not None:
            return self._lines.read(size)
        return self._upload.readall() if size is None or size < 0 else self._upload.taken(size)

    def read1(self, size: int = -1, /) -> bytes:
        """Do the same: all of it is there."""
        return self.read(size)

    def readline(self, size: int | None = -1, /) -> bytes:
        """Read a line."""
        if self._lines is None:
            self._lines = io.BufferedReader(self._upload)
        return self._lines.readline(-1 if size is None else size)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go somewhere else."""
        return (self._lines or self._upload).seek(offset, whence)

    def tell(self) -> int:
        """Return where it is."""
        return (self._lines or self._upload).tell()

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can be read again."""
        return True

    def close(self) -> None:
        """Give everything back."""
        (self._lines or self._upload).close()
        super().close()
