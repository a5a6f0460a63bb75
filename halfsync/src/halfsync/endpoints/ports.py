"""A listening socket in the reactor: accepting, telling its health, and ending without loss.

shutdown(2) is never called on a listening socket: another process may share it, and go on accepting.
"""

from __future__ import annotations

import os
import resource
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from twisted.internet import tcp, unix
from twisted.internet.main import CONNECTION_DONE
from twisted.logger import Logger

from halfsync.endpoints.poller import Poller
from halfsync.endpoints.transport import SocketTransport
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from twisted.internet.interfaces import IProtocolFactory
    from twisted.logger import ILogObserver, LogEvent

log = get_logger(__name__)

LAST_ACCEPTS = 10_000
"""The most connections that are taken from the backlog at the end: a flood must not hold up a drain."""

REMINDER = 10.0
"""Seconds between two complaints of one listening socket about clients that it had to turn away."""

listening: list[Bound] = []
"""What this process listens on, in the order in which it began to."""


class Bound:
    """An endpoint that listens."""

    def __init__(
        self,
        listening: socket.socket,
        factory: IProtocolFactory,
        reactor: Any,
        *,
        place: str,
        inherited: str,
        tls: bool,
        proxied: bool,
    ) -> None:
        self.place = place
        """The socket that the string means, as `sockets.Source.place` has it."""
        self.tls = tls
        self.proxied = proxied
        """Clients must speak the PROXY protocol first."""
        self.host: str | None = None
        """The address it is bound to, when it is a TCP one; `0.0.0.0` and `::` mean all."""
        self.port: int | None = None
        """The real port, also when port 0 was asked for."""
        self.offered = False
        """Whether another process has the socket, too, as one takes over from the other."""
        self._own = not inherited
        self._path = ""
        name = listening.getsockname()
        # treq cannot ask an IPv6 address (hyperlink's issue 188); a socket for both is systemd's default.
        self._loopback = "127.0.0.1" if _takes_ipv4(listening) else "::1"
        if listening.family != socket.AF_UNIX:
            self.host, self.port = name[:2]
            plain = f"tcp:{_bracketed(name[0])}:{self.port}"
        elif isinstance(name, bytes):
            # An abstract one, written as ss(8) does.
            plain = "unix:@" + name[1:].decode(errors="backslashreplace")
        else:
            self._path = name
            plain = f"unix:{name}"
        self._inode = _inode(self._path)
        notes = ([plain] if inherited else []) + (["tls"] if tls else []) + (["haproxy"] if proxied else [])
        self.address = (inherited or plain) + (f" ({', '.join(notes)})" if notes else "")
        """For a person: `tcp:127.0.0.1:43211`, `unix:/run/x.sock`, `fd:3 (tcp:0.0.0.0:80)`."""
        kind = _UnixPort if listening.family == socket.AF_UNIX else _Port
        self._accepting = kind(listening, factory, reactor, self.address)

    def start(self) -> None:
        """Begin to accept; when the factory raises, leave nothing behind."""
        try:
            self._accepting.startListening()
        except BaseException:
            self._end()
            raise
        listening.append(self)

    @property
    def url(self) -> str | None:
        """Where to reach it on this machine by HTTP; None for a UNIX socket, or behind the PROXY protocol."""
        if self.host is None or self.proxied:
            return None
        host = {"0.0.0.0": "127.0.0.1", "::": self._loopback}.get(self.host, self.host)  # noqa: S104  compared
        return f"{'https' if self.tls else 'http'}://{_bracketed(host)}:{self.port}"

    def stop_accepting(self) -> None:
        """Accept no more, and let go of the socket; connections that are open stay.

        What waits in the backlog of a socket of our own is accepted first: to its client it is connected.
        What waits in that of one that was inherited, or offered, is left to those who share it.
        """
        if self._sole and not self._accepting.released:
            # With the path gone, nobody can come after the last accept.
            self._unlink()
            self._accepting.take_backlog()
        self._end()

    def fileno(self) -> int:
        """Return the descriptor of the socket; -1 when it was let go."""
        return int(self._accepting.fileno())

    async def close(self) -> None:
        """Let go of the socket at once. May be called again."""
        self._end()

    def problem(self) -> str | None:
        """Say why no client can be accepted; None when all is well, or when it was stopped on purpose."""
        problem = self._accepting.problem()
        if problem is None and self._inode is not None and _inode(self._path) != self._inode:
            problem = f"the socket {self._path} was removed or replaced"
        return None if self._accepting.released else problem

    @property
    def _sole(self) -> bool:
        """Whether nobody else accepts from the socket: its path and its backlog are ours then."""
        return self._own and not self.offered

    def _end(self) -> None:
        if self._sole and not self._accepting.released:
            self._unlink()
        self._accepting.release()
        if self in listening:
            listening.remove(self)

    def _unlink(self) -> None:
        # A successor's socket on the same path must stay. While ours is open, no other file has its inode.
        if self._inode is not None and _inode(self._path) == self._inode:
            # One that stays, in a folder closed since, must not hold up the end: the next start clears it.
            with suppress(OSError):
                Path(self._path).unlink()
        self._inode = None


def _takes_ipv4(listening: socket.socket) -> bool:
    return listening.family != socket.AF_INET6 or not listening.getsockopt(
        socket.IPPROTO_IPV6, socket.IPV6_V6ONLY
    )


class _Port(tcp.Port):
    """Twisted's accepting, over a socket that listens already."""

    def transport(self, sock: Any, protocol: Any, client: Any, *_: Any) -> SocketTransport:  # type: ignore[override]
        """Make a connection's transport, which all of a port are polled together."""
        return SocketTransport(sock, protocol, client, None, 0, self._poller)

    def __init__(
        self, listening: socket.socket, factory: IProtocolFactory, reactor: Any, address: str
    ) -> None:
        name = listening.getsockname()
        host, port = ("", 0) if listening.family == socket.AF_UNIX else name[:2]
        tcp.Port.__init__(self, port, factory, interface=host, reactor=reactor)
        self._poller = Poller(reactor)
        listening.settimeout(0)
        self.socket = listening
        self.fileno = listening.fileno  # type: ignore[method-assign]
        self.released = False
        self._address = address
        self._bindPath = name
        self._inode = os.fstat(listening.fileno()).st_ino
        self._reading = False
        self._broken: str | None = None
        self._turned_away = 0
        self._complained = -REMINDER
        # What Twisted says here it says at a level that nobody reads, once a client.
        self._logger = Logger("accept", observer=cast("ILogObserver", self._on_trouble))

    def startListening(self) -> None:
        """Do as `tcp.Port` does, but for binding, listening and its line in the log."""
        tcp._reservedFD.reserve()  # noqa: SLF001  without it, EMFILE makes the reactor spin
        self.factory.doStart()  # type: ignore[union-attr]
        self.connected = True
        self.numberAccepts = 100
        self.startReading()

    def startReading(self) -> None:
        tcp.Port.startReading(self)
        self._reading = True

    def stopReading(self) -> None:
        self._reading = False
        tcp.Port.stopReading(self)

    def doRead(self) -> None:
        if self._fault() is None:
            tcp.Port.doRead(self)
        else:
            # accept(2) would fail with EINVAL, at once and for ever: the reactor would spin.
            self.stopReading()
            self.connectionLost(CONNECTION_DONE)

    def connectionLost(self, reason: object) -> None:
        """End: `release` wants it, or the reactor found the socket dead."""
        del reason
        self._broken = self._fault()
        if self._broken is not None and not self.released:
            log.error("listening.broken", address=self._address, problem=self._broken)
        self.connected = False
        self._close()
        self.factory.doStop()  # type: ignore[union-attr]

    def take_backlog(self) -> None:
        if self.connected and self._fault() is None:
            self.numberAccepts = LAST_ACCEPTS
            tcp.Port.doRead(self)

    def release(self) -> None:
        self.released = True
        if self.connected:
            # To be done before the close: epoll(7) goes on reporting a socket that others hold open.
            # It refuses when the descriptor was closed behind its back.
            with suppress(OSError):
                self.stopReading()
            self.connectionLost(CONNECTION_DONE)
        self._close()

    def _on_trouble(self, event: LogEvent) -> None:
        """Hear from `tcp.Port.doRead` what became of a client that could not be accepted as usual."""
        reason = event.get("acceptError", "EMFILE")
        if reason == "ECONNABORTED" or not ("address" in event or "acceptError" in event):
            return
        self._turned_away += 1
        reactor: Any = self.reactor
        if reactor.seconds() - self._complained >= REMINDER:
            self._complained = reactor.seconds()
            limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            log.error(
                "listening.turning_away",
                address=self._address,
                reason=reason,
                clients=self._turned_away,
                descriptors_allowed=limit,
            )

    def problem(self) -> str | None:
        return self._broken or self._fault() or (None if self._reading else "it no longer accepts")

    def _fault(self) -> str | None:
        if not self._is_ours():
            return "its file descriptor was closed behind its back"
        if not self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return "its socket was shut down, perhaps by a process that shares it"
        return None

    def _is_ours(self) -> bool:
        # A descriptor that was closed may have been given to something else since.
        try:
            return os.fstat(self.socket.fileno()).st_ino == self._inode
        except OSError:
            return False

    def _close(self) -> None:
        if self._is_ours():
            self.socket.close()
        else:
            self.socket.detach()


class _UnixPort(_Port, unix.Port):
    """The same with the addresses of UNIX sockets."""

    transport = _Port.transport  # type: ignore[assignment]


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _inode(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
