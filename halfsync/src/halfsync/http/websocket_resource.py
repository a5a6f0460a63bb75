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
        if request.clientproto != b"HTTP/1.1" or b"websocket" not in upgrade or version != [VERSION]:
            request.setResponseCode(426)
            if request.clientproto == b"HTTP/1.1":
                request.setHeader(b"upgrade", b"websocket")
                request.setHeader(b"sec-websocket-version", VERSION)
            return b"a websocket, of version 13 and over HTTP/1.1, is all there is here\n"
        keys = headers.getRawHeaders(b"sec-websocket-key", [])
        if len(keys) != 1 or _KEY.match(keys[0]) is None:
            request.setResponseCode(400)
            return b"Sec-WebSocket-Key: 16 bytes in base64 are wanted\n"
        origin = request.getHeader("origin")
        if origin is not None and not self._welcome(origin.lower(), request.getHeader("host") or ""):
            request.setResponseCode(403)
            return b"pages of that origin may not open websockets here\n"
        return self._resource.render_GET(request)

    def _welcome(self, origin: str, host: str) -> bool:
        return origin in self._origins or "*" in self._origins or urlsplit(origin).netloc == host.lower()
