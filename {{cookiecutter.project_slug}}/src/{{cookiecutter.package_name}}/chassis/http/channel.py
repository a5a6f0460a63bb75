"""One HTTP/1.1 connection: twisted.web's parser, with deadlines and an answer to everything it refuses.

A connection has one deadline at a time, a plain attribute that the site's sweep looks at.
Twisted's own idle timer is a `DelayedCall` a connection, reset by every byte:
a client that trickles its headers keeps a connection for ever.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IHandshakeListener, ISSLTransport
from twisted.protocols.basic import LineReceiver
from twisted.web.http import HTTPChannel
from twisted.web.http_headers import Headers
from zope.interface import implementer

from ..logs import get_logger
from .request import REASONS, Request, address_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twisted.internet.interfaces import IAddress
    from twisted.python.failure import Failure

    from .site import Site

log = get_logger(__name__)

H2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends first that knows already that we speak HTTP/2 (RFC 9113 section 3.3)."""

LINGER = 2.0
"""Seconds for a client to take a last answer and close, while what it still sends is dropped.

Closing with unread input makes the kernel send a reset, which can overtake the answer (RFC 9112 section 9.6).
"""


@implementer(IHandshakeListener)
class Channel(HTTPChannel):
    """One connection."""

    site: Site
    transport: Any
    timeOut = None
    begun: float | None = None
    """When the first byte of the present request arrived; None between requests."""
    deadline = inf
    closing = False
    """Nothing more is read from it."""
    requestFactory = Request
    _networkProducer: Any
    _unsent = 0
    _peer: IAddress | None = None
    _host: IAddress | None = None
    _secure: bool | None = None

    def __init__(self, site: Site) -> None:
        HTTPChannel.__init__(self)
        self.site = self.factory = site
        bounds = site.bounds
        self.maxHeaders = bounds.max_headers
        self.totalHeadersSize = self.MAX_LENGTH = bounds.max_head

    # Twisted calls these.

    def connectionMade(self) -> None:
        """Start waiting for a request."""
        HTTPChannel.connectionMade(self)
        self.deadline = self.site.opened(self)

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
        try:
            LineReceiver.dataReceived(self, data)
        except Exception:
            # Seen for a Content-Length of more than 4,300 digits, which int() refuses.
            log.exception("http.parser_failed", peer=address_text(self.getPeer()))
            self.refuse(400)

    def lineLengthExceeded(self, line: bytes) -> None:
        """Answer a line that is longer than all of a head may be."""
        del line
        self.refuse(431 if self._has_request_line() else 414)

    def allHeadersReceived(self) -> None:
        """Check what has to be right before any of the body is read, or 100 (Continue) is sent."""
        headers = self.requests[-1].requestHeaders
        hosts = headers.getRawHeaders(b"Host", ())
        # RFC 9112 section 3.2: none in 1.1, or two of them, and proxies and applications may each believe
        # another one.
        if len(hosts) > 1 or (not hosts and self._version == b"HTTP/1.1"):
            self.refuse(400)
        elif self.length is not None and self.length > self.site.bounds.max_body:
            self.refuse(413)
        else:
            HTTPChannel.allHeadersReceived(self)

    def allContentReceived(self) -> None:
        """Have the request answered."""
        # The parser comes here, too, after a refusal in allHeadersReceived.
        if not self.closing:
            self.deadline = inf
            HTTPChannel.allContentReceived(self)

    def requestDone(self, request: Request) -> None:
        """Wait for the next request, which may be in the buffer already."""
        self.begun = None
        self.deadline = self.site.idle_deadline()
        if self.site.draining:
            self.persistent = False
        HTTPChannel.requestDone(self, request)
        if self._buffer and self.begun is None and not self.closing:
            self._begin()

    def pauseProducing(self) -> None:
        """Give the client time to take what fills the buffer."""
        self._unsent = unsent(self.transport)
        self.deadline = self.site.reactor.seconds() + self.site.bounds.write_timeout
        HTTPChannel.pauseProducing(self)

    def resumeProducing(self) -> None:
        """Go on: the client has taken it."""
        if self.closing:
            # It still has to go.
            pass
        elif self._handlingRequest:
            self.deadline = inf
        elif self.begun is not None:
            self.deadline = self.site.reactor.seconds() + self.site.bounds.request_timeout
        else:
            self.deadline = self.site.idle_deadline()
        HTTPChannel.resumeProducing(self)

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Any) -> None:
        """Send the head of a response that a resource has built."""
        assert isinstance(headers, Headers)  # noqa: S101  twisted.web passes nothing else
        if b"close" in [value.lower() for value in headers.getRawHeaders(b"Connection", ())]:
            self.persistent = False
        if self.site.draining or not self.persistent:
            headers.removeHeader(b"Connection")
        pairs = [(name, value) for name, values in headers.getAllRawHeaders() for value in values]
        self.write_response(version, int(code), reason, pairs, b"")

    def loseConnection(self) -> None:
        """Close once everything is sent."""
        if not self.closing:
            self.closing = True
            self._unsent = unsent(self.transport)
            wait = self.site.bounds.write_timeout if self._unsent else LINGER
            self.deadline = self.site.reactor.seconds() + wait
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
            self._host = self.transport.getHost()
        return self._host

    def isSecure(self) -> bool:
        """Say whether there is TLS on the connection."""
        if self._secure is None:
            self._secure = ISSLTransport(self.transport, None) is not None
        return self._secure

    def _respondToBadRequestAndDisconnect(self) -> None:
        """Answer what Twisted's parser refuses: it has one hook for all its reasons."""
        if self._receivedHeaderCount > self.maxHeaders:
            self.refuse(431)
        elif self._receivedHeaderSize > self.totalHeadersSize:
            self.refuse(431 if self._has_request_line() else 414)
        else:
            self.refuse(400)

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
        parts = [b"%b %d %b\r\n" % (version, code, reason)]
        parts += [b"%b: %b\r\n" % pair for pair in headers]
        if self.site.draining or code < 200:
            # After an interim status given as the final one, client and server would wait for each other.
            self.persistent = False
        parts.append(b"\r\n" if self.persistent else b"Connection: close\r\n\r\n")
        if body:
            parts.append(body)
        self.transport.write(b"".join(parts))

    def refuse(self, code: int) -> None:
        """Answer a request that cannot be read to its end, and close."""
        if self.closing:
            return
        self.site.refused(self, code)
        reason = REASONS[code]
        body = reason + b"\n"
        headers = [(b"Content-Type", b"text/plain"), (b"Content-Length", b"%d" % len(body))]
        self.persistent = False
        self.write_response(b"HTTP/1.1", code, reason, headers, body)
        self.clearLineBuffer()
        if isinstance(self.transport, FileDescriptor) and not self.isSecure():
            self.closing = True
            self._networkProducer.unregisterProducer()
            self.transport.loseWriteConnection()
        else:
            self.loseConnection()
        self.deadline = self.site.reactor.seconds() + LINGER

    def expire(self, now: float) -> None:
        """Do what the deadline is for."""
        if self.closing or self._waitingForTransport:
            left = unsent(self.transport)
            if 0 < left < self._unsent:
                # A slow client, not a stalled one.
                self._unsent = left
                self.deadline = now + self.site.bounds.write_timeout
                return
            if left:
                log.info("http.stalled", peer=address_text(self.getPeer()), unsent=left)
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
        self.begun = now = self.site.reactor.seconds()
        if not self._handlingRequest:
            self.deadline = now + self.site.bounds.request_timeout

    def _has_request_line(self) -> bool:
        return getattr(self, "_command", None) is not None


def unsent(transport: Any) -> int:
    """Return how many bytes wait for the client in our memory, below whatever wraps the socket."""
    while not isinstance(transport, FileDescriptor):
        inner = getattr(transport, "transport", None)
        if inner is None or inner is transport:
            return 0
        transport = inner
    return len(transport.dataBuffer) - transport.offset + transport._tempDataLen  # noqa: SLF001  nothing public
