"""How a connection of HTTP/1.1 ends: refused, closed once all is sent, or cut."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from halfsync.http.access_log import Asked
from halfsync.http.ends import Ends
from halfsync.http.half_closed import LOOK
from halfsync.http.rate import LINGER

if TYPE_CHECKING:
    from halfsync.http.arrival import Arrival
    from halfsync.http.h1_stream import H1Stream
    from halfsync.http.half_closed import HalfClosed
    from halfsync.http.outgoing import Outgoing
    from halfsync.http.parser import Parser
    from halfsync.http.stream import RequestHead


class H1Ends(Ends):
    """A connection, as far as it ends."""

    parser: Parser
    deadline: float
    # What a connection does not have of its own costs it no memory, and there may be thousands.
    asked = 0
    """Requests whose head has arrived."""
    closing = False
    """Nothing more is read from it."""
    outgoing: Outgoing
    since = 0.0
    """When it was opened, in the reactor's seconds."""
    begun: float | None = None
    """When the first byte of the present request arrived; None between requests."""
    stream: H1Stream | None = None
    """The request that is answered at the moment."""
    _arrival: Arrival | None = None
    """Of the body that arrives at the moment."""
    _half_closed: HalfClosed | None = None
    """Since the client has closed its side."""
    _held_back = False
    """Whether no more is read because so much has come already."""
    _reading = False
    _waits = False
    """Whether what has come waits for its turn to be read."""

    @property
    def hung_up(self) -> bool:
        """Whether the client is gone for both directions, after it has closed its side; for any thread."""
        return self._half_closed is not None and self._half_closed.gone

    def give_way(self) -> None:
        """Let go of what has this, and of what has come: another protocol has the transport now.

        A cycle would keep both until the garbage is collected, tens of KB for each connection.
        """
        self.closing = True
        self.weigh_nothing()
        del self.outgoing, self.parser

    def abort(self) -> None:
        """Cut the connection, so that the client cannot take what it has for the whole."""
        self.closing = True
        self.deadline = inf
        self._lose_request()
        self.weigh_nothing()
        self.transport.abortConnection()

    def cut_short(self, stream: H1Stream) -> None:
        """Close once what there is of a response is sent."""
        self.stream = None
        self.context.answered(stream, aborted=True)
        self._lose()

    def refuse(self, code: int, reason: str = "") -> None:
        """Answer a request that cannot be read to its end, and close.

        :param reason: for the log, where the status does not tell it.
        """
        if self.closing:
            return
        self.outgoing.send(self._refusal(code, reason, self._arrival.head if self._arrival else None))
        self._lose_request()
        if self.outgoing.socket is not None and self._half_closed is None:
            self.closing = True
            self.transport.unregisterProducer()
            self.transport.loseWriteConnection()
        else:
            self._lose()
        self.deadline = self.context.seconds() + LINGER

    def _set_deadline(self) -> None:
        """Say until when it may stay as it is."""
        if self.closing or self.outgoing.blocked:
            # Until then the client has to take what there is.
            return
        now = self.context.seconds()
        if self.stream is not None:
            self.deadline = inf if self._half_closed is None else now + LOOK
        elif self._arrival is not None:
            if not self._arrival.flushing:
                self.deadline = self._arrival.pace.wait(now)
        elif self.begun is not None:
            self.deadline = self.begun + self.context.bounds.request_timeout
        else:
            self.deadline = self.context.connections.idle_deadline()

    def _lose(self) -> None:
        """Close once everything is sent."""
        if not self.closing:
            self.closing = True
            self.deadline = self.outgoing.last()
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def _lose_request(self) -> None:
        """Tell what is at the present request that there is no client."""
        arrival, self._arrival = self._arrival, None
        if self.outgoing.socket is not None:
            self.outgoing.socket.sink = None
        if arrival is not None:
            arrival.close()
        stream, self.stream = self.stream, None
        if stream is not None:
            self.context.answered(stream, aborted=True)
            stream.lose()

    def _refusal(self, code: int, reason: str, read: RequestHead | None) -> bytes:
        """Account for what is no request, and return a short response to it, the last one here.

        :param read: its head, when it was whole.
        """
        context = self.context
        asked = Asked.of(read.method, read.target) if read else Asked.begun(self.parser.waiting)
        name = context.refused(self.client, code, asked, reason)
        head, body = context.plain(code)
        lines = [f"HTTP/1.1 {code} {head.reason}\r\n", head.block(), f"Content-Length: {head.length}\r\n"]
        lines += [f"Date: {context.date()}\r\n", f"X-Request-Id: {name}\r\n", "Connection: close\r\n\r\n"]
        return "".join(lines).encode("latin-1") + (body if asked.method != "HEAD" else b"")
