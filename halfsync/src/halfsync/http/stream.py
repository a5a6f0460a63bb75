"""Between a connection and what answers its requests: a stream, a handler, a responder.

A connection (HTTP/1.1, or HTTP/2 with many streams) makes a `Stream` of each request.
When the request has arrived to its last byte, the `Handler` gets it, in the reactor.
The handler answers at once, or sets `stream.responder` and answers later; either way in the reactor's thread:

    stream.answer(head, body)                            a whole response
    stream.begin(head, data); stream.write(data) ...; stream.finish()
    stream.refuse(code)                                  a whole short one of our own, in plain text
    stream.abort()                                       broken off, so that the client can tell

Exactly one of `answer`, `finish`, `refuse`, `abort` ends a stream; after it, or after `Responder.gone`,
the stream must not be touched any more, and the responder hears nothing more.
Between `begin` and `finish` the stream tells its responder to `pause` and `resume`
as the client takes what is written; what is written during a pause is kept all the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import IO, TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cryptography import x509

    from halfsync.endpoints.addresses import Address
    from halfsync.endpoints.send_queue import FilePiece
    from halfsync.http.account import Account, Holder
    from halfsync.http.disk import Disk

NO_CONTENT = frozenset((204, 205, 304))
"""Final statuses whose responses have no content (RFC 9110 section 6.4.1 and 15.3.6)."""


class RequestHead:
    """What a request begins with, checked, and ready to become an environ."""

    __slots__ = ("_fields", "length", "method", "special", "target", "trailers", "variables", "version")

    def __init__(  # noqa: PLR0917  one call a request, which names would make slower
        self,
        method: str,
        target: str,
        version: str,
        variables: dict[str, str],
        special: dict[str, str],
        length: int | None,
        fields: Callable[[], list[tuple[str, str]]],
    ) -> None:
        self.method = method
        self.target = target
        """As in the request line; once a handler gets it: a path with its query, or `*`."""
        self.version = version
        """`HTTP/1.0`, `HTTP/1.1` or `HTTP/2`."""
        self.variables = variables
        """The headers as WSGI names them (`HTTP_HOST`, `CONTENT_TYPE`), repeated ones joined; without those
        that frame the body, and those whose names have an underscore. Requests share them: never changed."""
        self.special = special
        """Values by name in lower case, of the headers that a server looks at itself: `head.SPECIAL`."""
        self.length = length
        """The body's, as declared; None for one that is chunked, or declared nothing on HTTP/2."""
        self._fields = fields
        self.trailers: Sequence[tuple[str, str]] = ()
        """Names and values behind the body, without those that have no place there."""

    def fields(self) -> list[tuple[str, str]]:
        """Return every header, names as the client spells them, values without whitespace around them."""
        return self._fields()


class ResponseHead:
    """Status and headers of a response, checked: no control characters, none that is hop-by-hop.

    Responses that say the same may share one: who changes it takes a copy.
    """

    has_date = False
    has_request_id = False
    close = False
    """Whether the connection is to end with this response; not heeded on HTTP/2."""
    trailers: Sequence[str] = ()
    """Names of the fields that `Stream.finish` is given; only for a client that takes them, and a body."""
    on_h2 = b""
    """How it is written on HTTP/2, but for Date and X-Request-Id; kept by what writes it."""
    _block: str | None = None
    _beginning: bytes | None = None

    def __init__(
        self,
        code: int,
        reason: str,
        fields: Iterable[tuple[str, str]] = (),
        *,
        length: int | None = None,
    ) -> None:
        self.code = code
        self.reason = reason
        self.fields = list(fields)
        """Names and values that Latin-1 can say; without Content-Length."""
        self.length = length
        """The body's in bytes, when it is known: becomes the header Content-Length."""

    def is_endless(self) -> bool:
        """Say whether a stream of events follows (HTML section 9.2): its client asks again when it ends."""
        return any(
            name.lower() == "content-type" and value.lower().startswith("text/event-stream")
            for name, value in self.fields
        )

    def with_length(self, length: int) -> ResponseHead:
        """Return another one like it whose body has this length; they share the headers."""
        other = ResponseHead.__new__(ResponseHead)
        other.__dict__.update(self.__dict__, length=length, on_h2=b"", _beginning=None)
        return other

    def with_trailers(self, names: Sequence[str]) -> ResponseHead:
        """Return another one like it, of a response with trailers; they share the headers."""
        other = ResponseHead.__new__(ResponseHead)
        other.__dict__.update(self.__dict__, trailers=names, _beginning=None)
        return other

    def block(self) -> str:
        """Return the headers as lines, with their ends; they may not be changed any more."""
        if self._block is None:
            self._block = "".join([f"{name}: {value}\r\n" for name, value in self.fields])
        return self._block

    def beginning(self) -> bytes:
        """Return how it begins on HTTP/1.1 where only Date and X-Request-Id are to follow; empty elsewhere.

        Nothing may be changed any more.
        """
        if self._beginning is None:
            self._beginning = b""
            if (
                self.length is not None
                and self.code not in {204, 205}
                and not (self.has_date or self.has_request_id or self.close or self.trailers)
            ):
                lines = (
                    f"HTTP/1.1 {self.code} {self.reason}\r\n{self.block()}Content-Length: {self.length}\r\n"
                )
                self._beginning = lines.encode("latin-1")
        return self._beginning


class Responder(Protocol):
    """Whatever answers a request later than at once; its methods are called in the reactor."""

    def gone(self) -> None:
        """Give up: there is no client any more; the stream must not be touched."""

    def pause(self) -> None:
        """Write no more until the client has taken what is written."""

    def resume(self) -> None:
        """Go on: the client has taken it."""


class Shared(Protocol):
    """What all requests of a listener share, as a handler needs it; `halfsync.http.context.Context` is it."""

    reactor: Any
    memory: Account
    """For whatever requests and responses hold in memory."""
    disk: Account
    """For responses that wait for slow clients."""
    file_thread: Disk
    """For files that responses are made of."""

    @property
    def draining(self) -> bool:
        """Whether the listener is being stopped."""

    def date(self) -> str:
        """Return the present date as HTTP writes it."""

    def plain(self, code: int, fields: Iterable[tuple[str, str]] = ()) -> tuple[ResponseHead, bytes]:
        """Return head and body of a short answer of our own."""


class Stream(ABC):
    """One request of a connection, and its response."""

    context: Shared
    # What is not set for each request costs none of its time.
    request_id = ""
    """What the request is called in the logs, here and elsewhere."""
    responder: Responder | None = None
    prefix = ""
    """The path, still percent-encoded, that a trusted proxy has taken off the target (X-Forwarded-Prefix)."""
    thread: int | None = None
    """Identifier of the worker thread that is at it."""
    code = 0
    """Status of the response; 0 before it has begun."""
    sent = 0
    """Bytes of its body so far, without framing."""
    failed = False
    """Whether its response was broken off as it could not be made."""

    def __init__(  # noqa: PLR0917  one call a request, which names would make slower
        self,
        context: Shared,
        head: RequestHead,
        client: Address,
        local: Address,
        secure: bool,  # noqa: FBT001  the same
        since: float,
    ) -> None:
        self.context = context
        self.head = head
        self.client = client
        """The client, or what a trusted proxy says that it is."""
        self.local = local
        """Our end."""
        self.secure = secure
        """Whether the client has used TLS, be it towards a trusted proxy."""
        self.since = since
        """When the first byte of the request arrived, in the reactor's seconds."""

    @property
    def holder(self) -> Holder:
        """In whose name room is taken for what the request and its response hold: the connection."""
        return None

    @property
    def certificate(self) -> x509.Certificate | None:
        """The certificate that the client has shown and that was found good; None without one."""
        transport = getattr(getattr(self, "connection", None), "transport", None)
        shown = getattr(transport, "getPeerCertificate", None)
        found: Any = shown() if shown is not None else None
        # Twisted's own TLS, below `haproxy:ssl:`, has pyOpenSSL's.
        return cast("x509.Certificate | None", getattr(found, "to_cryptography", lambda: found)())

    @property
    def left(self) -> bool:
        """Whether the client is known to have left before `Responder.gone` is called; for any thread."""
        return False

    def has_body(self, code: int) -> bool:
        """Say whether a response with this status may have a body."""
        return code >= 200 and code not in NO_CONTENT and self.head.method != "HEAD"

    @abstractmethod
    def answer(
        self, head: ResponseHead, body: bytes = b"", release: Callable[[], None] | None = None
    ) -> None:
        """Send a whole response.

        :param head: its `length` is that of the body, also where none is sent (HEAD).
        :param body: empty where there is to be none.
        :param release: called once when the body has left our memory, be it that the client is gone.
        """

    @abstractmethod
    def begin(self, head: ResponseHead, data: bytes = b"") -> None:
        """Send the head of a response and the first bytes of its body, in one piece."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Send more of a body that has begun."""

    @property
    def sends_files(self) -> bool:
        """Whether there is `write_file`; for any thread."""
        return False

    def write_file(self, piece: FilePiece) -> None:
        """Have the kernel send a window of a file as more of a body of known length."""
        raise NotImplementedError

    @abstractmethod
    def finish(self, trailers: Sequence[tuple[str, str]] = ()) -> None:
        """End a response that has begun.

        :param trailers: fields behind the body, checked, whose names its head has.
        """

    @abstractmethod
    def abort(self) -> None:
        """Break the response off so that the client can tell, or drop a request that is not answered."""

    @abstractmethod
    def hint(self, fields: Iterable[tuple[str, str]]) -> None:
        """Send 103 Early Hints (RFC 8297) ahead of the response, where the client's HTTP has interim ones.

        :param fields: checked, as those of a `ResponseHead` are.
        """

    def fail(self) -> None:
        """Break the response off for a fault of this side's: nobody may take it for a client that left."""
        self.failed = True
        self.abort()

    def cut_short(self) -> None:
        """End the response where it is; the client gets what has been written, and can tell."""
        self.abort()

    def refuse(self, code: int, fields: Iterable[tuple[str, str]] = ()) -> None:
        """Send a whole short response of our own, in plain text."""
        head, body = self.context.plain(code, fields)
        if not self.has_body(code):
            body = b""
        self.answer(head, body)


class Handler(Protocol):
    """What answers requests: a WSGI application, resources of twisted.web, later ASGI."""

    def handle(self, stream: Stream, head: RequestHead, body: IO[bytes], depth: int = 0) -> None:
        """Answer a request, at once or later; the handler closes the body when it is done with it.

        :param depth: how many segments of the path are the handler's own place, where it is mounted.

        An exception is logged and answered with 500.
        """
