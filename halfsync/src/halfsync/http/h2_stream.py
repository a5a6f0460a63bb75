"""One request of an HTTP/2 connection, and its response: what a connection of HTTP/1.1 is to `Request`."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, cast

from h2.errors import ErrorCodes
from twisted.internet._producer_helpers import _PullToPush
from twisted.internet.error import ConnectionAborted
from twisted.python.failure import Failure

from halfsync.http.access_log import printable
from halfsync.http.h2_head import CONNECTION_SPECIFIC, Head, Malformed
from halfsync.http.h2_session import DATA_CREDIT
from halfsync.http.head import LONGEST_NAME
from halfsync.http.rate import LINGER, Pace
from halfsync.http.request import Request, address_text, listed
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twisted.internet.interfaces import IAddress
    from twisted.web.http_headers import Headers

    from halfsync.http.h2 import H2Channel
    from halfsync.http.site import Site

log = get_logger(__name__)

BUFFER = 64 * 1024
"""Bytes that wait for the client before whoever makes them is paused."""

FRAME = 16 * 1024
"""Bytes of a body that a stream sends when it is its turn."""


class Stream:
    """One request and its response.

    Nothing is sent here before the connection gives the stream its turn: `send`.
    """

    def __init__(self, connection: H2Channel, number: int) -> None:
        self.connection = connection
        self.number = number
        self.site: Site = connection.site
        self.factory = self.site
        self.begun = self.site.reactor.seconds()
        self.deadline = self.begun + self.site.bounds.request_timeout
        self.closing = False
        """Nothing more of the request is read."""
        self.queued = False
        """Whether it waits for its turn."""
        self.request: Request | None = Request(cast("Any", self))
        """None once it is answered, or lost."""
        self._head: Head | None = None
        self._received = 0
        self._whole = False
        """Whether the request has arrived to its end."""
        self._lingering = False
        """Whether the response is sent to its end before that."""
        # The response.
        self._continue = False
        self._headers: list[tuple[bytes, bytes]] | None = None
        self._buffer = bytearray()
        self._ended = False
        self._reset: ErrorCodes | None = None
        self._producer: Any = None
        self._pulled = False
        self._paused = False
        self._pace = Pace(self.site.bounds)
        """How the client takes what has found its window shut."""

    @property
    def transport(self) -> Stream:
        """What a resource finds as its request's: the connection belongs to other requests, too."""
        return self

    # The connection calls these.

    def receive_head(self, headers: Iterable[tuple[bytes, bytes]], *, bodiless: bool) -> None:
        """Begin a request, or refuse it."""
        bounds = self.site.bounds
        try:
            head = self._head = Head.read(headers)
        except Malformed as reason:
            log.info("http.malformed", peer=address_text(self.getPeer()), header=printable(reason.args[0]))
            self.reset(ErrorCodes.PROTOCOL_ERROR, costly=True)
            return
        if len(head.target) > bounds.max_head:
            self.refuse(414)
        elif (
            head.size > bounds.max_head
            or len(head.fields) > bounds.max_headers
            or head.longest_name > LONGEST_NAME
        ):
            self.refuse(431)
        elif head.length is not None and head.length > bounds.max_body:
            self.refuse(413)
        else:
            self._begin(head, 0 if bodiless else head.length)

    def _begin(self, head: Head, length: int | None) -> None:
        request = self.request
        assert request is not None  # noqa: S101  it has just begun
        add = request.requestHeaders.addRawHeader
        for name, value in head.fields:
            add(name, value)
            if name == b"expect" and value.lower() == b"100-continue":
                self._continue = True
                self.connection.ready(self)
        request.parseCookies()
        request.gotLength(length)

    def receive_data(self, data: bytes) -> None:
        """Take a piece of the body."""
        if self.request is not None and not self.closing:
            self._received += len(data)
            self.request.handleContentChunk(data)

    def receive_end(self) -> None:
        """Have the request answered."""
        self._whole = True
        if self._lingering:
            self.connection.forget(self, answered=True)
        request, head = self.request, self._head
        if self.closing or request is None or head is None:
            return
        if head.length is None:
            if self._received:
                # It is known now, and the application is told as if the client had declared it.
                request.requestHeaders.setRawHeaders(b"Content-Length", [b"%d" % self._received])
        elif head.length != self._received:
            self.reset(ErrorCodes.PROTOCOL_ERROR, costly=True)
            return
        self._continue = False
        self.deadline = inf
        try:
            request.requestReceived(head.method, head.target, b"HTTP/2")
        except Exception:
            log.exception("http.request_failed", peer=address_text(self.getPeer()))
            self.reset(ErrorCodes.INTERNAL_ERROR)

    def lose(self, reason: Failure) -> None:
        """Tell everyone who is at the request that there is no client."""
        self.closing = True
        self.deadline = inf
        self._buffer.clear()
        request, self.request = self.request, None
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        if request is not None:
            request.connectionLost(reason)

    def expire(self, now: float) -> None:
        """Do what the deadline is for."""
        if self._lingering:
            self._reset = ErrorCodes.NO_ERROR
            self.deadline = inf
            self.connection.ready(self)
            return
        if not self._pace.waiting:
            self.refuse(408)
            return
        deadline = self._pace.judge(now)
        if deadline is not None:
            self.deadline = deadline
        else:
            log.info("http.stalled", peer=address_text(self.getPeer()), unsent=len(self._buffer))
            self.reset(ErrorCodes.CANCEL)

    def send(self) -> bool:
        """Send what the client will take, up to one frame of data; say whether another turn is wanted."""
        session = self.connection.session
        if self._reset is not None:
            self.connection.forget(self)
            session.reset_stream(self.number, self._reset)
            return False
        if self._continue:
            self._continue = False
            session.send_headers(self.number, [(b":status", b"100")])
        if self._headers is not None:
            headers, self._headers = self._headers, None
            session.send_headers(self.number, headers, end_stream=self._ended and not self._buffer)
            if not self._ended or self._buffer:
                return bool(self._buffer)
        elif self._buffer:
            return self._send_data()
        elif self._ended:
            session.end_stream(self.number)
        if self._ended:
            self._close()
        return False

    def _send_data(self) -> bool:
        session, buffer = self.connection.session, self._buffer
        window = session.local_flow_control_window(self.number)
        if window <= 0:
            self.deadline = self._pace.wait(self.site.reactor.seconds())
            return False
        data = bytes(buffer[: min(window, session.max_outbound_frame_size, FRAME)])
        del buffer[: len(data)]
        end = self._ended and not buffer
        session.send_data(self.number, data, end_stream=end)
        session.earn(DATA_CREDIT)
        if self._pace.waiting:
            self._pace.taken += len(data)
            if not buffer:
                self._pace.go_on(self.site.reactor.seconds())
                self.deadline = inf
        if end:
            self._close()
            return False
        if self._paused and len(buffer) < BUFFER:
            self._paused = False
            self._producer.resumeProducing()
        return bool(buffer)

    def _close(self) -> None:
        """Be done with a response that is sent to its end."""
        if self._whole:
            self.connection.forget(self, answered=True)
        else:
            # The client need not send the rest (RFC 9113 section 8.1), but curl 7.88, told so by a reset
            # at once, drops the answer.
            self._lingering = True
            self.deadline = self.site.reactor.seconds() + LINGER

    # The request calls these.

    def getPeer(self) -> IAddress:
        """Return the other end."""
        return self.connection.getPeer()

    def getHost(self) -> IAddress:
        """Return our end."""
        return self.connection.getHost()

    def isSecure(self) -> bool:
        """Say whether there is TLS on the connection."""
        return self.connection.isSecure()

    def write_response(
        self, version: bytes, code: int, reason: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes
    ) -> None:
        """Send a head and what there is of the body; see `Channel.write_response`."""
        del version, reason
        if self._reset is not None:
            return
        if code < 200:
            # An interim status as the final one leaves the client waiting.
            self._reset = ErrorCodes.INTERNAL_ERROR
            self.connection.ready(self)
            return
        self._headers = [(b":status", b"%d" % code)]
        for name, value in headers:
            lower = name.lower()
            if lower not in CONNECTION_SPECIFIC:
                self._headers.append((lower, value.strip(b" \t")))
        self.write(body)

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        """Send the head of a response that a resource has built."""
        self.write_response(version, int(code), reason, listed(int(code), headers), b"")

    def write(self, data: bytes) -> None:
        """Send a piece of a body."""
        if self._reset is None:
            self._buffer += data
            self.connection.ready(self)
            if self._producer is not None and not self._paused and len(self._buffer) >= BUFFER:
                self._paused = True
                self._producer.pauseProducing()

    def write_now(self, data: memoryview) -> int:
        """Send nothing: it is not the stream's turn."""
        del data
        return 0

    def writeSequence(self, pieces: Iterable[bytes]) -> None:
        """Send pieces of a body."""
        self.write(b"".join(pieces))

    def requestDone(self, request: Request) -> None:
        """End the response."""
        del request
        self.request = None
        self._ended = True
        self.connection.ready(self)

    def registerProducer(self, producer: Any, streaming: bool) -> None:  # noqa: FBT001  IConsumer has it so
        """Pause and resume a producer with the client's window; ask one that does not push for each piece."""
        self._pulled = not streaming
        if streaming:
            self._producer = producer
        else:
            self._producer = _PullToPush(producer, self)
            self._producer.startStreaming()

    def unregisterProducer(self) -> None:
        """Do without the producer: everything is written."""
        if self._producer is not None and self._pulled:
            self._producer.stopStreaming()
        self._producer = None
        self._paused = False

    def refuse(self, code: int) -> None:
        """Answer a request that cannot be read to its end; the connection goes on."""
        if self.closing:
            return
        self.site.refused(self, code)
        self.lose(Failure(ConnectionAborted()))
        reason, headers, body = self.site.plain(code)
        if self._head is not None and self._head.method == b"HEAD":
            body = b""
        self.write_response(b"HTTP/2", code, reason, headers, body)
        self._ended = True
        self.connection.spend_on_reset()

    def abort(self) -> None:
        """Break the response off so that the client can tell."""
        self.reset(ErrorCodes.INTERNAL_ERROR)

    loseConnection = abortConnection = abort

    def _respondToBadRequestAndDisconnect(self) -> None:
        """Refuse a form that twisted.web cannot read."""
        self.refuse(400)

    def reset(self, code: ErrorCodes, *, costly: bool = False) -> None:
        """End the stream with an error.

        :param costly: whether it is the client's fault, and the client pays.
        """
        if self._reset is None:
            self._reset = code
            self.connection.ready(self)
            self.lose(Failure(ConnectionAborted()))
            if costly:
                self.connection.spend_on_reset()
