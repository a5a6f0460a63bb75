"""A listening socket with its factory: accepting, telling its health, and ending without loss.

shutdown(2) is never called on a listening socket: another process may share it, and go on accepting.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IHandshakeListener, IProtocolNegotiationFactory

from halfsync.endpoints.acceptor import Acceptor
from halfsync.endpoints.addresses import bracketed, from_socket
from halfsync.endpoints.handshakes import Handshakes
from halfsync.endpoints.poller import Poller
from halfsync.endpoints.tls import ServerTls
from halfsync.endpoints.tls_transport import TlsTransport
from halfsync.endpoints.transport import SocketTransport
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.internet.interfaces import IProtocolFactory

    from halfsync.endpoints.addresses import Address
    from halfsync.endpoints.certificates import Certificates
    from halfsync.life.sockets import Sockets

log = get_logger(__name__)


class ListeningPort:
    """An endpoint that listens, and accepts once it is told to.

    :param sockets: those of the process, to which it belongs while it is open.
    :param key: tells which socket it is, as `sockets.Source.key` does.
    :param inherited: what was handed over (`fd:3`); empty when the socket is of our own making.
    :param proxied: whether clients must speak the PROXY protocol first.
    :raises CertificateError: when the certificates cannot be used.
    """

    def __init__(
        self,
        listening: socket.socket,
        factory: IProtocolFactory,
        reactor: Any,
        *,
        sockets: Sockets,
        key: str,
        inherited: str,
        certificates: Certificates | None,
        proxied: bool,
    ) -> None:
        self.key = key
        self.proxied = proxied
        self.tls: ServerTls | None = None
        if certificates is not None:
            self.tls = ServerTls(certificates, protocols(factory), reactor, watch=sockets.certificate_watch)
        self.host: str | None = None
        """The address it is bound to, when it is a TCP one; `0.0.0.0` and `::` mean all."""
        self.port: int | None = None
        """The real port, also when port 0 was asked for."""
        self.shared = False
        """Whether another process has the socket, too, as one takes over from the other."""
        self.handshakes = Handshakes(reactor, proxied=proxied, tls=self.tls, connect=self._connect)
        self._direct = not proxied and self.tls is None
        self._factory: Any = factory
        self._poller = Poller(reactor)
        """What reads and writes all its connections."""
        self._started = False
        self._own = not inherited
        self._path = ""
        name = listening.getsockname()
        # treq cannot ask an IPv6 address (hyperlink's issue 188); a socket for both is systemd's default.
        self._loopback = "127.0.0.1" if _takes_ipv4(listening) else "::1"
        if listening.family != socket.AF_UNIX:
            self.host, self.port = name[:2]
            plain = f"tcp:{bracketed(name[0])}:{self.port}"
        elif isinstance(name, bytes):
            # An abstract one, written as ss(8) does.
            plain = "unix:@" + name[1:].decode(errors="backslashreplace")
        else:
            self._path = name
            plain = f"unix:{name}"
        self._inode = _inode(self._path)
        notes = [plain] if inherited else []
        notes += (["tls"] if self.tls else []) + (["haproxy"] if proxied else [])
        self.address = (inherited or plain) + (f" ({', '.join(notes)})" if notes else "")
        """For a person: `tcp:127.0.0.1:43211`, `unix:/run/x.sock`, `fd:3 (tcp:0.0.0.0:80)`."""
        self._acceptor = Acceptor(listening, self._accepted, reactor, self.address)
        self._sockets = sockets
        sockets.open.append(self)

    def start(self) -> None:
        """Begin to accept; when the factory raises, leave nothing behind."""
        try:
            self._factory.doStart()
        except BaseException:
            self._end()
            raise
        self._started = True
        if self.tls is not None:
            self.tls.start()
        self._acceptor.start()

    @property
    def url(self) -> str | None:
        """Where to reach it on this machine by HTTP; None for a UNIX socket, or behind the PROXY protocol."""
        if self.host is None or self.proxied:
            return None
        host = {"0.0.0.0": "127.0.0.1", "::": self._loopback}.get(self.host, self.host)  # noqa: S104  compared
        return f"{'https' if self.tls else 'http'}://{bracketed(host)}:{self.port}"

    def stop_accepting(self) -> None:
        """Accept no more, and let go of the socket; connections that are open stay.

        What waits in the backlog of a socket of our own is accepted first: to its client it is connected.
        What waits in that of one that was inherited, or is shared, is left to those who have it, too.
        """
        if self._sole and not self._acceptor.released:
            # With the path gone, nobody can come after the last accept.
            self._unlink()
            self._acceptor.take_backlog()
        self._end()

    def fileno(self) -> int:
        """Return the descriptor of the socket; -1 when it was let go."""
        return self._acceptor.fileno()

    async def close(self) -> None:
        """Let go of the socket at once. May be called again."""
        self._end()

    def problem(self) -> str | None:
        """Say why no client can be accepted; None when all is well, or when it was stopped on purpose."""
        problem = self._acceptor.problem()
        if problem is None and self._inode is not None and _inode(self._path) != self._inode:
            problem = f"the socket {self._path} was removed or replaced"
        return None if self._acceptor.released else problem

    def _accepted(self, accepted: socket.socket, client: Any) -> None:
        if self._direct:
            self._connect(accepted, client, None, None)
        else:
            accepted.settimeout(0)
            self.handshakes.begin(accepted, from_socket(client))

    def _connect(
        self, connected: socket.socket, client: Any, local: Address | None, protocol_name: bytes | None
    ) -> None:
        """Make a connection speak the factory's protocol."""
        try:
            protocol = self._factory.buildProtocol(from_socket(client))
            if protocol is None:
                connected.close()
                return
            kind = SocketTransport if self.tls is None else TlsTransport
            transport = kind(connected, protocol, client, None, 0, self._poller)
            if local is not None:
                transport.local = local
            if isinstance(transport, TlsTransport):
                transport.negotiatedProtocol = protocol_name
            protocol.makeConnection(transport)
            hears_of_tls = IHandshakeListener(protocol, None) if self.tls is not None else None
            if hears_of_tls is not None:
                hears_of_tls.handshakeCompleted()
        except Exception:
            # A bug of the factory's must not keep the others waiting.
            log.exception("listening.connection_failed", address=self.address)
            connected.close()

    @property
    def _sole(self) -> bool:
        """Whether nobody else accepts from the socket: its path and its backlog are ours then."""
        return self._own and not self.shared

    def _end(self) -> None:
        if self._sole and not self._acceptor.released:
            self._unlink()
        self._acceptor.release()
        if self in self._sockets.open:
            self._sockets.open.remove(self)
        if self._started:
            self._started = False
            if self.tls is not None:
                self.tls.stop()
            self._factory.doStop()

    def _unlink(self) -> None:
        # A successor's socket on the same path must stay. While ours is open, no other file has its inode.
        if self._inode is not None and _inode(self._path) == self._inode:
            # One that stays, in a folder closed since, must not hold up the end: the next start clears it.
            with suppress(OSError):
                Path(self._path).unlink()
        self._inode = None


def protocols(factory: IProtocolFactory) -> Sequence[bytes]:
    """Return what a factory speaks by ALPN, the best first; nothing when it does not negotiate."""
    negotiating = IProtocolNegotiationFactory(factory, None)
    return negotiating.acceptableProtocols() if negotiating is not None else ()


def _takes_ipv4(listening: socket.socket) -> bool:
    return listening.family != socket.AF_INET6 or not listening.getsockopt(
        socket.IPPROTO_IPV6, socket.IPV6_V6ONLY
    )


def _inode(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
