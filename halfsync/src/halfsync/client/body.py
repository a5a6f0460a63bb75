"""Bodies in pieces, both ways, at the pace of the slower side.

A response is read by the code that iterates over it: while HIGH bytes wait, nothing is read from the peer.
`treq.collect` beside a slow reader took 676 MB. What is coded waits as it came, and is decoded as it
is taken.
"""

from __future__ import annotations

import zlib
from collections import deque
from typing import TYPE_CHECKING, Any, NoReturn

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from halfsync.client.errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from twisted.python.failure import Failure

    from halfsync.client.coding import Gunzip

HIGH = 256 * 1024
"""Bytes that wait to be taken before the peer is not read any more."""

IN_A_TURN = 16
"""Pieces of 64 KiB that are decoded before the reactor has a turn: 3 ms."""


class BodyReader(Protocol):
    """Takes the body of a response; iterate over it, or `abort` it."""

    def __init__(
        self, done: Callable[[bool], None], *, coding: Gunzip | None = None, reactor: Any = None
    ) -> None:
        """Read a body.

        :param done: called once, with whether it came whole.
        :param coding: what undoes how it is coded.
        """
        self._done: Callable[[bool], None] | None = done
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._paused = False
        self._ended = False
        self._error: Interrupted | None = None
        self._waiting: Deferred[None] | None = None
        self.is_decoded = coding is not None
        """Whether this is another body than came, of another length."""
        self._coding = coding
        self._reactor = reactor
        self._decoded = 0
        """How many pieces were decoded in this turn of the reactor."""

    def dataReceived(self, data: bytes) -> None:
        """Keep a piece; stop reading from the peer when enough wait."""
        self._pieces.append(data)
        self._held += len(data)
        if self._held >= HIGH and not self._paused:
            self._paused = True
            self._producer().pauseProducing()
        self._wake()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Note how the body ended: whole, by the connection's end (RFC 9112 6.3, item 8), or broken off."""
        self._ended = True
        if not reason.check(ResponseDone, PotentialDataLoss):
            self._error = Interrupted(f"the body was broken off: {reason.getErrorMessage()}")
        self._finish(ok=self._error is None)
        self._wake()

    async def read(self) -> bytes:
        """Return the next piece; nothing at the end.

        :raises Interrupted: when the peer broke the body off, or it is not coded as its head says.
        """
        while True:
            coding = self._coding
            if coding is not None and (piece := await self._decode(coding)):
                return piece
            data = await self._next()
            if coding is None:
                return data
            if not data:
                if coding.whole:
                    return data
                self._fail("the body was broken off: its gzip has no end")
            coding.feed(data)

    async def _decode(self, coding: Gunzip) -> bytes:
        self._decoded += 1
        if self._decoded > IN_A_TURN:
            await deferLater(self._reactor, 0)
            self._decoded = 0
        try:
            return coding.take()
        except zlib.error as error:
            self._fail(f"the body is no gzip: {error}")

    def _fail(self, problem: str) -> NoReturn:
        self.abort()
        self._error, self._coding = Interrupted(problem), None
        raise self._error

    async def _next(self) -> bytes:
        """Return the next piece as it came; nothing at the end."""
        while not self._pieces:
            if self._ended:
                if self._error is not None:
                    raise self._error
                return b""
            self._waiting = Deferred()
            self._decoded = 0
            await self._waiting
        data = self._pieces.popleft()
        self._held -= len(data)
        if self._paused and self._held < HIGH // 2:
            self._paused = False
            self._producer().resumeProducing()
        return data

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._iterate()

    async def _iterate(self) -> AsyncIterator[bytes]:
        while data := await self.read():
            yield data

    def abort(self) -> None:
        """Take nothing more: the connection to the peer is closed unless the body has come whole."""
        self._pieces.clear()
        self._held = 0
        if not self._ended and self.transport is not None:
            self._error = Interrupted("the reader did not take the whole body")
            self._ended = True
            self._producer().loseConnection()
            self._finish(ok=False)

    def _producer(self) -> Any:
        return self.transport

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)

    def _finish(self, *, ok: bool) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(ok)


@implementer(IBodyProducer)
class BytesBody:
    """A body that is there; it can be sent again."""

    def __init__(self, data: bytes) -> None:
        self.length = len(data)
        self._data = data

    def startProducing(self, consumer: Any) -> Deferred[None]:
        """Write it, whole: Twisted buffers it, and the caller held it anyway."""
        consumer.write(self._data)
        done: Deferred[None] = Deferred()
        done.callback(None)
        return done

    def pauseProducing(self) -> None:
        """Nothing is left to pause."""

    def resumeProducing(self) -> None:
        """Nothing is left to resume."""

    def stopProducing(self) -> None:
        """Nothing is left to stop."""


@implementer(IBodyProducer, IPushProducer)
class IteratorBody:
    """A body made piece by piece, by an iterator or an asynchronous one; it can be sent once."""

    def __init__(self, pieces: Iterator[bytes] | AsyncIterator[bytes], length: int | None = None) -> None:
        self.length: Any = UNKNOWN_LENGTH if length is None else length
        self._pieces = pieces
        self._resumed: Deferred[None] | None = None
        self._running: Deferred[None] | None = None

    def startProducing(self, consumer: Any) -> Deferred[None]:
        """Write piece after piece, as the connection takes them."""
        self._running = Deferred.fromCoroutine(self._produce(consumer))
        self._running.addErrback(lambda failure: None if failure.check(CancelledError) else failure)
        return self._running

    async def _produce(self, consumer: Any) -> None:
        if hasattr(self._pieces, "__aiter__"):
            async for piece in self._pieces:
                consumer.write(piece)
                await self._ready()
        else:
            for piece in self._pieces:
                consumer.write(piece)
                await self._ready()

    async def _ready(self) -> None:
        if self._resumed is not None:
            await self._resumed

    def pauseProducing(self) -> None:
        """Wait: the connection is full."""
        if self._resumed is None:
            self._resumed = Deferred()

    def resumeProducing(self) -> None:
        """Go on: the connection takes more."""
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            resumed.callback(None)

    def stopProducing(self) -> None:
        """Stop: the connection is gone, or the call was cancelled."""
        if self._running is not None:
            self._running.cancel()
