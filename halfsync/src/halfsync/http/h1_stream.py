"""One request of an HTTP/1.1 connection, and its response on the wire (RFC 9112 sections 6, 7.1 and 9.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from halfsync.http.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from halfsync.endpoints.send_queue import FilePiece
    from halfsync.http.account import Holder
    from halfsync.http.context import Context
    from halfsync.http.h1 import H1
    from halfsync.http.stream import RequestHead, ResponseHead

JOINED = 16 * 1024
"""Bytes of a body up to which it is copied behind its head: one piece costs the kernel less than two."""


class H1Stream(Stream):
    """The request that a connection is at."""

    context: Context
    ended = False
    """Whether all of the response has been written."""
    _chunked = False
    _release: Callable[[], None] | None = None

    def __init__(self, connection: H1, head: RequestHead, since: float) -> None:
        Stream.__init__(
            self, connection.context, head, connection.client, connection.local, connection.secure, since
        )
        self.connection = connection
        options = head.special.get("connection")
        self.persistent = head.version == "HTTP/1.1" or options == "keep-alive"
        """Whether the connection goes on after the response (RFC 9112 section 9.3)."""
        if options is not None and options != "keep-alive":
            found = {option.strip("\t ").lower() for option in options.split(",")}
            self.persistent = "close" not in found and (self.persistent or "keep-alive" in found)

    @property
    def holder(self) -> Holder:
        """The connection."""
        return self.connection

    @property
    def left(self) -> bool:
        """Whether the client has closed its side, and is gone for the other one, too."""
        return self.connection.hung_up

    def answer(
        self, head: ResponseHead, body: bytes = b"", release: Callable[[], None] | None = None
    ) -> None:
        """Send a whole response."""
        self.sent = len(body)
        self._release = release
        data = self._lines(head)
        if len(body) <= JOINED:
            self.connection.outgoing.send(data + body)
        else:
            self.connection.outgoing.send(data, body)
        self._end()

    def hint(self, fields: Iterable[tuple[str, str]]) -> None:
        """Send 103 Early Hints; a client of HTTP/1.0 would take it for the response."""
        if self.head.version == "HTTP/1.1" and not self.code:
            lines = "".join([f"{name}: {value}\r\n" for name, value in fields])
            self.connection.outgoing.send(f"HTTP/1.1 103 Early Hints\r\n{lines}\r\n".encode("latin-1"))

    def begin(self, head: ResponseHead, data: bytes = b"") -> None:
        """Send the head of a response and the first bytes of its body."""
        if (head.length is None or head.trailers) and self.has_body(head.code):
            if self.head.version == "HTTP/1.1":
                self._chunked = True
            else:
                # Where it ends only the end of the connection can tell.
                self.persistent = False
        lines = self._lines(head)
        self.sent = len(data)
        if not data:
            self.connection.outgoing.send(lines)
        elif self._chunked:
            self.connection.outgoing.send(b"%b%x\r\n" % (lines, len(data)), data, b"\r\n")
        else:
            self.connection.outgoing.send(lines, data)

    def write(self, data: bytes) -> None:
        """Send more of the body."""
        self.sent += len(data)
        if not data:
            return
        if self._chunked:
            self.connection.outgoing.send(b"%x\r\n" % len(data), data, b"\r\n")
        else:
            self.connection.outgoing.send(data)

    @property
    def sends_files(self) -> bool:
        """Whether the kernel can send files to the client."""
        return self.connection.outgoing.sends_files

    def write_file(self, piece: FilePiece) -> None:
        """Have the kernel send a window of a file."""
        self.sent += len(piece)
        self.connection.outgoing.send_file(piece)

    def finish(self, trailers: Sequence[tuple[str, str]] = ()) -> None:
        """End the response."""
        if trailers and self._chunked:
            lines = "".join([f"{name}: {value}\r\n" for name, value in trailers])
            self.connection.outgoing.send(f"0\r\n{lines}\r\n".encode("latin-1"))
        elif self._chunked:
            self.connection.outgoing.send(b"0\r\n\r\n")
        self._end()

    def abort(self) -> None:
        """Cut the connection, so that the client cannot take what it has for the whole."""
        self.connection.abort()

    def cut_short(self) -> None:
        """Close the connection once what has been written is sent."""
        self.responder = None
        self.connection.cut_short(self)

    def lose(self) -> None:
        """Tell the responder that there is no client."""
        self.release()
        responder, self.responder = self.responder, None
        if responder is not None:
            responder.gone()

    def release(self) -> None:
        """Let go of the body that was to be sent."""
        release, self._release = self._release, None
        if release is not None:
            release()

    def _end(self) -> None:
        self.ended = True
        # Each holds the other: without this, every request leaves objects to the garbage collector.
        self.responder = None
        self.connection.written(self)

    def _lines(self, head: ResponseHead) -> bytes:
        """Return a head as it goes over the wire."""
        self.code = head.code
        version = self.head.version
        if head.close or self.context.connections.draining:
            self.persistent = False
        if version == "HTTP/1.1" and self.persistent and (beginning := head.beginning()):
            # So are nearly all.
            name = self.request_id.encode("ascii")
            return b"%b%bX-Request-Id: %b\r\n\r\n" % (beginning, self.context.date_line(), name)
        return "".join(self._all_lines(head, version)).encode("latin-1")

    def _all_lines(self, head: ResponseHead, version: str) -> list[str]:
        code = head.code
        lines = [f"{version} {code} {head.reason}\r\n", head.block()]
        if code == 205:
            # The client waits for an end that this status does not tell (RFC 9110 section 15.3.6).
            lines.append("Content-Length: 0\r\n")
        elif self._chunked:
            named = f"Trailer: {', '.join(head.trailers)}\r\n"
            lines.append("Transfer-Encoding: chunked\r\n" + (named if head.trailers else ""))
        elif head.length is not None and code != 204:
            lines.append(f"Content-Length: {head.length}\r\n")
        elif version == "HTTP/1.0" and code not in {204, 304}:
            self.persistent = False
        if not head.has_date:
            lines.append(f"Date: {self.context.date()}\r\n")
        if not head.has_request_id:
            lines.append(f"X-Request-Id: {self.request_id}\r\n")
        if not self.persistent:
            lines.append("Connection: close\r\n\r\n")
        elif version == "HTTP/1.0":
            lines.append("Connection: Keep-Alive\r\n\r\n")
        else:
            lines.append("\r\n")
        return lines
