"""A file as the body of a response that the kernel sends (`sendfile(2)`): no byte of it is in our memory.

The thread that has opened the file goes on at once; the reactor sends a window of it whenever the client has
taken the one before. What the disk has to fetch first is fetched in a thread, so that the reactor never waits
for a disk, or for a file server that hangs.
"""

from __future__ import annotations

import os
from functools import partial
from io import BufferedReader, FileIO
from stat import S_ISREG
from typing import TYPE_CHECKING, Any

from halfsync.endpoints.send_queue import FilePiece
from halfsync.http.context import describe
from halfsync.http.wsgi.file_part import FilePart
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from halfsync.http.account import Account
    from halfsync.http.stream import ResponseHead, Stream

log = get_logger(__name__)

SMALL = 64 * 1024
"""Bytes of a file that is read: it costs less to send it together with its head."""

WINDOW = 1024 * 1024
"""Bytes that are handed to the transport at a time."""

A_LOOK = 256 * 1024
"""Bytes between two places of a window that are looked at; the kernel reads ahead in such parts."""

A_READ = 128 * 1024


class OpenFile:
    """A descriptor of our own, from a place in a file on; counted among those of responses."""

    def __init__(self, descriptor: int, offset: int, left: int, account: Account) -> None:
        self.offset = offset
        self.left = left
        self._account = account
        self._file = FileIO(os.dup(descriptor))

    def fileno(self) -> int:
        """Return the descriptor.

        :raises ValueError: when it is closed.
        """
        return self._file.fileno()

    def close(self) -> None:
        """Be done with it; may be called again."""
        if not self._file.closed:
            self._file.close()
            self._account.give_back_file()


def file_to_send(given: Any, head: ResponseHead, stream: Stream) -> OpenFile | None:
    """Return what an application gave `wsgi.file_wrapper`, if the kernel is to send it as the whole body."""
    if head.length is None or head.length <= SMALL or not (stream.has_body(head.code) and stream.sends_files):
        return None
    return open_file(given, head.length, stream.context.disk)


def open_file(given: Any, length: int, account: Account) -> OpenFile | None:
    """Return a file that the kernel can send; None of anything else.

    It has to be a plain file of which just so much is left: what only looks like one (`gzip.GzipFile` has the
    number of the packed file) is read by its own method, as is what is shorter or longer than was declared.
    """
    part = type(given) is FilePart
    file = given.file if part else given
    raw = file.raw if type(file) is BufferedReader else file
    if type(raw) is not FileIO or raw.closed:
        return None
    try:
        offset, status = file.tell(), os.fstat(raw.fileno())
        left = given.left if part else status.st_size - offset
        if not S_ISREG(status.st_mode) or left != length or offset + left > status.st_size:
            return None
        if not account.take_file():
            return None
        try:
            return OpenFile(raw.fileno(), offset, left, account)
        except OSError:
            account.give_back_file()
            return None
    except OSError:
        return None


class FileSender:
    """Sends one; the responder of its stream. In the reactor."""

    def __init__(self, stream: Stream, head: ResponseHead, file: OpenFile) -> None:
        self._stream = stream
        self._file = file
        self._declared = file.left
        self._paused = False
        self._fetching = False
        """Whether a thread is at the disk."""
        self._over = False
        self._waits = False
        """Whether the next window is sent soon."""
        stream.responder = self
        stream.begin(head)
        self._go_on()

    def gone(self) -> None:
        """Give up: there is no client."""
        self._over = True
        if not self._fetching:
            self._file.close()

    def pause(self) -> None:
        """Wait for the client."""
        self._paused = True

    def resume(self) -> None:
        """Go on: the client has taken what was sent."""
        self._paused = False
        self._go_on()

    def _go_on(self) -> None:
        """Send the next window, unless there is something to wait for."""
        if self._over or self._paused or self._fetching or self._waits:
            return
        file = self._file
        size = min(file.left, WINDOW)
        if _at_hand(file, size):
            self._send(size)
        else:
            self._fetching = True
            self._stream.context.file_thread.make(partial(_fetch, file, size), partial(self._fetched, size))

    def _send(self, size: int) -> None:
        file, stream = self._file, self._stream
        at, file.offset = file.offset, file.offset + size
        file.left -= size
        last = not file.left
        self._over = last
        stream.write_file(FilePiece(file, at, size, last=last))
        if last:
            # The queue closes the file when it is sent.
            stream.finish()
        else:
            self._waits = True
            stream.context.reactor.callLater(0, self._next)

    def _next(self) -> None:
        self._waits = False
        self._go_on()

    def _fetched(self, size: int, error: OSError | None) -> None:
        self._fetching = False
        if self._over:
            self._file.close()
        elif error is not None:
            self._break_off(str(error))
        elif os.fstat(self._file.fileno()).st_size < self._file.offset + size:
            self._break_off("it is shorter than it was")
        else:
            self._send(size)
            self._go_on()

    def _break_off(self, problem: str) -> None:
        """End the response so that the client can tell."""
        sent = self._declared - self._file.left
        request = describe(self._stream)
        log.error("wsgi.file_failed", request=request, declared=self._declared, sent=sent, problem=problem)
        self.gone()
        self._stream.fail()


def _at_hand(file: OpenFile, size: int) -> bool:
    """Say whether the kernel has a window of a file in memory, as far as some places of it tell."""
    byte = [bytearray(1)]
    try:
        for at in (*range(file.offset, file.offset + size, A_LOOK), file.offset + size - 1):
            if not os.preadv(file.fileno(), byte, at, os.RWF_NOWAIT):
                return False
    except OSError:
        # It would have to wait, or cannot tell, as file servers and tmpfs.
        return False
    return True


def _fetch(file: OpenFile, size: int) -> None:
    """Have the kernel read a window of a file into memory; in a thread.

    :raises OSError: when the disk cannot.
    """
    room, at, end = [bytearray(A_READ)], file.offset, file.offset + size
    while at < end and (count := os.preadv(file.fileno(), room, at)):
        at += count
