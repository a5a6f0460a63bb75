"""The body of a request while it arrives: right from the socket into memory where that can be, or to disk."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from halfsync.http.rate import Pace
from halfsync.http.upload import Upload

if TYPE_CHECKING:
    from collections.abc import Callable

    from halfsync.http.connection import H1Connection
    from halfsync.http.stream import RequestHead


class Arrival:
    """A body on its way; the client is judged by its rate, and is not blamed for our disk."""

    __slots__ = ("_body", "_connection", "flushing", "head", "pace")

    def __init__(self, connection: H1Connection, head: RequestHead) -> None:
        context = connection.context
        self.head = head
        self.pace = Pace(context.bounds)
        self.flushing = False
        """Whether it is being written to the disk; nothing is read meanwhile."""
        self._connection = connection
        self._body = Upload(context.segments, context.upload_disk, head.length)

    def begin(self) -> None:
        """Ask for the body if the client waits to be asked."""
        connection, head = self._connection, self.head
        if not connection.parser.ahead:
            # A client that has sent some of it does not wait (RFC 9110 section 10.1.1).
            if head.version == "HTTP/1.1" and head.special.get("expect", "").lower() == "100-continue":
                connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._read_into()

    def add(self, data: memoryview) -> None:
        """Take a piece.

        :raises OSError: when there is no room for it.
        """
        rest = self._body.add(data)
        if rest:
            self._flush(partial(self.add, rest))
        elif not self._connection.parser.ahead:
            self._read_into()

    def sank(self, count: int) -> None:
        """Count bytes that were read into the body, and have the request answered after the last one.

        :raises OSError: when there is no room for more.
        """
        parser = self._connection.parser
        self.pace.taken += count
        self._body.took(count)
        parser.took(count)
        if parser.left:
            self._read_into()
        else:
            self.complete()

    def complete(self) -> None:
        """Have the request answered: the body has arrived to its last byte."""
        if self._body.on_disk:
            self._flush(self._handle)
        else:
            self._handle()

    def close(self) -> None:
        """Drop it: the client is gone, or refused."""
        if not self.flushing:
            self._body.close()

    def _handle(self) -> None:
        self._connection.handle(self.head, self._body.whole())

    def _read_into(self) -> None:
        """Have the next bytes read into the body, if its length is known, and the transport can."""
        socket, left = self._connection.socket, self._connection.parser.left
        if socket is None or self.head.length is None or not left:
            return
        room = self._body.room()
        if room is None:
            self._flush(self._read_into)
        else:
            socket.sink = room[:left]

    def _flush(self, then: Callable[[], None]) -> None:
        """Write to the disk, in a thread; then go on."""
        self.flushing = True
        self._connection.hold()
        self._connection.context.disk_thread.make(self._body.to_disk, partial(self._flushed, then))

    def _flushed(self, then: Callable[[], None], error: Any) -> None:
        self.flushing = False
        self._connection.flushed(self, then, error)
