"""Responses as tests see them: whole, or piece by piece."""

from __future__ import annotations

import io
import json as json_module
import re
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self, cast

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from halfsync.in_memory.exchange import Unanswered

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from email.message import Message

    from twisted.internet.task import Clock

    from halfsync.in_memory.exchange import Transport
    from halfsync.in_memory.steps import Steps

_INTERIM = re.compile(rb"HTTP/1\.1 1(?!01)[0-9][0-9] ")
"""What comes ahead of a response: 103 Early Hints, which the standard library takes for the response."""


@dataclass(frozen=True, slots=True)
class Response:
    """A whole response."""

    status: int
    headers: Message
    """A mapping that ignores case; `get_all(name)` has every value of a repeated header."""
    body: bytes

    @property
    def text(self) -> str:
        """The body in the character set that its Content-Type names, or UTF-8."""
        return self.body.decode(self.headers.get_content_charset() or "utf-8")

    def json(self) -> Any:
        """Parse the body.

        :raises ValueError: when it is no JSON.
        """
        return json_module.loads(self.body)


def parse(method: str, data: bytes) -> Response:
    """Read a whole response.

    :raises ConnectionAbortedError: when it is none.
    """
    response = _begun(method, data)
    try:
        return Response(response.status, response.headers, response.read())
    except HTTPException as error:
        raise ConnectionAbortedError(f"{method}: the response is not whole: {data[:200]!r}") from error


def _begun(method: str, data: bytes) -> HTTPResponse:
    while _INTERIM.match(data):
        data = data.partition(b"\r\n\r\n")[2]
    # The standard library's parser reads the file that it makes of a socket, and asks for nothing else.
    received = SimpleNamespace(makefile=lambda _mode: io.BytesIO(data))
    response = HTTPResponse(cast("socket.socket", received), method=method)
    try:
        response.begin()
    except HTTPException as error:
        raise ConnectionAbortedError(f"{method}: the response is not whole: {data[:200]!r}") from error
    return response


class StreamedResponse:
    """A response whose body is read piece by piece; the application makes each when it is asked for.

    It is an iterator of bytes, and a context: leaving it early is a client that leaves.
    """

    status: int
    headers: Message
    """A mapping that ignores case."""

    def __init__(self, method: str, transport: Transport, clock: Clock, steps: Steps) -> None:
        """Wait for the head of the response to a request that has been sent."""
        self._method = method
        self._transport = transport
        self._clock = clock
        self._steps = steps
        self._over = False
        """Whether the exchange has ended: all has been read, or the client has left."""
        self._data = b""
        """What has come and is not read yet."""
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        """Return the next piece, as the application has handed it on.

        :raises ConnectionAbortedError: when the response is broken off.
        :raises Unanswered: when the handler waits for something; it can be asked again.
        """
        if not self._over:
            piece = self._chunk() if self._chunked else self._part()
            if piece:
                return piece
            self.close()
        raise StopIteration

    def close(self) -> None:
        """Leave. An application that is not at its end is told so at its next piece, and closed."""
        if self._over:
            return
        self._over = True
        self._transport.protocol.connectionLost(Failure(ConnectionDone()))
        while self._steps.go_on():
            pass

    def _begin(self) -> None:
        while True:
            head, end, rest = self._data.partition(b"\r\n\r\n")
            if not end:
                self._wait()
            elif _INTERIM.match(head):
                self._data = rest
            else:
                break
        self._data = rest
        response = _begun(self._method, head + end)
        self.status, self.headers = response.status, response.headers
        self._chunked = response.chunked
        self._left = response.length
        """Bytes of the body that are still to come; None when the end of the connection ends it."""

    def _chunk(self) -> bytes:
        # Nothing is taken before a chunk is whole: it can be asked for again.
        while b"\r\n" not in self._data:
            self._wait()
        line, _, rest = self._data.partition(b"\r\n")
        size = int(line.partition(b";")[0], 16)
        while len(rest) < size + 2:
            self._wait()
            rest = self._data[len(line) + 2 :]
        self._data = rest[size + 2 :]
        return rest[:size]

    def _part(self) -> bytes:
        if self._left == 0:
            return b""
        if not self._data:
            self._wait(may_end=self._left is None)
        piece, self._data = self._data[: self._left], b""
        if self._left is not None:
            self._left -= len(piece)
        return piece

    def _wait(self, *, may_end: bool = False) -> None:
        """Have more come."""
        transport = self._transport
        ready: Callable[[], bytes] = transport.take
        while True:
            # A resource of twisted.web's sends its head a turn of the reactor later.
            self._clock.advance(0)
            if data := ready():
                self._data += data
                return
            if transport.aborted or (transport.disconnecting and not may_end):
                raise ConnectionAbortedError(f"{self._method}: the response was broken off; the log says why")
            if transport.disconnecting:
                return
            if not self._steps.go_on() and not transport.value():
                if transport.aborted or transport.disconnecting:
                    continue
                raise Unanswered(f"{self._method}: the handler waits; have happen what it waits for")
