"""The body of a request while it arrives: right from the socket into memory where that can be, or to disk."""

from __future__ import annotations

from functools import partial
from io import BytesIO
from math import inf
from typing import IO, TYPE_CHECKING

from halfsync.http.head import Refused
from halfsync.http.rate import Pace
from halfsync.http.upload import NoRoom, Small, Upload
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from halfsync.http.h1 import H1
    from halfsync.http.stream import RequestHead


log = get_logger(__name__)

AT_ONCE = 64 * 1024
"""Bytes of a body that is taken in one piece when it has come with its head."""

FREE = 1024
"""Bytes of one that counts for nothing."""


class Arrival:
    """A body on its way; the client is judged by its rate, and is not blamed for our disk."""

    __slots__ = ("_body", "_connection", "flushing", "head", "pace")

    def __init__(self, connection: H1, head: RequestHead) -> None:
        context = connection.context
        self.head = head
        self.pace = Pace(context.bounds)
        self.flushing = False
        """Whether it is being written to the disk; nothing is read meanwhile."""
        self._connection = connection
        self._body = Upload(context.segments, context.upload_disk, head.length, connection)

    def begin(self) -> None:
        """Ask for the body, or refuse it, if the client waits to be asked.

        :raises Refused: with what the application says instead.
        """
        connection, head = self._connection, self.head
        if not connection.parser.ahead:
            # A client that has sent some of it does not wait (RFC 9110 section 10.1.1).
            if head.version == "HTTP/1.1" and head.special.get("expect", "").lower() == "100-continue":
                code = connection.context.refusal(head, connection.client)
                if code is not None:
                    raise Refused(code, "the application does not want the body")
                connection.outgoing.send(b"HTTP/1.1 100 Continue\r\n\r\n")
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
        self.head.trailers = self._connection.parser.take_trailers()
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
        socket, left = self._connection.outgoing.socket, self._connection.parser.left
        if socket is None or self.head.length is None or not left:
            return
        room = self._body.room()
        if room is None:
            self._flush(self._read_into)
        else:
            socket.sink = room[:left]

    def _flush(self, then: Callable[[], None]) -> None:
        """Write to the disk, in a thread; then go on. How long that takes is not the client's fault."""
        connection = self._connection
        self.flushing = True
        connection.deadline = inf
        connection.transport.pauseProducing()
        connection.context.disk_thread.make(self._body.to_disk, partial(self._flushed, then))

    def _flushed(self, then: Callable[[], None], error: OSError | None) -> None:
        connection = self._connection
        self.flushing = False
        if connection.closing:
            self.close()
        elif error is not None:
            log.warning("http.spool_failed", problem=str(error))
            connection.refuse(503)
        else:
            self.pace = Pace(connection.context.bounds)
            connection.deadline = self.pace.wait(connection.context.seconds())
            connection.transport.resumeProducing()
            connection.read_on(then)


def at_once(connection: H1, head: RequestHead) -> IO[bytes] | None:
    """Return the body of a request that has none, or whose body has come with its head; else None.

    :raises NoRoom: when there is no memory for it.
    """
    length = head.length
    if length == 0:
        return BytesIO()
    parser, memory = connection.parser, connection.context.memory
    if length is None or length > min(parser.ahead, AT_ONCE):
        return None
    data = parser.rest()
    if length <= FREE:
        return BytesIO(data)
    if not memory.take(length, connection):
        raise NoRoom("the memory for requests and responses is full")
    return Small(data, memory, connection)
