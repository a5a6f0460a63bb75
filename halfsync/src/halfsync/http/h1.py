"""A connection of HTTP/1.1, as its parts know it: `arrival`, `h1_stream`, `half_closed`, `outgoing`."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any, Protocol

from halfsync.http.connections import Connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from halfsync.endpoints.addresses import Address
    from halfsync.endpoints.send_queue import FilePiece
    from halfsync.endpoints.transport import SocketTransport
    from halfsync.http.context import Context
    from halfsync.http.parser import Parser
    from halfsync.http.stream import RequestHead, Stream


class Sender(Protocol):
    """The way to the client."""

    socket: SocketTransport | None
    """The transport, when it is one that sends at once, and reads into memory of ours."""

    @property
    def sends_files(self) -> bool:
        """Whether the kernel can send files to the client."""

    def send(self, *pieces: bytes) -> None:
        """Send bytes: at once, as far as the kernel takes them."""

    def send_file(self, piece: FilePiece) -> None:
        """Send a window of a file; only where that can be."""


class H1(Connection, Protocol):
    """The connection."""

    context: Context
    parser: Parser
    deadline: float
    closing: bool
    """Nothing more is read from it."""

    @property
    def outgoing(self) -> Sender:
        """The way to the client."""

    @property
    def stream(self) -> Stream | None:
        """The request that is answered at the moment."""

    @property
    def local(self) -> Address:
        """Our end."""

    @property
    def secure(self) -> bool:
        """Whether there is TLS on the connection."""

    @property
    def hung_up(self) -> bool:
        """Whether the client is gone for both directions, after it has closed its side; for any thread."""

    def read_on(self, then: Callable[[], object]) -> None:
        """Make a call that what arrives has waited for, and read on."""

    def handle(self, head: RequestHead, body: IO[bytes]) -> None:
        """Have a request answered that has arrived to its last byte."""

    def written(self, stream: Any) -> None:
        """Go on after a response that has been written, once the client has taken most of it."""

    def cut_short(self, stream: Any) -> None:
        """Close once what there is of a response is sent."""

    def weigh(self) -> None:
        """Have the account know what is in buffers of it at the moment."""

    def give_way(self) -> None:
        """Let go of what has this: another protocol has the transport now."""

    def resumed(self) -> None:
        """Go on: the client has taken what was written."""

    def refuse(self, code: int, reason: str = "") -> None:
        """Answer a request that cannot be read to its end, and close."""
