"""Responses on the disk, so that no worker thread waits.

Once an application has made a response, its thread has better things to do than to wait for a slow client,
as with nginx and waitress.
"""

from __future__ import annotations

import os
from tempfile import TemporaryFile
from threading import Lock
from typing import TYPE_CHECKING

from halfsync.logs import get_logger

if TYPE_CHECKING:
    from halfsync.http.account import Account, Holder

log = get_logger(__name__)


def open_spool(account: Account, holder: Holder) -> Spool | None:
    """Make a spool for a connection; None when there is to be none, or the disk does not allow one."""
    if account.full or not account.take_file():
        return None
    try:
        return Spool(account, holder)
    except OSError as error:
        account.give_back_file()
        log.warning("http.spool_failed", problem=str(error))
        return None


class Spool:
    """The rest of one response: a thread appends to it while the reactor takes from it.

    The lock is never held while the disk is written: where that hangs, it hangs for one thread.
    """

    def __init__(self, account: Account, holder: Holder) -> None:
        """Make a file without a name in the folder for temporary ones, which has been counted.

        :raises OSError: when there is no room or no right for it.
        """
        self._account = account
        self._holder = holder
        self._file = TemporaryFile(buffering=0)  # noqa: SIM115  lives until close
        self._lock = Lock()
        self._written = 0
        self._taken = 0
        self._reserved = 0
        self._writing = False
        self._closed = False

    def append(self, data: bytes) -> bool:
        """Put data behind what is there, all or nothing; say whether there was room."""
        if not self._account.take(len(data), self._holder):
            return False
        with self._lock:
            self._reserved += len(data)
            self._writing = not self._closed
            end = self._written
        if self._writing:
            rest = memoryview(data)
            try:
                while rest:
                    written = os.pwrite(self._file.fileno(), rest, end)
                    rest = rest[written:]
                    end += written
            except OSError as error:
                log.warning("http.spool_failed", problem=str(error))
        with self._lock:
            self._writing = False
            if self._closed:
                self._release()
            elif not rest:
                self._written = end
                return True
        return False

    def take(self, size: int) -> bytes:
        """Return the next bytes, at most `size`; none when all that was appended is taken."""
        data = os.pread(self._file.fileno(), min(size, self._written - self._taken), self._taken)
        self._taken += len(data)
        return data

    def close_if_empty(self) -> bool:
        """Close it when all is taken and nothing is being appended; say whether it is so."""
        with self._lock:
            if self._writing or self._taken < self._written:
                return False
        self.close()
        return True

    def close(self) -> None:
        """Give everything back, when the present `append` is over; what is appended later is refused."""
        with self._lock:
            self._closed = True
            if not self._writing:
                self._release()

    def _release(self) -> None:
        self._file.close()
        self._account.give_back_file()
        self._account.give_back(self._reserved, self._holder)
        self._reserved = 0
