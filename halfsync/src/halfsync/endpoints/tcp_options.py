"""What Twisted lets a protocol set of its TCP connection."""

from __future__ import annotations

import socket as sockets


class TcpOptions:
    """A transport, as far as it shows its socket, and the options of that."""

    socket: sockets.socket

    def getHandle(self) -> sockets.socket:
        """Return the socket."""
        return self.socket

    def getTcpNoDelay(self) -> bool:
        """Say whether small pieces are sent at once."""
        return bool(self.socket.getsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY))

    def setTcpNoDelay(self, enabled: bool) -> None:  # noqa: FBT001  ITCPTransport has it so
        """Have small pieces sent at once, or not."""
        self.socket.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, int(enabled))

    def getTcpKeepAlive(self) -> bool:
        """Say whether the kernel asks from time to time if the client is there."""
        return bool(self.socket.getsockopt(sockets.SOL_SOCKET, sockets.SO_KEEPALIVE))

    def setTcpKeepAlive(self, enabled: bool) -> None:  # noqa: FBT001  the same
        """Have the kernel ask, or not."""
        self.socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_KEEPALIVE, int(enabled))
