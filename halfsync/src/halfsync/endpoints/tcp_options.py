"""What Twisted lets a protocol set of its TCP connection."""

from __future__ import annotations

import socket


class TcpOptions:
    """A transport, as far as its socket has options."""

    socket: socket.socket

    def getTcpNoDelay(self) -> bool:
        """Say whether small pieces are sent at once."""
        return bool(self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def setTcpNoDelay(self, enabled: bool) -> None:  # noqa: FBT001  ITCPTransport has it so
        """Have small pieces sent at once, or not."""
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, int(enabled))

    def getTcpKeepAlive(self) -> bool:
        """Say whether the kernel asks from time to time if the client is there."""
        return bool(self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def setTcpKeepAlive(self, enabled: bool) -> None:  # noqa: FBT001  the same
        """Have the kernel ask, or not."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(enabled))
