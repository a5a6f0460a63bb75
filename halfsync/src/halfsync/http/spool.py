"""Bodies that wait, in memory or on the disk, so that no worker thread does.

A response waits for its client, as with nginx and waitress:
once an application has made it, its thread has better things to do.
A request waits until it is there in whole.
"""

from __future__ import annotations

import os
from io import BytesIO
from tempfile import TemporaryFile
from threading import Lock
from typing import IO

from halfsync.logs import get_logger

log = get_logger(__name__)


class Space:
    """How much memory, or disk, all responses together may take, in bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0
        self._lock = Lock()

    def take(self, size: int) -> bool:
        """Take room for so many bytes, if there is any."""
        with self._lock:
            if self.taken + size > self.limit:
                return False
            self.taken += size
            return True

    def give_back(self, size: int) -> None:
        """Return room that was taken."""
        with self._lock:
            self.taken -= size

    def open(self) -> Spool | None:
        """Make a spool; None when there is to be none, or the disk does not allow one."""
        if self.taken >= self.limit:
            return None
        try:
            return Spool(self)
        except OSError as error:
            log.warning("http.spool_failed", problem=str(error))
            return None


class Upload(BytesIO):
    """The body of a request, in memory as long as there is room for it."""

    def __init__(self, space: Space) -> None:
        super().__init__()
        self._space = space
        self._size = 0

    def add(self, data: bytes) -> IO[bytes]:
        """Put data behind what is there; return what holds it from now on: this, or a file without a name.

        :raises OSError: when the disk does not allow one.
        """
        if self._space.take(len(data)):
            self._size += len(data)
            self.write(data)
            return self
        file: IO[bytes] = TemporaryFile()  # noqa: SIM115  lives with the request
        with self.getbuffer() as before:
            file.write(before)
        file.write(data)
        self.close()
        return file

    def close(self) -> None:
        """Give the room back."""
        self._space.give_back(self._size)
        self._size = 0
        super().close()


class Held:
    """A body that the application made in one piece: it stays in memory, where it is already."""

    def __init__(self, space: Space, data: bytes) -> None:
        """Hold data for which room has been taken."""
        self._space = space
        self._size = len(data)
        self.rest = memoryview(data)
        """What has not been taken."""

    def take(self, size: int) -> bytes:
        """Return the next bytes, at most `size`; none when all are taken."""
        data = bytes(self.rest[:size])
        self.skip(size)
        return data

    def skip(self, size: int) -> None:
        """Count bytes as taken."""
        self.rest = self.rest[size:]

    def close(self) -> None:
        """Give the room back."""
        self._space.give_back(self._size)
        self._size = 0
        self.rest = memoryview(b"")


class Spool:
    """The rest of one response: a thread appends to it while the reactor takes from it."""

    def __init__(self, space: Space) -> None:
        """Make a file without a name in the folder for temporary ones.

        :raises OSError: when there is no room or no right for it.
        """
        self._space = space
        self._file = TemporaryFile(buffering=0)  # noqa: SIM115  lives until close
        self._lock = Lock()
        self._written = 0
        self._taken = 0
        self._reserved = 0

    def append(self, data: bytes) -> bool:
        """Put data behind what is there, all or nothing; say whether there was room."""
        with self._lock:
            if self._file.closed or not self._space.take(len(data)):
                return False
            self._reserved += len(data)
            rest = memoryview(data)
            end = self._written
            try:
                while rest:
                    written = os.pwrite(self._file.fileno(), rest, end)
                    rest = rest[written:]
                    end += written
            except OSError as error:
                log.warning("http.spool_failed", problem=str(error))
                return False
            self._written = end
            return True

    def take(self, size: int) -> bytes:
        """Return the next bytes, at most `size`; none when all that was appended is taken."""
        with self._lock:
            data = os.pread(self._file.fileno(), min(size, self._written - self._taken), self._taken)
            self._taken += len(data)
            return data

    def close(self) -> None:
        """Give everything back."""
        with self._lock:
            if not self._file.closed:
                self._file.close()
                self._space.give_back(self._reserved)
