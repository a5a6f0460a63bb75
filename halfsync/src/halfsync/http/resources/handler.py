"""Resources of twisted.web (klein's, the admin pages) as a handler.

Each request gets twisted.web's own `Request`, so that a resource finds all that is documented of it.
Below it is no channel of twisted.web's but a small one that writes to the stream.
"""

from __future__ import annotations

from contextvars import copy_context
from io import SEEK_END
from typing import IO, TYPE_CHECKING, Any, cast
from urllib.parse import unquote_to_bytes

from twisted.python.failure import Failure
from twisted.web import http, server
from twisted.web.error import UnsupportedMethod

from halfsync.endpoints.addresses import address_text
from halfsync.http.request_id import bind
from halfsync.http.resources.channel import Channel
from halfsync.http.resources.forms import MAX_FORM, read_form
from halfsync.http.wsgi.trailers import Trailers, by_name, takes_trailers
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from twisted.web.resource import IResource

    from halfsync.http.stream import RequestHead, Stream

log = get_logger(__name__)


class Resources:
    """A handler that finds the resource for each request, and has it render."""

    def __init__(self, root: IResource) -> None:
        self.site = server.Site(root)
        """For `getResourceFor`, and sessions."""
        self.site.displayTracebacks = False

    def handle(self, stream: Stream, head: RequestHead, body: IO[bytes], depth: int = 0) -> None:
        """Have a resource answer, in a context of its own that its coroutines go on in."""
        request = Request(Channel(stream, self.site), head, body, depth)
        copy_context().run(request.begin)


class Request(server.Request):
    """One request of twisted.web's; resources see what twisted.web documents."""

    channel: Any
    content: IO[bytes]

    def __init__(self, channel: Channel, head: RequestHead, body: IO[bytes], depth: int = 0) -> None:
        server.Request.__init__(self, cast("Any", channel))
        self._depth = depth
        channel.request = self
        self._head = head
        self._request_id = channel.open_stream.request_id
        self.content = body

    @property
    def peer(self) -> str:
        """The other end, for people."""
        return address_text(self.client)

    @property
    def request_id(self) -> str:
        """What the request is called in the logs, here and elsewhere."""
        return self._request_id

    @property
    def trailers(self) -> dict[str, str]:
        """Fields behind the body of the request, by their names in lower case."""
        return by_name(self._head.trailers)

    def send_trailers(self, names: Iterable[str], values: Callable[[], Iterable[tuple[str, str]]]) -> bool:
        """Have fields follow the body of the response; say whether the client takes them.

        :param names: of all that may come.
        :param values: called when the request is finished; returns names and values.
        :raises ValueError: for what may not stand there (RFC 9110 section 6.5.1).
        :raises RuntimeError: when the response has begun.
        """
        if self.startedWriting:
            raise RuntimeError("trailers are named before the response begins")
        trailers = Trailers(names, values)
        if not takes_trailers(self._head):
            return False
        self.channel.trailers = trailers
        return True

    def begin(self) -> None:
        """Have the resource answer."""
        head, stream = self._head, self.channel.open_stream
        bind(stream.request_id)
        for name, value in head.fields():
            self.requestHeaders.addRawHeader(name.encode("ascii"), value.encode("latin-1"))
        if "HTTP_HOST" in head.variables:
            # The host of an absolute target, or what a trusted proxy says.
            self.requestHeaders.setRawHeaders(b"Host", [head.variables["HTTP_HOST"].encode("latin-1")])
        self.parseCookies()
        # Not by twisted.web: one of 10 MB took 7 s and 400 MB, one of 1 MB made for the purpose 17 s.
        self._parsePOSTFormSubmission = False
        method, target = head.method.encode("ascii"), head.target.encode("ascii")
        try:
            http.Request.requestReceived(self, method, target, head.version.encode("ascii"))
        except ValueError as error:
            log.info("http.form_refused", peer=self.peer, error=repr(error))
            self.channel.refuse(400)

    def _read_form(self) -> None:
        """Add the fields of a form to those of the query.

        :raises ValueError: when it is none.
        """
        kind = self.requestHeaders.getRawHeaders(b"content-type", [b""])[0]
        if self.method == b"POST" and kind and 0 < self.content.seek(0, SEEK_END) <= MAX_FORM:
            self.content.seek(0)
            self.args.update(read_form(kind, self.content.read()) or {})
        self.content.seek(0)

    def hand_over(self) -> tuple[Stream, RequestHead, IO[bytes], int]:
        """Give the request to a handler below, with its place; this one is done with."""
        stream, self.channel.stream = self.channel.open_stream, None
        return stream, self._head, self.content, len(self.prepath) - stream.prefix.count("/")

    # Twisted calls these.

    def process(self) -> None:
        """Find the resource and have it answer."""
        self._read_form()
        stream = self.channel.open_stream
        self.site = self.channel.site
        segments = list(map(unquote_to_bytes, self.path[1:].split(b"/")))
        outside = list(map(unquote_to_bytes, stream.prefix.split("/")[1:]))
        self.prepath: list[bytes] = outside + segments[: self._depth]
        self.postpath = segments[self._depth :]
        self.responseHeaders.setRawHeaders(b"Date", [stream.context.date().encode("ascii")])
        self.responseHeaders.setRawHeaders(b"X-Request-Id", [stream.request_id.encode("ascii")])
        try:
            self.render(self.site.getResourceFor(self))
        except Exception:  # noqa: BLE001  a bug of a resource costs one request
            self.processingFailed(Failure())

    def render(self, resrc: IResource) -> None:
        """Have a resource answer; tell in plain text when it does not know the method."""
        try:
            server.Request.render(self, _Strict(resrc))
        except _NotAllowed as refusal:
            if self.method == b"HEAD" and b"GET" in refusal.allowed:
                server.Request.render(self, resrc)
            else:
                allowed = b", ".join(sorted(refusal.allowed)).decode("ascii")
                self.answer(405, [("Allow", allowed)])

    def write(self, data: bytes) -> None:
        """Send a piece of the body; the first one takes the head along."""
        if self.startedWriting:
            server.Request.write(self, data)
            return
        # The stream frames the body; twisted.web would, too, for this version.
        version, self.clientproto = self.clientproto, b"HTTP/2"
        try:
            server.Request.write(self, data)
        finally:
            self.clientproto = version

    def answer(self, code: int, fields: Iterable[tuple[str, str]] = ()) -> None:
        """Send a whole short response of our own, in plain text."""
        head, body = self.channel.open_stream.context.plain(code, fields)
        self.setResponseCode(code)
        for name, value in head.fields:
            self.setHeader(name, value)
        self.setHeader(b"Content-Length", b"%d" % len(body))
        self.write(body)
        self.finish()

    def processingFailed(self, reason: Failure) -> Failure:
        """Answer 500, or cut off what had begun; tell the log, not the client, why."""
        stream = None if self._disconnected or self.finished else self.channel.stream
        request = f"{self.method.decode('ascii')} {self.path.decode('ascii')}"
        # A handler that has waited may fail in another context than that of its request.
        name = self._request_id
        log.error("http.resource_failed", request=request, request_id=name, failure=reason)
        if stream is not None and self.startedWriting:
            self.channel.abortConnection()
        elif stream is not None:
            self.answer(500)
        return reason


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
