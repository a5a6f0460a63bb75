"""One request: twisted.web's, so that any resource can serve it, with a short way for the gateway."""

from __future__ import annotations

import re
from contextvars import copy_context
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import unquote_to_bytes

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.python.failure import Failure
from twisted.web import http, server
from twisted.web.error import UnsupportedMethod
from twisted.web.http import NO_BODY_CODES

from halfsync.http import request_id
from halfsync.http.access_log import log_request, printable
from halfsync.http.spool import Upload
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twisted.web.http_headers import Headers
    from twisted.web.resource import IResource

    from halfsync.http.channel import Channel
    from halfsync.http.proxies import Proxies
    from halfsync.http.site import Site

log = get_logger(__name__)

SMALL = 64 * 1024
"""Bodies up to this size, in bytes, are in memory whatever else is."""

MAX_FORM = 64 * 1024
"""Bytes of a form that is read into `request.args`; a larger one is left in `request.content`.

twisted.web reads it in the reactor: one of 10 MB took 7 s and 400 MB, one of 1 MB made for the purpose 17 s.
"""

_ABSOLUTE = re.compile(rb"https?://([^/?#@]+)(/[^#]*|\?[^#]*)?\Z", re.IGNORECASE)


class Responder(Protocol):
    """Whoever answers a request from elsewhere, and must hear that the client is gone."""

    def gone(self) -> None:
        """There is no one to answer any more."""


class Request(server.Request):
    """One request and its response.

    Resources see what twisted.web documents.
    The gateway uses `begin` instead of `write`, and takes the body away from it.
    """

    channel: Channel
    site: Site
    content: IO[bytes] | None
    since: float | None = None
    """When its first byte arrived, in the reactor's seconds; None until the last one has."""
    thread: int | None = None
    """Identifier of the worker thread that is at it."""
    responder: Responder | None = None
    query = b""
    request_id = ""
    """What it is called in the logs, here and elsewhere."""
    _received = 0
    _forwarded_secure: bool | None = None

    @property
    def peer(self) -> str:
        """The other end, for people."""
        return address_text(self.client)

    def isSecure(self) -> bool:
        """Say whether the client has used TLS, be it towards a trusted proxy."""
        secure = self._forwarded_secure
        return server.Request.isSecure(self) if secure is None else secure

    # Twisted calls these.

    def gotLength(self, length: int | None) -> None:
        """Make room for the body."""
        small = length is not None and length <= SMALL
        self.content = BytesIO() if small else Upload(self.channel.site.uploads)

    def handleContentChunk(self, data: bytes) -> None:
        """Take a piece of the body, up to the bound: a chunked one does not say its length before."""
        self._received += len(data)
        if self._received > self.channel.site.bounds.max_body:
            self.channel.refuse(413)
        elif self.channel.closing:
            return
        elif isinstance(self.content, Upload):
            self.content = self.content.add(data)
        else:
            cast("IO[bytes]", self.content).write(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Begin the response."""
        self.site = self.channel.site
        self.since = self.channel.begun
        self.method = command
        self.clientproto = version
        self.uri = path
        self.request_id = request_id.of(self.requestHeaders)
        if self.site.proxies is not None:
            self._ask_proxies(self.site.proxies)
        target = path if path.startswith(b"/") else self._origin_form(path)
        if target is None:
            self.path = path
            self.answer(501 if command == b"CONNECT" else 400)
        elif self.site.reads_forms:
            self._parsePOSTFormSubmission = self._received <= MAX_FORM
            try:
                http.Request.requestReceived(self, command, target, version)
            except Exception as error:  # noqa: BLE001  `process` raises none; of what forms raise there is no list
                log.info("http.form_refused", peer=self.peer, error=repr(error))
                self.channel.refuse(400)
        else:
            self.path, _, self.query = target.partition(b"?")
            self.uri = target
            self.process()

    def process(self) -> None:
        """Have the site's resource answer."""
        site = self.site
        self.prepath: list[bytes] = []
        if self.path == b"*":
            self._handleStar()
            return
        try:
            if site.reads_forms:
                copy_context().run(self._render)
            else:
                site.resource.render(self)
        except Exception:  # noqa: BLE001  a bug of a resource must not take the connection's parser with it
            self.processingFailed(Failure())

    def _render(self) -> None:
        """Find the resource and have it answer, in a context of its own that its coroutines go on in."""
        request_id.bind(self.request_id)
        self.responseHeaders.setRawHeaders(b"Date", [self.site.date()])
        self.responseHeaders.setRawHeaders(request_id.HEADER, [self.request_id.encode("ascii")])
        self.postpath = list(map(unquote_to_bytes, self.path[1:].split(b"/")))
        self.render(self.site.getResourceFor(self))

    def render(self, resrc: IResource) -> None:
        """Have a resource answer; tell in plain text when it does not know the method."""
        try:
            server.Request.render(self, _Strict(resrc))
        except _NotAllowed as refusal:
            if self.method == b"HEAD" and b"GET" in refusal.allowed:
                server.Request.render(self, resrc)
            else:
                self.answer(405, [(b"Allow", b", ".join(sorted(refusal.allowed)))])

    def processingFailed(self, reason: Failure) -> Failure:
        """Answer 500, or cut off what had begun; tell the log, not the client, why."""
        request = f"{printable(self.method)} {printable(self.path)}"
        log.error("http.resource_failed", request=request, failure=reason)
        if self.startedWriting:
            self.abort()
        elif not self._disconnected and not self.finished:
            self.answer(500)
        return reason

    def connectionLost(self, reason: Failure) -> None:
        """Tell who is at it that there is no one to answer any more."""
        if self.since is not None:
            site = self.site
            site.counts.aborted += 1
            if site.access_log:
                log_request(self, site.reactor.seconds() - self.since, aborted=True)
        if self.responder is not None:
            self.responder.gone()
            self.responder = None
        http.Request.connectionLost(self, reason)

    def finish(self) -> None:
        """End the response."""
        http.Request.finish(self)
        # Each holds the other: without this, every request leaves 15 objects to the garbage collector.
        self.responder = None

    # Whoever answers calls these.

    def begin(
        self,
        code: int,
        reason: bytes,
        headers: list[tuple[bytes, bytes]],
        body: bytes = b"",
        *,
        length: int | None = None,
    ) -> None:
        """Send the head of the response and the first bytes of its body, in one piece.

        Then follow `write` and `finish`.
        :param headers: names and values that hold no CR, LF or NUL, and say nothing of the connection.
        :param length: the body's, when the headers say it.
        """
        self.code = code
        self.startedWriting = 1
        self.sentLength = len(body)
        if length is None and self.has_body(code) and self.clientproto == b"HTTP/1.1":
            self.chunked = 1
            headers.append((b"Transfer-Encoding", b"chunked"))
            if body:
                body = b"%x\r\n%b\r\n" % (len(body), body)
        self.channel.write_response(self.clientproto, code, reason, headers, body)

    def write_now(self, data: memoryview) -> int:
        """Send what the client takes at once of a body whose length was said; return how much that is."""
        sent = self.channel.write_now(data)
        self.sentLength += sent
        return sent

    def answer(self, code: int, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Send a whole short response of our own, in plain text."""
        reason, own, body = self.site.plain(code)
        own += [(request_id.HEADER, self.request_id.encode("ascii")), *headers]
        self.begin(code, reason, own, body if self.has_body(code) else b"", length=len(body))
        self.finish()

    def has_body(self, code: int) -> bool:
        """Say whether a response may have a body at all (RFC 9110 section 6.4.1)."""
        return code >= 200 and code not in NO_BODY_CODES and self.method != b"HEAD"

    def abort(self) -> None:
        """Break the response off so that the client can tell."""
        if not self._disconnected and not self.finished:
            self.channel.abort()

    def _ask_proxies(self, proxies: Proxies) -> None:
        origin = proxies.origin(self.client, self.requestHeaders)
        if origin.client is not None:
            self.client = origin.client
        if origin.host is not None:
            self.requestHeaders.setRawHeaders(b"Host", [origin.host])
        self._forwarded_secure = origin.secure

    def _origin_form(self, target: bytes) -> bytes | None:
        """Return the path and query of a target that does not begin with a slash; None when it has none.

        The host of an absolute target replaces the header (RFC 9112 section 3.2.2).
        """
        if target == b"*":
            return target
        match = _ABSOLUTE.match(target)
        if match is None:
            return None
        self.requestHeaders.setRawHeaders(b"Host", [match[1]])
        rest = match[2] or b"/"
        return rest if rest.startswith(b"/") else b"/" + rest


class _NotAllowed(Exception):  # noqa: N818  a refusal
    """A resource does not know the method."""

    def __init__(self, allowed: Iterable[bytes]) -> None:
        super().__init__()
        self.allowed = list(allowed)


class _Strict:
    """A resource whose UnsupportedMethod is not turned into a page of HTML by twisted.web."""

    def __init__(self, resource: Any) -> None:
        self._resource = resource

    def render(self, request: Request) -> Any:
        """Render, or say which methods there are."""
        try:
            return self._resource.render(request)
        except UnsupportedMethod as error:
            raise _NotAllowed(error.allowedMethods) from error


def listed(code: int, headers: Headers) -> list[tuple[bytes, bytes]]:
    """Return the headers that a resource has built, without a length where there can be none.

    twisted.web says how long a body is that it then leaves out, and a client might wait for it.
    """
    if code < 200 or code == 204:
        headers.removeHeader(b"Content-Length")
    return [(name, value) for name, values in headers.getAllRawHeaders() for value in values]


def address_text(address: object) -> str:
    """Return an address as people write it: `host:port`, `[host]:port`, `host` without a port, or `unix`."""
    if isinstance(address, (IPv4Address, IPv6Address)) and not address.port:
        return address.host
    if isinstance(address, IPv4Address):
        return f"{address.host}:{address.port}"
    if isinstance(address, IPv6Address):
        return f"[{address.host}]:{address.port}"
    return "unix"
