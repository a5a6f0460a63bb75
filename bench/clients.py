"""Clients that count the requests they lose: HTTP/1.1 and HTTP/2, on kept connections and on new ones.

None asks twice, but where the protocol says that the server has not begun: what was sent on an open
connection and not answered by a whole 200 is lost.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]

PATIENCE = 20.0
"""Seconds after which a request without an answer is lost."""

CLIENTS = 6
"""Of each kind; of HTTP/2 there are half as many, each with several requests at a time."""

STREAMS = 4
"""Requests at a time on a connection of HTTP/2."""


@dataclass
class Count:
    """What the clients met with."""

    requests: int = 0
    again: int = 0
    """What the server has not begun and said so: to be sent again."""
    slowest: float = 0.0
    lost: list[str] = field(default_factory=list)

    def answered(self, begun: float) -> None:
        """Count a request."""
        self.requests += 1
        self.slowest = max(self.slowest, time.monotonic() - begun)

    def lose(self, begun: float, error: Exception) -> None:
        """Count one that got no whole answer."""
        self.lost.append(f"after {time.monotonic() - begun:.3f} s: {error!r}")


class Clients:
    """Load on one listener over HTTP/1.1, until it is stopped."""

    number = CLIENTS

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._stopping = False
        self.kept = Count()
        self.fresh = Count()
        self._tasks = [asyncio.create_task(self._go_on(self.kept, close=False)) for _ in range(self.number)]
        self._tasks += [asyncio.create_task(self._go_on(self.fresh, close=True)) for _ in range(self.number)]

    async def stop(self) -> None:
        """Let every client finish its request."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def _go_on(self, count: Count, *, close: bool) -> None:
        while not self._stopping:
            try:
                reader, writer = await asyncio.wait_for(self._connect(), PATIENCE)
            except (OSError, TimeoutError) as error:
                count.lost.append(f"connect: {error!r}")
                continue
            try:
                await self._use(reader, writer, count, close=close)
            finally:
                writer.close()

    async def _use(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: Count, *, close: bool
    ) -> None:
        """Ask once, or until the server closes the connection, as it may after an answer or in between."""
        while not self._stopping:
            await _pause()
            if reader.at_eof():
                return
            begun = time.monotonic()
            try:
                async with asyncio.timeout(PATIENCE):
                    last = await _ask(reader, writer, close=close)
            except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError) as error:
                count.lose(begun, error)
                return
            count.answered(begun)
            if last or close:
                return


async def _pause() -> None:
    # Shorter than the grace that a drain gives to idle connections: beyond it, closing and asking
    # can cross, and no HTTP/1.1 server can help that.
    await asyncio.sleep(random.uniform(0, 0.1))  # noqa: S311  no secret


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, close: bool) -> bool:
    """Send a request and read the whole answer; return whether it is the connection's last.

    :raises ValueError: when it is not 200.
    """
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n" + (b"Connection: close\r\n" if close else b"") + b"\r\n")
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if not head.startswith(b"http/1.1 200 "):
        raise ValueError(head.split(b"\r\n")[0])
    length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
    await reader.readexactly(length)
    return b"connection: close" in head


class H2Clients(Clients):
    """The same over HTTP/2, several requests at a time on each connection."""

    number = CLIENTS // 2

    async def _use(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: Count, *, close: bool
    ) -> None:
        connection = H2(reader, writer)
        reading = asyncio.create_task(connection.read())
        await asyncio.gather(*(self._ask(connection, count, close=close) for _ in range(STREAMS)))
        if connection.leaving and count.requests % 2:
            # Half of them hang up once they have what they asked for, the others leave that to the server.
            try:
                await asyncio.wait_for(asyncio.shield(reading), PATIENCE)
            except TimeoutError:
                count.lost.append("a connection is still open after its GOAWAY")
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading

    async def _ask(self, connection: H2, count: Count, *, close: bool) -> None:
        while not self._stopping:
            await _pause()
            if connection.leaving:
                return
            begun = time.monotonic()
            try:
                # wait_for would ask in a task of its own, after another look at the connection is due.
                async with asyncio.timeout(PATIENCE):
                    answered = await connection.ask()
            except (OSError, TimeoutError, ValueError) as error:
                count.lose(begun, error)
                return
            if answered:
                count.answered(begun)
            else:
                count.again += 1
            if close:
                return


class Session(H2Connection):
    """hyper-h2 that goes on after a GOAWAY: what was asked before is still to be answered."""

    def _receive_goaway_frame(self, frame: Any) -> tuple[list[Any], list[Event]]:
        event = ConnectionTerminated()
        event.error_code, event.last_stream_id = frame.error_code, frame.last_stream_id
        return [], [event]


class H2:
    """A connection of HTTP/2 that follows RFC 9113 section 6.8.

    After a GOAWAY it begins no stream. Those above the last one that the server names, and those that it
    refuses, were not begun and may be sent again; all others must be answered.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.leaving = False
        """Whether no more can be asked."""
        self._reader = reader
        self._writer = writer
        self._session = Session(H2Configuration(client_side=True))
        self._answers: dict[int, asyncio.Future[bool]] = {}
        self._session.initiate_connection()
        self._send()

    async def ask(self) -> bool:
        """Ask, and return whether it was answered; False: it may be sent again.

        :raises OSError: when it was lost.
        :raises ValueError: when the answer is not 200.
        """
        number = self._session.get_next_available_stream_id()
        head = {":method": "GET", ":scheme": "http", ":authority": "x", ":path": "/"}
        self._session.send_headers(number, list(head.items()), end_stream=True)
        self._send()
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            return await answer
        finally:
            del self._answers[number]

    async def read(self) -> None:
        """Read to the end."""
        end: Exception = ConnectionError("the server has closed the connection")
        try:
            while data := await self._reader.read(65536):
                for event in self._session.receive_data(data):
                    self._hear(event)
                self._send()
        except (OSError, ProtocolError) as error:
            end = ConnectionError(repr(error))
        self.leaving = True
        for number in self._answers:
            self._settle(number, end)

    def _hear(self, event: Event) -> None:
        if isinstance(event, ResponseReceived):
            status = dict(event.headers or ())[b":status"]
            if status != b"200":
                self._settle(event.stream_id or 0, ValueError(status))
        elif isinstance(event, DataReceived):
            self._session.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
        elif isinstance(event, StreamEnded):
            self._settle(event.stream_id or 0, True)  # noqa: FBT003  the answer
        elif isinstance(event, StreamReset):
            refused = event.error_code == ErrorCodes.REFUSED_STREAM
            self._settle(event.stream_id or 0, False if refused else ConnectionError(f"reset: {event}"))
        elif isinstance(event, ConnectionTerminated):
            self.leaving = True
            for number in self._answers:
                if number > (event.last_stream_id or 0):
                    self._settle(number, False)  # noqa: FBT003  the answer

    def _settle(self, number: int, outcome: bool | Exception) -> None:  # noqa: FBT001  what `ask` returns
        answer = self._answers.get(number)
        if answer is None or answer.done():
            return
        if isinstance(outcome, Exception):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)

    def _send(self) -> None:
        self._writer.write(self._session.data_to_send())


def h2_over_tls() -> ssl.SSLContext:
    """Agree on HTTP/2, and take any certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context
