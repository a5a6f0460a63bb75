"""A connection's transport whose socket speaks TLS, from the end of the handshake on.

The standard library's SSLSocket works straight on the non-blocking socket: through Twisted's memory BIOs,
a small response cost twice as much.
OpenSSL may hold bytes of which the reactor knows nothing: the rest of a record that was read in part.
They are read before the reactor is asked again.
Either direction may need the other one of the socket first (`SSLWantWriteError` from a read).
"""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Any

from cryptography import x509
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.main import CONNECTION_DONE
from twisted.python.failure import Failure
from zope.interface import implementer

from halfsync.endpoints.tls_context import ServerContext
from halfsync.endpoints.transport import SocketTransport

if TYPE_CHECKING:
    from collections.abc import Sequence

RECORD = 16 * 1024
"""Bytes of a record at most (RFC 8446, section 5.1).

OpenSSL is given no more at once. Of a longer piece it would send some records and not tell how many:
a client that takes it slowly would seem to take nothing.
"""

A_TURN = 64
"""Reads of what OpenSSL holds before other connections have their turn."""

RECORDS = 32
"""Records that are read into memory that was given, before others have their turn."""

A_SESSION = 15 * 1024
"""Bytes that OpenSSL 3 holds for a connection that is idle; measured by its own allocations."""

A_BUFFER = 17 * 1024
"""Bytes of the buffer of a record, in either direction; released when nothing is in it."""


@implementer(ISSLTransport)
class TlsTransport(SocketTransport):
    """One connection over TLS."""

    socket: ssl.SSLSocket
    negotiatedProtocol: bytes | None = None
    """What was agreed on by ALPN; None for nothing."""
    _given: bytes | memoryview | None = None
    """What OpenSSL was given and has not sent. It must be given the same again (SSL_write(3))."""
    _read_wants_write = False
    _write_wants_read = False
    _in_part = False
    """Whether OpenSSL has read a part of a record, and waits for the rest."""
    _wanted = True
    """Whether the protocol wants to hear of bytes."""
    _end: OSError | None = None
    """Why nothing more can be read, while the protocol has yet to hear of it."""
    _said_goodbye = False
    _shut_later = False
    _deaf = False
    """Whether OpenSSL reads no more; what still comes is thrown away."""

    def getPeerCertificate(self) -> x509.Certificate | None:
        """Return the certificate that the client has shown; None when it was not asked for one."""
        if self.socket.context.verify_mode == ssl.CERT_NONE:
            # Web listeners ask for each request.
            return None
        shown = self.socket.getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(shown) if shown else None

    def getOwnCertificate(self) -> x509.Certificate | None:
        """Return the certificate that was shown to the client; None when it is not known."""
        context = self.socket.context
        return context.certificate if isinstance(context, ServerContext) else None

    @property
    def overhead(self) -> int:
        """How many bytes OpenSSL holds."""
        return A_SESSION + A_BUFFER * (self._in_part + (self._given is not None))

    # Reading.

    def doRead(self) -> Exception | None:
        """Read what has arrived, and all that OpenSSL holds of it."""
        if self._write_wants_read:
            self._write_wants_read = False
            self.startWriting()
            if not self._wanted:
                SocketTransport.stopReading(self)
                return None
        for _ in range(A_TURN):
            why = SocketTransport.doRead(self)
            if why is not None or not self._holds_more():
                return why
        self.reactor.callLater(0, self._read_held)
        return None

    def startReading(self) -> None:
        """Have bytes read, first those that OpenSSL holds."""
        self._wanted = True
        SocketTransport.startReading(self)
        if self._holds_more():
            self.reactor.callLater(0, self._read_held)

    def stopReading(self) -> None:
        """Have no bytes read for now."""
        self._wanted = False
        SocketTransport.stopReading(self)

    def _holds_more(self) -> bool:
        if not self._wanted or self.disconnected or self._deaf:
            return False
        return self._end is not None or self.socket.pending() > 0

    def _read_held(self) -> None:
        """Do what the reactor does for a socket that has something to read."""
        if not self._holds_more():
            return
        why = self.doRead()
        if why is None:
            return
        self.stopReading()
        if why is CONNECTION_DONE:
            self.readConnectionLost(Failure(why))
        else:
            self.connectionLost(Failure(why))

    def _recv(self, size: int) -> bytes:
        if self._deaf:
            return self._discard(size)
        data: bytes = self._read(min(size, RECORD))
        return data

    def _recv_into(self, sink: memoryview) -> int:
        if self._deaf:
            return len(self._discard(len(sink)))
        count = 0
        try:
            # The reactor would bring a record a turn. Not until none is left: they may be of a byte, and come
            # as fast as they are read.
            for _ in range(RECORDS):
                if count == len(sink):
                    break
                got: int = self._read(len(sink) - count, sink[count:])
                if not got:
                    raise _GoodbyeError
                count += got
        except BlockingIOError:
            if not count:
                raise
        except OSError as error:
            if not count:
                if isinstance(error, _GoodbyeError):
                    return 0
                raise
            self._end = error
        return count

    def _read(self, size: int, sink: memoryview | None = None) -> Any:
        if self._end is not None:
            end, self._end = self._end, None
            if isinstance(end, _GoodbyeError):
                return b"" if sink is None else 0
            raise end
        try:
            got = self.socket.read(size, sink)
        except ssl.SSLWantReadError:
            self._in_part = True
            raise BlockingIOError from None
        except ssl.SSLWantWriteError:
            self._read_wants_write = True
            self.startWriting()
            raise BlockingIOError from None
        except ssl.SSLZeroReturnError:
            # The client has said goodbye, after we have.
            return b"" if sink is None else 0
        self._in_part = False
        return got

    def _discard(self, size: int) -> bytes:
        """Read what nobody can decrypt any more, and wait for the client's end."""
        if socket.socket.recv(self.socket, size):
            raise BlockingIOError
        return b""

    # Writing.

    def doWrite(self) -> Exception | None:
        """Send what waits; at the end, the goodbye (close_notify): by it the client knows that it has all."""
        if self._write_wants_read:
            # To be told again and again that it can be written would not help.
            SocketTransport.stopWriting(self)
            return None
        if self._read_wants_write:
            self._read_wants_write = False
            why = self.doRead()
            if why is not None:
                return why
        if self._shut_later:
            self._shut_later = False
            self.stopWriting()
            self._shut()
            return None
        why = SocketTransport.doWrite(self)
        if why is CONNECTION_DONE and not self._say_goodbye():
            self.startWriting()
            return None
        return why

    def _send(self, pieces: Sequence[bytes | memoryview]) -> int:
        sent = 0
        while True:
            given = self._given
            if given is None:
                given = _next_record(pieces, sent)
                if given is None:
                    return sent
            try:
                self.socket.write(given)
            except ssl.SSLWantWriteError:
                break
            except ssl.SSLWantReadError:
                self._write_wants_read = True
                SocketTransport.startReading(self)
                break
            self._given = None
            sent += len(given)
        self._given = given
        if not sent:
            raise BlockingIOError
        return sent

    # The end.

    def _shut(self) -> None:
        if self._say_goodbye():
            # Not that of SSLSocket: it would end the reading, too.
            socket.socket.shutdown(self.socket, socket.SHUT_WR)
        else:
            self._shut_later = True
            self.startWriting()

    def _close(self, *, reset: bool) -> None:
        if not reset and self._given is None:
            self._say_goodbye()
        SocketTransport._close(self, reset=reset)  # noqa: SLF001  it is what this one overrides

    def _say_goodbye(self) -> bool:
        """Send close_notify (RFC 8446, section 6.1); return False when it must be tried again."""
        if self._said_goodbye:
            return True
        try:
            self.socket.unwrap()
        except ssl.SSLWantReadError:
            # Ours is sent, and the client's has not come. Nobody waits for it.
            pass
        except ssl.SSLWantWriteError:
            return False
        except (OSError, ValueError):
            # Data of the client's was in the way of its goodbye, or the connection is lost.
            self._deaf = True
        else:
            self._deaf = True
        self._said_goodbye = True
        return True


def tls_below(transport: Any) -> TlsTransport | None:
    """Return the transport that speaks TLS, below whatever wraps it; None where there is no such."""
    while transport is not None and not isinstance(transport, TlsTransport):
        inner = getattr(transport, "transport", None)
        transport = None if inner is transport else inner
    return transport


class _GoodbyeError(OSError):
    """The client has sent close_notify."""


def _next_record(pieces: Sequence[bytes | memoryview], start: int) -> bytes | memoryview | None:
    """Return what stands in pieces from a place on, as much as goes into a record; None at the end."""
    wanted: list[bytes | memoryview] = []
    room = RECORD
    for piece in pieces:
        length = len(piece)
        if start >= length:
            start -= length
            continue
        if not start and length <= room:
            wanted.append(piece)
        else:
            wanted.append(memoryview(piece)[start : start + room])
        room -= len(wanted[-1])
        start = 0
        if not room:
            break
    if len(wanted) > 1:
        return b"".join(wanted)
    return wanted[0] if wanted else None
