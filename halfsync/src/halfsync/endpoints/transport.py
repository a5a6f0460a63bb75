"""A connection's transport on a plain socket, TCP or UNIX.

It serves as any of Twisted's does. Otherwise than theirs, `send` goes to the kernel at once where nothing
waits before it, what the kernel does not take is kept without a copy, and a protocol may have bytes read
right into memory of its own (`sink`): small responses were a tenth faster, 1 MB either way twice as fast.

A heir that speaks TLS on the socket overrides `_recv`, `_recv_into`, `_send` and `_shut`.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from twisted.internet import error
from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IHalfCloseableProtocol, ISystemHandle, ITCPTransport
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.python.failure import Failure
from zope.interface import implementer

from halfsync.endpoints.addresses import from_socket
from halfsync.endpoints.kernel import has_hung_up, unsent_in_kernel
from halfsync.endpoints.send_queue import SendQueue, rest_of, send_window
from halfsync.endpoints.tcp_options import TcpOptions
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from twisted.internet.interfaces import IPushProducer

    from halfsync.endpoints.send_queue import FilePiece

log = get_logger(__name__)

FULL = 64 * 1024
"""Bytes that wait before the producer is paused."""


@implementer(ITCPTransport, ISystemHandle)
class SocketTransport(TcpOptions, FileDescriptor):
    """One accepted connection; `twisted.internet.tcp.Port` makes it as it makes its own."""

    sink: memoryview | None = None
    """Where the protocol wants the next bytes; it hears of them by `sank(count)`, not `dataReceived`."""
    local: Any = None
    """Our address as a PROXY header names it; None for the socket's own."""
    lost: Callable[[], None] | None = None
    """Called after the connection has ended, whatever the protocol is by then."""
    connected = 1
    polled = 0
    """What a poller looks for."""
    share: Hashable = None  # whose it is, where clients take turns; None: nobody else's
    # What a connection does not have of its own costs it no memory, and there may be thousands.
    _queue: SendQueue | None = None
    """None when nothing waits."""
    _half_close = False
    """Whether our side is to be closed once everything is sent."""
    _half_closed = False
    _aborting = False

    def __init__(  # noqa: PLR0917  Twisted's signature
        self, sock: socket.socket, protocol: Any, client: Any, server: Any, sessionno: int, reactor: Any
    ) -> None:
        del server, sessionno
        # Not by way of FileDescriptor: its buffers stay unused.
        self.reactor: Any = reactor
        self.socket = sock
        self.protocol = protocol
        self._client = client
        sock.settimeout(0)
        if sock.family != socket.AF_UNIX:
            # A response of several pieces would wait for the client's delayed acknowledgement.
            with suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.startReading()

    # The reactor calls these.

    def fileno(self) -> int:
        """Return the descriptor; -1 when it is closed."""
        return self.socket.fileno()

    def logPrefix(self) -> str:
        """Name the protocol."""
        return type(self.protocol).__name__

    def doRead(self) -> Exception | None:
        """Read what has arrived, once."""
        sink = self.sink
        try:
            if sink is not None:
                count = self._recv_into(sink)
            else:
                data = self._recv(self.bufferSize)
                count = len(data)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return CONNECTION_LOST
        if not count:
            return CONNECTION_DONE
        if sink is not None:
            self.protocol.sank(count)
        else:
            self.protocol.dataReceived(data)
        return None

    def doWrite(self) -> Exception | None:
        """Send of what waits as much as the kernel takes."""
        queue = self._queue
        if queue is not None:
            try:
                file = queue.file
                queue.drop(self._send(queue.turn()) if file is None else send_window(self.socket, file))
            except (BlockingIOError, InterruptedError):
                return None
            except (OSError, ValueError):
                return CONNECTION_LOST
            if queue.size:
                return None
            self._queue = None
        self.stopWriting()
        if self.producer is not None and (self.producerPaused or not self.streamingProducer):
            self.producerPaused = False
            cast("IPushProducer", self.producer).resumeProducing()
        elif self.disconnecting:
            return CONNECTION_DONE
        elif self._half_close:
            self._half_closed = True
            with suppress(OSError):
                self._shut()
            protocol = IHalfCloseableProtocol(self.protocol, None)
            if protocol is not None:
                protocol.writeConnectionLost()
        return None

    def readConnectionLost(self, reason: Failure) -> None:
        """Hear that the client has closed its side."""
        protocol = IHalfCloseableProtocol(self.protocol, None)
        if protocol is None:
            self.connectionLost(reason)
            return
        try:
            protocol.readConnectionLost()
        except Exception:
            log.exception("transport.protocol_failed", protocol=self.logPrefix())
            self.connectionLost(Failure())

    def connectionLost(self, reason: Failure) -> None:
        """End, once; whatever asks again is not heeded."""
        if self.disconnected:
            return
        # It tells the producer, and stops reading and writing.
        FileDescriptor.connectionLost(self, reason)
        queue, self._queue, self.sink = self._queue, None, None
        if queue is not None and queue.in_files:
            queue.close()
        self._close(reset=bool(reason.check(error.ConnectionAborted)))
        protocol, self.protocol = self.protocol, None
        protocol.connectionLost(reason)
        lost, self.lost = self.lost, None
        if lost is not None:
            lost()

    # ITransport.

    def write(self, data: bytes) -> None:
        """Send bytes after the present turn of the reactor, together with what else is written in it."""
        if not isinstance(data, bytes):
            raise TypeError(f"a transport sends bytes, not {type(data).__name__}")
        if data and self.connected and not self._half_closed:
            self._keep(data)
            self._pause_if_full()

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """Send pieces, as `write` does."""
        for data in iovec:
            self.write(data)

    def send(self, *pieces: bytes | memoryview) -> bool:
        """Send pieces at once, as far as the kernel takes them behind what waits; say whether any waits."""
        if not self.connected or self._half_closed:
            return False
        sent = 0
        if self._queue is None:
            try:
                sent = self._send(pieces)
            except OSError:
                # That the connection is lost will be found when the rest is sent.
                sent = 0
            if sent == len(pieces[0]) and len(pieces) == 1:
                return False
        for piece in pieces:
            if sent >= len(piece):
                sent -= len(piece)
            else:
                self._keep(rest_of(piece, sent) if sent else piece)
                sent = 0
        # Not before all are kept: a producer may write something more when it is paused.
        if self._queue is not None:
            self._pause_if_full()
        return self._queue is not None

    def send_file(self, piece: FilePiece) -> None:
        """Send a window of a file behind all that was sent, at once as far as the kernel takes it."""
        if not self.connected or self._half_closed:
            piece.file.close()
            return
        if self._queue is None:
            # As in `send`.
            with suppress(OSError, ValueError):
                piece.drop(send_window(self.socket, piece))
        if piece:
            self._keep(piece)
            self._pause_if_full()

    def loseConnection(self) -> None:
        """Close once everything is sent."""
        if not self.connected or self.disconnecting:
            return
        self.disconnecting = 1
        self.stopReading()
        if self._half_closed:
            # Nothing can be written any more at which the end would be seen.
            self.stopWriting()
            self.reactor.callLater(0, self.connectionLost, Failure(CONNECTION_DONE))
        else:
            self.startWriting()

    def loseWriteConnection(self) -> None:
        """Close our side once everything is sent."""
        self._half_close = True
        self.startWriting()

    def abortConnection(self) -> None:
        """Cut the connection, soon; what waits is dropped."""
        if self.disconnected or self._aborting:
            return
        self._aborting = True
        self.stopReading()
        self.stopWriting()
        self.reactor.callLater(0, self.connectionLost, Failure(error.ConnectionAborted()))

    def resumeProducing(self) -> None:
        """Read again."""
        if self.connected and not self.disconnecting and not self._aborting:
            self.startReading()

    def getHost(self) -> Any:
        """Return our address."""
        return from_socket(self.local or self.socket.getsockname())

    def getPeer(self) -> Any:
        """Return the client's address."""
        return from_socket(self._client)

    # Protocols that know this transport call these.

    @property
    def unsent(self) -> int:
        """How many bytes wait for the client here."""
        return 0 if self._queue is None else self._queue.size

    @property
    def held(self) -> int:
        """How many of those are in our memory: no byte of a file is."""
        return 0 if self._queue is None else self._queue.size - self._queue.in_files

    @property
    def untaken(self) -> int:
        """How many bytes the client has not taken: those that wait here, and those in the kernel."""
        return self.unsent + unsent_in_kernel(self.socket)

    @property
    def hung_up(self) -> bool:
        """Whether the client is known to be gone for good: by a reset, or by the end of a UNIX socket."""
        return has_hung_up(self.socket)

    # A heir overrides these. They raise BlockingIOError for "not now", another OSError at the end.

    def _recv(self, size: int) -> bytes:
        """Return what has arrived, at most `size` bytes; none when the client has closed its side."""
        return self.socket.recv(size)

    def _recv_into(self, sink: memoryview) -> int:
        """Put what has arrived into memory; return how many bytes, 0 when the client has closed its side."""
        return self.socket.recv_into(sink)

    def _send(self, pieces: Any) -> int:
        """Send of the pieces what the kernel takes; return how many bytes."""
        return self.socket.send(pieces[0]) if len(pieces) == 1 else self.socket.sendmsg(pieces)

    def _shut(self) -> None:
        """Tell the client that nothing more comes."""
        self.socket.shutdown(socket.SHUT_WR)

    def _close(self, *, reset: bool) -> None:
        """Close the socket; with a reset, so that what was sent is not taken for the whole."""
        with suppress(OSError):
            if reset:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            else:
                # Closing alone ends nothing while a child process has inherited the descriptor.
                self.socket.shutdown(socket.SHUT_RDWR)
        with suppress(OSError):
            self.socket.close()

    def _keep(self, data: bytes | memoryview | FilePiece) -> None:
        if self._queue is None:
            self._queue = SendQueue()
            self.startWriting()
        self._queue.add(data)

    def _pause_if_full(self) -> None:
        if self.unsent > FULL and self.producer is not None and self.streamingProducer:
            self.producerPaused = True
            cast("IPushProducer", self.producer).pauseProducing()
