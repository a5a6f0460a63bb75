"""Accepting connections from a listening socket in the reactor."""

from __future__ import annotations

import errno
import os
import resource
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.main import CONNECTION_DONE

from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

log = get_logger(__name__)

A_TURN = 32
"""Connections that are accepted before those that are open have their turn: 2 to 3 ms."""

LAST_ACCEPTS = 10_000
"""The most connections that are taken from the backlog at the end: a flood must not hold up a drain."""

REMINDER = 10.0
"""Seconds between two complaints of one listening socket about clients that it had to turn away."""

_LATER = {errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
"""The system has no room: the client waits in the backlog."""
_NEXT = {errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.EINTR}
"""Of this client only (accept(2)): it left, or a firewall turned it away."""


class Acceptor(FileDescriptor):
    """A listening socket that gives its connections to a function, with what accept(2) says of the client.

    :param accept: raises nothing.
    :param address: of the socket, for a person.
    """

    def __init__(
        self,
        listening: socket.socket,
        accept: Callable[[socket.socket, Any], None],
        reactor: Any,
        address: str,
    ) -> None:
        FileDescriptor.__init__(self, reactor)
        listening.settimeout(0)
        self.socket = listening
        self.released = False
        self._accept = accept
        self._address = address
        self._inode = os.fstat(listening.fileno()).st_ino
        self._reading = False
        self._broken: str | None = None
        self._spare = -1
        """A descriptor to give up when there are no others: without it, EMFILE makes the reactor spin."""
        self._turned_away = 0
        self._complained = -REMINDER

    def start(self) -> None:
        """Begin to accept."""
        self._spare = _spare()
        self.connected = 1
        self.startReading()

    def fileno(self) -> int:
        """Return the descriptor; -1 when it was let go."""
        return self.socket.fileno()

    def logPrefix(self) -> str:
        """Name it."""
        return "acceptor"

    def startReading(self) -> None:
        """Accept."""
        FileDescriptor.startReading(self)
        self._reading = True

    def stopReading(self) -> None:
        """Accept nothing."""
        self._reading = False
        FileDescriptor.stopReading(self)

    def doRead(self) -> Exception | None:
        """Accept what waits, for a turn."""
        if self._fault() is not None:
            # accept(2) would fail with EINVAL, at once and for ever: the reactor would spin.
            return CONNECTION_DONE
        self._take(A_TURN)
        return None

    def connectionLost(self, reason: object) -> None:
        """End: `release` wants it, or the reactor found the socket dead."""
        del reason
        if not self.connected:
            return
        self.connected = 0
        self._broken = self._fault()
        if self._broken is not None and not self.released:
            log.error("listening.broken", address=self._address, problem=self._broken)
        self._close()

    def take_backlog(self) -> None:
        """Accept all that waits."""
        if self.connected and self._fault() is None:
            self._take(LAST_ACCEPTS)

    def release(self) -> None:
        """Let go of the socket. May be called again."""
        self.released = True
        if self.connected:
            # To be done before the close: epoll(7) goes on reporting a socket that others hold open.
            # It refuses when the descriptor was closed behind its back.
            with suppress(OSError):
                self.stopReading()
            self.connectionLost(CONNECTION_DONE)
        self._close()

    def problem(self) -> str | None:
        """Say why no connection can be accepted."""
        return self._broken or self._fault() or (None if self._reading else "it no longer accepts")

    def _take(self, most: int) -> None:
        for _ in range(most):
            try:
                accepted, client = self.socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _NEXT:
                    continue
                if error.errno == errno.EMFILE:
                    self._turn_away(most)
                elif error.errno in _LATER:
                    self._complain(errno.errorcode[error.errno or 0])
                else:
                    log.exception("listening.failed", address=self._address)
                return
            self._accept(accepted, client)

    def _turn_away(self, most: int) -> None:
        """Close what waits: while no descriptor is free, nothing else can be done for a client."""
        for _ in range(most):
            if self._spare >= 0:
                os.close(self._spare)
                self._spare = -1
            try:
                accepted, _ = self.socket.accept()
            except OSError:
                break
            accepted.close()
            self._complain("EMFILE")
        if self._spare < 0:
            self._spare = _spare()

    def _complain(self, reason: str) -> None:
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
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1


def _spare() -> int:
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
