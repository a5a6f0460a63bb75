"""What a request of twisted.web finds as its channel: the stream, seen from above."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from twisted.internet.error import ConnectionDone
from twisted.internet.task import cooperate
from twisted.python.failure import Failure

from halfsync.http.context import REASONS, describe
from halfsync.http.stream import ResponseHead
from halfsync.http.taken_over import TakenOver
from halfsync.http.websocket.connection import Websocket
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from twisted.web.http import Request
    from twisted.web.http_headers import Headers

    from halfsync.http.stream import Stream
    from halfsync.http.wsgi.trailers import Trailers

log = get_logger(__name__)

CONTROL = dict.fromkeys((*range(9), *range(10, 32), 127), " ")
"""Control characters of a head become spaces (RFC 9110 section 5.5)."""

UNKNOWN = b"Unknown Status"
"""What twisted.web says of a status that is not in its list."""


class Channel:
    """The channel of one request."""

    factory = None
    """Whatever is one logs requests for twisted.web; ours are logged by their stream."""

    def __init__(self, stream: Stream, site: Any) -> None:
        self.stream: Stream | None = stream
        """None once it is answered, or lost, or given to another handler."""
        self.site = site
        self.request: Request | None = None
        self._head: ResponseHead | None = None
        self.trailers: Trailers | None = None
        """What follows the body, for a client that takes it."""
        self._begun = False
        self._sent = 0
        """Bytes of the body."""
        self._trimmed = False
        self._producer: Any = None
        self._pulling: Any = None
        stream.responder = self

    @property
    def open_stream(self) -> Stream:
        """The stream.

        :raises RuntimeError: when it is over.
        """
        if self.stream is None:
            raise RuntimeError("the request is over")
        return self.stream

    # The request calls these.

    def getPeer(self) -> Any:
        """Return the client's address."""
        return self.open_stream.client

    def getHost(self) -> Any:
        """Return our address."""
        return self.open_stream.local

    def isSecure(self) -> bool:
        """Say whether the client has used TLS."""
        return self.stream is not None and self.stream.secure

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        """Take the head of a response; it goes out with the first bytes of the body, or soon."""
        del version
        # Of all that a resource may say, twisted.web looks for line breaks everywhere but here.
        text = b" ".join(reason.splitlines()).decode("latin-1").translate(CONTROL)
        if reason == UNKNOWN:
            # twisted.web's list is older than 422, 429 and 451.
            text = REASONS.get(int(code), text)
        head = ResponseHead(int(code), text)
        head.has_date = head.has_request_id = True
        for name, values in headers.getAllRawHeaders():
            lower = name.lower()
            for value in values:
                if lower == b"content-length":
                    head.length = int(value) if value.isdigit() else None
                elif lower in {b"connection", b"keep-alive"}:
                    head.close = head.close or b"close" in value.lower()
                elif lower != b"transfer-encoding":
                    text = value.decode("latin-1")
                    head.fields.append((name.decode("latin-1"), text.translate(CONTROL)))
        self._head = head
        if self.trailers is not None and self.stream is not None and self.stream.has_body(head.code):
            head.trailers = self.trailers.names
        if self.stream is not None:
            self.stream.context.reactor.callLater(0, self._begin)

    def write(self, data: bytes) -> None:
        """Send a piece of the body, as far as there is to be one: what is more would be the next response."""
        data = self._fitting(data)
        if data and not self._begun:
            self._begin(data)
        elif data and self.stream is not None:
            self.stream.write(data)

    def writeSequence(self, pieces: Iterable[bytes]) -> None:
        """Send pieces of the body."""
        self.write(b"".join(pieces))

    def requestDone(self, request: Request) -> None:
        """End the response."""
        del request
        if self._head is not None and self._head.trailers:
            self._begin()
        stream, self.stream, head = self.stream, None, self._head
        if stream is None:
            return
        if head is None or not _is_final(head.code):
            # After an interim status given as the final one, client and server would wait for each other.
            log.error("http.resource_failed", request=describe(stream), status=head and head.code)
            stream.refuse(500)
        elif head.length is not None and self._sent < head.length and stream.has_body(head.code):
            # A client that waits for the rest would take the next response for it.
            log.error("http.body_short", request=describe(stream), declared=head.length, sent=self._sent)
            stream.fail()
        elif self._begun:
            self._finish(stream)
        else:
            if head.length is None and stream.has_body(head.code):
                head.length = 0
            stream.answer(head)

    def registerProducer(self, producer: Any, streaming: bool) -> None:  # noqa: FBT001  IConsumer has it so
        """Pause and resume a producer as the client takes what is written; ask one that does not push."""
        self._producer = producer
        if not streaming:
            self._pulling = cooperate(self._pull(producer))

    def unregisterProducer(self) -> None:
        """Do without the producer: everything is written."""
        self._producer = self._pulling = None

    def loseConnection(self) -> None:
        """End the response after what has been written."""
        stream, self.stream = self.stream, None
        if stream is not None:
            stream.cut_short()

    def abortConnection(self) -> None:
        """Break the response off, so that the client can tell."""
        stream, self.stream = self.stream, None
        if stream is not None:
            stream.fail()

    forceAbortClient = abortConnection

    def refuse(self, code: int) -> None:
        """Answer a request that cannot be read."""
        stream, self.stream = self.stream, None
        if stream is not None:
            head, body = stream.context.plain(code)
            head.close = True
            stream.answer(head, body)

    def _respondToBadRequestAndDisconnect(self) -> None:
        """Refuse a form that is none; twisted.web's requests call this."""
        self.refuse(400)

    @property
    def transport(self) -> Any:
        """The transport below, which a handler may take over for another protocol; it sets None then."""
        return getattr(getattr(self.stream, "connection", None), "transport", None) or self

    @transport.setter
    def transport(self, other: Any) -> None:
        stream, self.stream = self.stream, None
        if other is None and stream is not None:
            TakenOver(cast("Any", stream).connection)

    def _protocolUpgradeForWebsockets(self, protocol: Any) -> None:
        """Give the transport to a websocket; twisted.web's resource for them calls this."""
        stream, self.stream = self.stream, None
        if stream is not None:
            connection = cast("Any", stream).connection
            Websocket(connection, protocol)

    # The stream calls these.

    def gone(self) -> None:
        """Tell the request that there is no client."""
        self.stream = None
        producer = self._producer
        self.unregisterProducer()
        if producer is not None:
            producer.stopProducing()
        if self.request is not None:
            self.request.connectionLost(Failure(ConnectionDone()))

    def pause(self) -> None:
        """Have the producer wait."""
        if self._pulling is not None:
            self._pulling.pause()
        elif self._producer is not None:
            self._producer.pauseProducing()

    def resume(self) -> None:
        """Have the producer go on."""
        if self._pulling is not None:
            self._pulling.resume()
        elif self._producer is not None:
            self._producer.resumeProducing()

    def _begin(self, data: bytes = b"") -> None:
        if self._head is None or self._begun or self.stream is None:
            return
        if not _is_final(self._head.code):
            self.requestDone(cast("Any", None))
            return
        self._begun = True
        self.stream.begin(self._head, data)

    def _fitting(self, data: bytes) -> bytes:
        head, stream = self._head, self.stream
        if head is None or stream is None or not data:
            return data
        if not stream.has_body(head.code):
            return b""
        if head.length is not None and len(data) > head.length - self._sent:
            if not self._trimmed:
                self._trimmed = True
                log.error("http.body_trimmed", request=describe(stream), declared=head.length)
            data = data[: head.length - self._sent]
        self._sent += len(data)
        return data

    def _finish(self, stream: Stream) -> None:
        trailers: list[tuple[str, str]] = []
        if self.trailers is not None and self._head is not None and self._head.trailers:
            try:
                trailers = self.trailers.fields()
            except Exception:
                log.exception("http.resource_failed", request=describe(stream))
                stream.fail()
                return
        stream.finish(trailers)

    def _pull(self, producer: Any) -> Iterator[None]:
        while self._producer is producer:
            producer.resumeProducing()
            yield


def _is_final(code: int) -> bool:
    return 200 <= code <= 999
