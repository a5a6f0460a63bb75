"""A proxy's other half: hand an answer on as it comes, at the pace of the client that takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from halfsync.client.errors import Interrupted

if TYPE_CHECKING:
    from halfsync.client.requests import StreamedResponse

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Headers that belong to one connection (RFC 9110 7.6.1)."""


@implementer(IPushProducer)
class _Pace:
    """What the request's transport pauses and resumes."""

    def __init__(self) -> None:
        self.resumed: Deferred[None] | None = None
        self.gone = False

    def pauseProducing(self) -> None:
        if self.resumed is None and not self.gone:
            self.resumed = Deferred()

    def resumeProducing(self) -> None:
        resumed, self.resumed = self.resumed, None
        if resumed is not None:
            resumed.callback(None)

    def stopProducing(self) -> None:
        self.gone = True
        self.resumeProducing()


async def relay(response: StreamedResponse, request: Any) -> None:
    """Answer a request of twisted.web (or klein) with what a peer answers; return when that is done.

    Status, headers but those of the connection, and the body go on unchanged, ranges and errors among them.
    At most a few hundred KiB are held. When the client leaves, the call to the peer ends, too;
    when the peer breaks off, the client's response is broken off, so that no one takes a part for the whole.
    Trailers are dropped both ways, as RFC 9110 6.5.1 allows: twisted.web's client neither tells those of a
    response nor sends those of a request.
    """
    pace = _Pace()

    def leave(_: object) -> None:
        pace.stopProducing()
        response.body.abort()

    request.notifyFinish().addErrback(leave)
    _begin(response, request)
    request.registerProducer(pace, True)  # noqa: FBT003  Twisted's own signature
    try:
        async for piece in response.body:
            if pace.gone:
                return
            request.write(piece)
            if pace.resumed is not None:
                await pace.resumed
    except Interrupted:
        if not pace.gone:
            request.unregisterProducer()
            request.loseConnection()
        return
    finally:
        response.body.abort()
    if not pace.gone:
        request.unregisterProducer()
        request.finish()


def _begin(response: StreamedResponse, request: Any) -> None:
    request.setResponseCode(response.status)
    # twisted.web's client keeps the header Connection to itself, so what it names is not known here.
    for name, values in response.headers.getAllRawHeaders():
        if name.lower() not in HOP_BY_HOP:
            request.responseHeaders.setRawHeaders(name, values)
    if isinstance(response.raw.length, int) and not response.body.is_decoded and request.method != b"HEAD":
        # twisted.web's client takes Content-Length out of the headers.
        request.responseHeaders.setRawHeaders(b"content-length", [b"%d" % response.raw.length])
