"""Server-sent events (WHATWG HTML, section 9.2): one stream of events to every client that listens.

    prices = process.add(EventStream("prices", reactor=process.reactor))
    ...                                                      # its `resource` is mounted at a path
    prices.publish("42.17", event="tick")                    # in the reactor; threads: publish_from_thread

A client that comes back says what it saw last (`Last-Event-ID`) and gets what it missed, if that is kept.
A client that does not take its events is cut once too much waits for it: the others do not wait.
When the process drains, every stream ends at once, so that a stop takes a moment and not the whole drain;
clients come back by themselves, to the next process.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IPushProducer
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from halfsync.life.parts import Part
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

log = get_logger(__name__)

HEARTBEAT = 15.0
"""Seconds after which a comment is sent, so that proxies and clients see that the stream lives."""


class EventStream(Part):
    """A part of the process: what is published goes to all clients of its `resource`."""

    def __init__(
        self,
        name: str,
        *,
        reactor: Any,
        kept: int = 100,
        most_waiting: int = 64 * 1024,
        max_clients: int = 10_000,
        heartbeat: float = HEARTBEAT,
    ) -> None:
        """Begin with no event.

        :param kept: events for clients that come back.
        :param most_waiting: bytes that may wait for one client before it is cut.
        :param max_clients: more are answered 503.
        :param heartbeat: seconds between two comments.
        """
        super().__init__(name)
        self.resource = _Events(self)
        """A resource of twisted.web, to be mounted."""
        self.max_clients = max_clients
        self.most_waiting = most_waiting
        self._reactor = reactor
        self._heartbeat = heartbeat
        self._kept: deque[tuple[str, bytes]] = deque(maxlen=kept)
        self._clients: dict[_Client, None] = {}
        self._number = 0
        self._timer: IDelayedCall | None = None
        self._ending = False

    @property
    def clients(self) -> int:
        """How many listen."""
        return len(self._clients)

    def publish(self, data: str, *, event: str | None = None, event_id: str | None = None) -> None:
        """Send an event to all; for the reactor's thread.

        :param data: text of any number of lines.
        :param event: its type; clients take `message` for none.
        :param event_id: what a client says it saw last when it comes back; numbers by default.
        :raises ValueError: when type or id has a line break or a NUL, which would end or spoil the field.
        """
        self._number += 1
        name = str(self._number) if event_id is None else event_id
        for field, text in (("event", event or ""), ("event_id", name)):
            if any(character in text for character in "\r\n\0"):
                raise ValueError(f"{field}: {text!r} has a line break or a NUL byte")
        lines = [f"id: {name}"]
        if event is not None:
            lines.append(f"event: {event}")
        lines += [f"data: {line}" for line in data.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
        packet = ("\n".join(lines) + "\n\n").encode()
        self._kept.append((name, packet))
        for client in list(self._clients):
            client.send(packet)

    def publish_from_thread(
        self, data: str, *, event: str | None = None, event_id: str | None = None
    ) -> None:
        """Do as `publish` does, soon; for any thread."""
        self._reactor.callFromThread(self.publish, data, event=event, event_id=event_id)

    def missed(self, last: str) -> list[bytes]:
        """Return the events after the one with that id, as sent; all that are kept when that is not."""
        names = [name for name, _ in self._kept]
        start = len(names) - names[::-1].index(last) if last in names else 0
        return [packet for _, packet in list(self._kept)[start:]]

    def join(self, request: Any) -> None:
        """Send the events to come, and those that the client missed, as the response to a request."""
        client = _Client(self, request)
        self._clients[client] = None
        request.notifyFinish().addBoth(lambda _: self.leave(client))
        request.registerProducer(client, True)  # noqa: FBT003  Twisted's own signature
        last = request.getHeader(b"last-event-id")
        # It is sent as UTF-8 (HTML section 9.2.3); what is none is no event of ours.
        missed = [] if last is None else self.missed(last.decode("utf-8", "replace"))
        client.send(b": welcome\n\n" + b"".join(missed))
        if self._timer is None:
            self._timer = self._reactor.callLater(self._heartbeat, self._beat)

    def leave(self, client: _Client) -> None:
        """Forget a client."""
        self._clients.pop(client, None)

    @property
    def full(self) -> bool:
        """Whether no client may join now."""
        return self._ending or len(self._clients) >= self.max_clients

    async def drain(self) -> None:
        """End every stream."""
        self._end()

    async def stop(self) -> None:
        """End every stream."""
        self._end()

    def _end(self) -> None:
        self._ending = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        for client in list(self._clients):
            self.leave(client)
            client.end()

    def _beat(self) -> None:
        self._timer = None
        for client in list(self._clients):
            client.send(b":\n\n")
        if self._clients:
            self._timer = self._reactor.callLater(self._heartbeat, self._beat)


class _Events(Resource):
    """What a client asks for."""

    isLeaf = True

    def __init__(self, stream: EventStream) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted's own
        self._stream = stream

    def render_HEAD(self, request: Any) -> Any:
        """Answer with the head of a stream, and no place in it."""
        return self._head(request) or b""

    def render_GET(self, request: Any) -> Any:
        """Answer with a stream of events."""
        refusal = self._head(request)
        if refusal is None:
            self._stream.join(request)
        return NOT_DONE_YET if refusal is None else refusal

    def _head(self, request: Any) -> bytes | None:
        """Say what the answer is; return its body when it is no stream."""
        if self._stream.full:
            request.setResponseCode(503)
            request.setHeader(b"retry-after", b"5")
            return b"no more clients can listen now\n"
        request.setHeader(b"content-type", b"text/event-stream; charset=utf-8")
        request.setHeader(b"cache-control", b"no-store")
        # nginx would collect the events otherwise.
        request.setHeader(b"x-accel-buffering", b"no")
        return None


@implementer(IPushProducer)
class _Client:
    """One response, and what waits for its client."""

    def __init__(self, stream: EventStream, request: Any) -> None:
        self._stream = stream
        self._request = request
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._paused = False

    def send(self, packet: bytes) -> None:
        """Send an event now, or when the client has taken those before it."""
        if not self._paused:
            self._request.write(packet)
            return
        self._waiting.append(packet)
        self._size += len(packet)
        if self._size > self._stream.most_waiting:
            log.info("sse.client_cut", stream=self._stream.label, waiting=self._size)
            self._stream.leave(self)
            self._waiting.clear()
            self._request.loseConnection()

    def end(self) -> None:
        """End the response."""
        self._request.unregisterProducer()
        self._request.finish()

    def pauseProducing(self) -> None:
        """Wait: the client takes no more."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Go on: the client has taken what was written."""
        self._paused = False
        while self._waiting and not self._paused:
            packet = self._waiting.popleft()
            self._size -= len(packet)
            self._request.write(packet)

    def stopProducing(self) -> None:
        """Send nothing more: the client is gone."""
        self._waiting.clear()
        self._stream.leave(self)
