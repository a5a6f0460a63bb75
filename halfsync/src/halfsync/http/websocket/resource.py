"""Websockets at a path: twisted.web's resource, behind a look at who asks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from twisted.web.resource import Resource

if TYPE_CHECKING:
    from collections.abc import Collection

VERSION = b"13"

_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==\Z")
"""16 bytes in base64 (RFC 6455 section 4.2.1)."""


class WebSockets(Resource):
    """A resource whose clients get a websocket each.

    A browser lets any page open a websocket to any host, with the user's cookies; it tells where the page
    is from (RFC 6455 section 10.2), so only pages of the same host are served, and those of `origins`.
    Clients that name no origin are no browsers, and are served.
    HTTP/1.1 only: over HTTP/2 the answer is 426 (RFC 8441 is not offered, and browsers do not ask for it).
    """

    isLeaf = True

    def __init__(self, factory: Any, *, origins: Collection[str] = ()) -> None:
        """Serve the protocols of a `twisted.web.websocket.WebSocketServerFactory`.

        :param factory: its `buildProtocol(request)` returns a `twisted.web.websocket.WebSocketProtocol`.
        :param origins: others than this host: `https://app.example.com`, or `*` for any.
        :raises ImportError: without wsproto, which is an extra (`websocket`).
        """
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted's own
        try:
            from twisted.web.websocket import WebSocketResource  # noqa: PLC0415  an extra of Twisted's
        except ImportError as error:
            raise ImportError(f"{error}: websockets need it: `pip install wsproto`") from error
        self._resource = WebSocketResource(factory)
        self._origins = frozenset(each.lower() for each in origins)

    def render_GET(self, request: Any) -> Any:
        """Open a websocket, or say why not."""
        headers = request.requestHeaders
        upgrade = b",".join(headers.getRawHeaders(b"upgrade", [])).lower()
        version = headers.getRawHeaders(b"sec-websocket-version", [])
        is_asked = request.method == b"GET" and request.clientproto == b"HTTP/1.1" and upgrade == b"websocket"
        if not is_asked or version != [VERSION]:
            request.setResponseCode(426)
            if request.clientproto == b"HTTP/1.1":
                request.setHeader(b"upgrade", b"websocket")
                request.setHeader(b"sec-websocket-version", VERSION)
            return b"a websocket, of version 13 and over HTTP/1.1, is all there is here\n"
        keys = headers.getRawHeaders(b"sec-websocket-key", [])
        if len(keys) != 1 or _KEY.match(keys[0]) is None:
            request.setResponseCode(400)
            return b"Sec-WebSocket-Key: 16 bytes in base64 are wanted\n"
        if not _is_handshake(request):
            request.setResponseCode(400)
            return b"Connection: Upgrade, and headers that say what they say in ASCII, are wanted\n"
        origin = request.getHeader(b"origin")
        host = request.getHeader(b"host") or b""
        if origin is not None and not self._welcome(origin.decode("latin-1").lower(), host.decode("latin-1")):
            request.setResponseCode(403)
            return b"pages of that origin may not open websockets here\n"
        return self._resource.render_GET(request)

    def _welcome(self, origin: str, host: str) -> bool:
        if origin in self._origins or "*" in self._origins:
            return True
        try:
            return urlsplit(origin).netloc == host.lower()
        except ValueError:
            # Brackets without an address.
            return False


def _is_handshake(request: Any) -> bool:
    """Say whether wsproto takes the request; else it would raise, and the log have a traceback."""
    from wsproto import ConnectionType  # noqa: PLC0415  an extra of Twisted's
    from wsproto.handshake import H11Handshake  # noqa: PLC0415

    headers = [
        (name, value) for name, values in request.requestHeaders.getAllRawHeaders() for value in values
    ]
    try:
        H11Handshake(ConnectionType.SERVER).initiate_upgrade_connection(headers, request.path)
    except Exception:  # noqa: BLE001  its own, h11's, those of codecs: all it looks at is the client's
        return False
    return True
