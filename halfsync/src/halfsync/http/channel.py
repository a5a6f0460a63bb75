"""One HTTP/1.1 connection: requests read strictly, deadlines, and an answer to all that is refused.

A connection has one deadline at a time, a plain attribute that the site's sweep looks at.
Twisted's own idle timer is a `DelayedCall` a connection, reset by every byte:
a client that trickles its headers keeps a connection for ever.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener, ISSLTransport
from twisted.internet.tcp import Connection
from twisted.web.http import HTTPChannel
from twisted.web.http_headers import Headers
from zope.interface import implementer

from halfsync.http.bounds import Bounds
from halfsync.http.rate import LINGER, Pace, unsent, untaken, wait_or_cut
from halfsync.http.request import Request, address_text, listed
from halfsync.http.strict import StrictChannel
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twisted.internet.interfaces import IAddress
    from twisted.python.failure import Failure

    from halfsync.http.site import Site

log = get_logger(__name__)

H2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends first that knows already that we speak HTTP/2 (RFC 9113 section 3.3)."""

A_TURN = 1024 * 1024
"""Bytes that a connection may send before the others have their turn."""


@implementer(IHalfCloseableProtocol, IHandshakeListener)
class Channel(StrictChannel):
    """One connection."""

    site: Site
    transport: Any
    timeOut = None
    maxHeaders = Bounds().max_headers
    max_head = Bounds().max_head
    begun: float | None = None
    """When the first byte of the present request arrived; None between requests."""
    deadline = inf
    since = 0.0
    """When it was opened, in the reactor's seconds."""
    asked = 0
    """Requests whose head has arrived."""
    half_closed = False
    """The client has sent all that it will send; it may be gone altogether."""
    requestFactory = Request
    _pace: Pace | None = None
    """How the client takes the present response, once that has had to wait for it."""
    _peer: IAddress | None = None
    _host: IAddress | None = None
    _secure: bool | None = None

    def __init__(self, site: Site) -> None:
        HTTPChannel.__init__(self)
        self.site = site
        bounds = site.bounds
        # What a connection does not have of its own costs it no memory, and there may be thousands.
        if bounds.max_headers != self.maxHeaders:
            self.maxHeaders = bounds.max_headers
        if bounds.max_head != self.max_head:
            self.max_head = bounds.max_head

    # Twisted calls these.

    @property
    def factory(self) -> Site:
        """The site, by the name that twisted.web has for it."""
        return self.site

    @factory.setter
    def factory(self, site: Site) -> None:
        """Take no notice: Twisted's own factories tell what is known."""

    def connectionMade(self) -> None:
        """Start waiting for a request, or answer at once that there is no room for it."""
        HTTPChannel.connectionMade(self)
        self.deadline = self.site.opened(self)
        if self.site.flooded:
            self.abort()
        elif self.site.full:
            self.site.turned_away(self)
            self.refuse(503)

    def handshakeCompleted(self) -> None:
        """Make room for HTTP/2 when TLS has agreed on it (ALPN, RFC 7301)."""
        if self.transport.negotiatedProtocol == b"h2" and not self.closing:
            self.site.speak_h2(self)

    def dataReceived(self, data: bytes) -> None:
        """Parse what arrives, or drop it when the connection is on its way out."""
        if self.closing:
            return
        if self.begun is None:
            # Without a request, no one has asked for the peer.
            if self._peer is None and self.site.has_h2 and data.startswith(H2_PREFACE):
                self.site.speak_h2(self).dataReceived(data)
                return
            self._begin()
        self._go_on(data)

    def allHeadersReceived(self) -> None:
        """Refuse a body that is too large before any of it is read, or asked for."""
        self.asked += 1
        if self._head is not None and (self._head.length or 0) > self.site.bounds.max_body:
            self.refuse(413)
        else:
            StrictChannel.allHeadersReceived(self)

    def allContentReceived(self) -> None:
        """Have the request answered."""
        # The reader comes here, too, after a body that was refused in its course.
        if not self.closing:
            self.deadline = self._answer_deadline()
            StrictChannel.allContentReceived(self)

    def requestDone(self, request: Request) -> None:
        """Wait for the next request, which may be in the buffer already."""
        self.begun = None
        if self._pace is not None and not self._pace.waiting:
            self._pace = None
        if self.site.draining:
            self.persistent = False
        StrictChannel.requestDone(self, request)
        if self.closing:
            return
        if self._buffer:
            self._begin()
        else:
            self._set_deadline()
        if self._buffer or self.half_closed:
            self._go_on()

    def pauseProducing(self) -> None:
        """Give the client time to take what fills the buffer."""
        if self._pace is None:
            self._pace = Pace(self.site.bounds)
        self.deadline = self._pace.wait(self.site.reactor.seconds(), untaken(self.transport))
        HTTPChannel.pauseProducing(self)

    def resumeProducing(self) -> None:
        """Go on: the client has taken it."""
        if self._pace is not None and not self.closing:
            self._pace.go_on(self.site.reactor.seconds(), untaken(self.transport))
        HTTPChannel.resumeProducing(self)
        self._set_deadline()
        self._go_on()

    def write(self, data: bytes) -> None:
        """Send a piece of a body."""
        if self._pace is not None and self._pace.waiting:
            # It was on its way already when the buffer was full.
            self._pace.taken += len(data)
        # Not at once: who makes pieces as fast as the kernel takes them would have every turn.
        self.transport.write(data)

    def write_now(self, data: memoryview) -> int:
        """Send what the kernel takes at once, up to A_TURN, unless something is before it; return how much.

        By way of Twisted's buffer it is copied once or twice more, and the reactor has to be told to wait for
        the socket, and not to: small responses took a tenth longer, and 1 MB half as long again.
        """
        sent, transport = 0, self.transport
        if isinstance(transport, Connection) and transport.connected and not unsent(transport):
            while sent < min(len(data), A_TURN):
                more = transport.writeSomeData(cast("bytes", data[sent:]))
                if not isinstance(more, int) or not more:
                    # That the connection is lost will be found by whoever writes the rest.
                    break
                sent += more
        return sent

    def writeSequence(self, pieces: Iterable[bytes]) -> None:
        """Send a piece of a body in its chunk."""
        self.write(b"".join(pieces))

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Any) -> None:
        """Send the head of a response that a resource has built."""
        assert isinstance(headers, Headers)  # noqa: S101  twisted.web passes nothing else
        if b"close" in [value.lower() for value in headers.getRawHeaders(b"Connection", ())]:
            self.persistent = False
        if self.site.draining or not self.persistent:
            headers.removeHeader(b"Connection")
        # Of all that a resource may say, only this is not looked at by twisted.web.
        reason = b" ".join(reason.splitlines())
        # Not at once: its body comes right behind it, and both are one piece then.
        self.transport.write(self._response(version, int(code), reason, listed(int(code), headers)))

    def loseConnection(self) -> None:
        """Close once everything is sent."""
        if not self.closing:
            self.closing = True
            now = self.site.reactor.seconds()
            self._pace = Pace(self.site.bounds)
            self.deadline = self._pace.wait_for_the_rest(now, self.transport)
        HTTPChannel.loseConnection(self)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Tell the request and the site."""
        self.deadline = inf
        self.closing = True
        HTTPChannel.connectionLost(self, reason)
        self.site.lost(self)

    def getPeer(self) -> IAddress:
        """Return the other end, which behind `haproxy:` is known from the first request on."""
        if self._peer is None:
            self._peer = self.transport.getPeer()
        return self._peer

    def getHost(self) -> IAddress:
        """Return our end."""
        if self._host is None:
            self._host = self.site.own_address(self.transport.getHost())
        return self._host

    def isSecure(self) -> bool:
        """Say whether there is TLS on the connection."""
        if self._secure is None:
            self._secure = ISSLTransport(self.transport, None) is not None
        return self._secure

    def readConnectionLost(self) -> None:
        """Answer what a client has asked before it closed its side of the connection.

        One that has closed both sides looks the same until something is sent to it.
        """
        self.half_closed = True
        if self.closing:
            self.transport.loseConnection()
        else:
            self._set_deadline()
            self._go_on()

    def writeConnectionLost(self) -> None:
        """Our own doing."""

    def skipped(self) -> None:
        """Go on waiting for the first byte of a request."""
        self.begun = None
        self._set_deadline()

    # The site and its requests call these.

    @property
    def idle(self) -> bool:
        """Whether no part of a request has arrived."""
        return self.begun is None and not self.closing

    def wind_down(self, deadline: float) -> None:
        """Wait for a request no longer than that."""
        if self.idle:
            self.deadline = min(self.deadline, deadline)

    def write_response(
        self, version: bytes, code: int, reason: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes
    ) -> None:
        """Send a head and what there is of the body, in one piece.

        :param headers: names and values that hold no CR, LF or NUL; without `Connection`.
        """
        data = self._response(version, code, reason, headers, body)
        sent = self.write_now(memoryview(data))
        if sent < len(data):
            self.transport.write(data[sent:])

    def _response(
        self,
        version: bytes,
        code: int,
        reason: bytes,
        headers: Iterable[tuple[bytes, bytes]],
        body: bytes = b"",
    ) -> bytes:
        parts = [b"%b %d %b\r\n" % (version, code, reason)]
        parts += [b"%b: %b\r\n" % pair for pair in headers]
        if self.site.draining or code < 200:
            # After an interim status given as the final one, client and server would wait for each other.
            self.persistent = False
        elif version == b"HTTP/1.0" and self.persistent:
            # Only a client that knows where the response ends can wait for another one.
            self.persistent = any(part.startswith(b"Content-Length: ") for part in parts)
            parts.append(b"Connection: Keep-Alive\r\n" if self.persistent else b"")
        parts.append(b"\r\n" if self.persistent else b"Connection: close\r\n\r\n")
        if body:
            parts.append(body)
        return b"".join(parts)

    def refuse(self, code: int) -> None:
        """Answer a request that cannot be read to its end, and close."""
        if self.closing:
            return
        self.site.refused(self, code)
        reason, headers, body = self.site.plain(code)
        if code == 503:
            headers.append((b"Retry-After", b"1"))
        self.persistent = False
        self.write_response(b"HTTP/1.1", code, reason, headers, body)
        self.clearLineBuffer()
        if isinstance(self.transport, FileDescriptor) and not self.isSecure() and not self.half_closed:
            self.closing = True
            self._networkProducer.unregisterProducer()
            self.transport.loseWriteConnection()
        else:
            self.loseConnection()
        self.deadline = self.site.reactor.seconds() + LINGER

    def expire(self, now: float) -> None:
        """Do what the deadline is for."""
        if self.closing or self._waitingForTransport:
            self.deadline = wait_or_cut(self, self._pace, now)
        elif self._handlingRequest:
            # Only a connection that is half closed has a deadline then.
            # Once something has been sent, a client that is gone would have answered with a reset.
            if self.requests[0].startedWriting:
                self.deadline = inf
            else:
                self.abort()
        elif self.begun is not None:
            self.refuse(408)
        else:
            self.loseConnection()

    def abort(self) -> None:
        """Cut the connection, so that the client cannot take what it has for the whole."""
        self.closing = True
        self.deadline = inf
        self.transport.abortConnection()

    def _begin(self) -> None:
        self.begun = self.site.reactor.seconds()
        self._set_deadline()

    def _go_on(self, data: bytes = b"") -> None:
        """Read what has arrived, as far as it is time for it."""
        try:
            self.read(data)
        except Exception:
            # A bug of ours costs one connection, and no one waits for its answer.
            log.exception("http.parser_failed", peer=address_text(self.getPeer()))
            self.refuse(400)
        if self.half_closed and not (
            self._handlingRequest or self._waitingForTransport or self.closing or self._reading
        ):
            self._end_of_input()

    def _set_deadline(self) -> None:
        if self.closing or self._waitingForTransport:
            # Until then the client has to take what there is.
            return
        if self._handlingRequest:
            self.deadline = self._answer_deadline()
        elif self.begun is not None:
            self.deadline = self.site.reactor.seconds() + self.site.bounds.request_timeout
        else:
            self.deadline = self.site.idle_deadline()

    def _answer_deadline(self) -> float:
        return self.site.reactor.seconds() + self.site.bounds.request_timeout if self.half_closed else inf

    def _end_of_input(self) -> None:
        if self.begun is None:
            self.loseConnection()
        else:
            self.refuse(400)
