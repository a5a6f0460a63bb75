"""What an HTTP/1.1 connection sends: at once where that can be, and no faster than its client takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from halfsync.endpoints.transport import SocketTransport
from halfsync.http.rate import Pace, untaken

if TYPE_CHECKING:
    from halfsync.endpoints.send_queue import FilePiece
    from halfsync.http.h1 import H1


class Outgoing:
    """The way to the client; the producer of the transport, which pauses and resumes it."""

    __slots__ = ("_connection", "_transport", "blocked", "pace", "socket")

    def __init__(self, connection: H1) -> None:
        transport = connection.transport
        self._connection = connection
        self._transport = transport
        self.socket = transport if isinstance(transport, SocketTransport) else None
        """The transport, when it is one that sends at once, and reads into memory of ours."""
        self.pace: Pace | None = None
        """How the client takes the present response, once that has had to wait for it."""
        self.blocked = False
        """Whether what is written waits for the client."""
        transport.registerProducer(self, True)  # noqa: FBT003  IConsumer has it so

    def send(self, *pieces: bytes) -> None:
        """Send bytes: at once, as far as the kernel takes them."""
        if self.pace is not None:
            self.pace.sent(sum(map(len, pieces)))
        if self.socket is not None:
            if self.socket.send(*pieces):
                self._connection.weigh()
        else:
            self._transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    @property
    def sends_files(self) -> bool:
        """Whether the kernel can send files to the client: there is a plain socket, without TLS."""
        return type(self.socket) is SocketTransport

    def send_file(self, piece: FilePiece) -> None:
        """Send a window of a file; only where that can be."""
        if self.pace is not None:
            self.pace.sent(len(piece))
        if self.socket is not None:
            self.socket.send_file(piece)

    @property
    def held(self) -> int:
        """Bytes that wait in our memory."""
        return 0 if self.socket is None else self.socket.held

    def last(self) -> float:
        """Return until when the client may take what is left, after which the connection ends."""
        context = self._connection.context
        self.pace = Pace(context.bounds)
        return self.pace.wait_for_the_rest(context.seconds(), self._transport)

    # The transport calls these.

    def pauseProducing(self) -> None:
        """Give the client time to take what fills the buffer."""
        connection = self._connection
        self.blocked = True
        if self.pace is None:
            self.pace = Pace(connection.context.bounds)
        connection.deadline = self.pace.wait(connection.context.seconds(), untaken(self._transport))
        stream = connection.stream
        if stream is not None and stream.responder is not None:
            stream.responder.pause()

    def resumeProducing(self) -> None:
        """Go on: the client has taken it."""
        connection = self._connection
        self.blocked = False
        if self.pace is not None and not connection.closing:
            self.pace.go_on(connection.context.seconds())
        connection.weigh()
        connection.resumed()

    def stopProducing(self) -> None:
        """Nothing can be sent any more; `connectionLost` follows."""
