"""The client's end of a websocket, in memory."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Self

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from halfsync.in_memory.exchange import Unanswered

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted.internet.task import Clock

    from halfsync.in_memory.exchange import Transport

CUT = 1006
"""What a websocket that ended without a Close is said to have ended by (RFC 6455 section 7.4.1)."""


class WebSocket:
    """A websocket that is open; leaving it as a context closes it."""

    close_code: int | None = None
    """What the service has closed it by, once it has: 1006 when it was cut."""

    def __init__(self, target: str, headers: Mapping[str, str], transport: Transport, clock: Clock) -> None:
        """Open it.

        :raises ConnectionRefusedError: when the answer is another one; it says which.
        :raises ImportError: without wsproto, which is an extra (`websocket`).
        """
        try:
            import wsproto  # noqa: PLC0415  an extra
        except ImportError as error:
            raise ImportError(f"{error}: websockets need it: `pip install wsproto`") from error
        self._events = wsproto.events
        self._end = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        self._transport = transport
        self._clock = clock
        self._messages: deque[str | bytes] = deque()
        self._parts: list[Any] = []
        """Of a message that is not whole yet."""
        self._open = False
        fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        host = headers.get("Host", "localhost")
        others = [each for each in fields if each[0].lower() != b"host"]
        self._say(self._events.Request(host=host, target=target, extra_headers=others))
        self._hear()
        if not self._open:
            raise Unanswered(f"{target}: the websocket is neither opened nor refused")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, message: str | bytes) -> None:
        """Send a message.

        :raises EOFError: when the websocket is closed.
        """
        if not self._open:
            raise EOFError(f"the websocket is closed: {self.close_code}")
        events = self._events
        self._say(events.TextMessage(message) if isinstance(message, str) else events.BytesMessage(message))

    def receive(self) -> str | bytes:
        """Return the next message of the service.

        :raises EOFError: when there is none, and the service has closed the websocket.
        :raises Unanswered: when there is none yet.
        """
        self._hear()
        if self._messages:
            return self._messages.popleft()
        if not self._open:
            raise EOFError(f"the websocket is closed: {self.close_code}")
        raise Unanswered("no message has come; have happen what the service waits for")

    def close(self, code: int = 1000) -> None:
        """Say goodbye; messages that have come can still be received."""
        self._hear()
        if self._open:
            self._say(self._events.CloseConnection(code=code))
            self._hear()
            self._ended(CUT)

    def _say(self, event: Any) -> None:
        self._transport.protocol.dataReceived(self._end.send(event))

    def _hear(self) -> None:
        while True:
            self._clock.advance(0)
            data = self._transport.take()
            if not data:
                break
            self._end.receive_data(data)
            for event in self._end.events():
                self._take(event)
        if self._open and (self._transport.aborted or self._transport.disconnecting):
            self._ended(CUT)

    def _take(self, event: Any) -> None:
        events = self._events
        if isinstance(event, events.AcceptConnection):
            self._open = True
        elif isinstance(event, events.RejectConnection):
            raise ConnectionRefusedError(f"the websocket was refused: {event.status_code}")
        elif isinstance(event, events.Message):
            self._parts.append(event.data)
            if event.message_finished:
                whole: str | bytes = type(event.data)().join(self._parts)
                self._parts.clear()
                self._messages.append(whole if isinstance(whole, str) else bytes(whole))
        elif isinstance(event, events.Ping):
            self._say(event.response())
        elif isinstance(event, events.CloseConnection):
            if self._end.state.name == "REMOTE_CLOSING":
                self._say(event.response())
            self._ended(event.code)

    def _ended(self, code: int) -> None:
        if self._open:
            self._open = False
            self.close_code = code
            self._transport.protocol.connectionLost(Failure(ConnectionDone()))
