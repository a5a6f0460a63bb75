"""Hold idle keep-alive connections: a process of its own, so that its file descriptors count apart.

Arguments: port, how many. Each connection has one request answered first, then nothing.
It prints how many it holds, waits for a line of input, and prints how many are still open.
"""

from __future__ import annotations

import selectors
import socket
import sys
import time

REQUEST = b"GET /hello HTTP/1.1\r\nHost: bench\r\n\r\n"
AT_ONCE = 50
PATIENCE = 5.0
"""Seconds without any progress after which the server takes no more."""
LONGEST = 40.0
"""Seconds in all."""


def hold(port: int, wanted: int) -> list[socket.socket]:
    """Open connections until there are enough, or the server takes no more."""
    selector = selectors.DefaultSelector()
    held: list[socket.socket] = []
    begun = last = time.monotonic()
    opened = 0
    while len(held) < wanted and (now := time.monotonic()) - last < PATIENCE and now - begun < LONGEST:
        while opened < wanted and len(selector.get_map()) < AT_ONCE:
            try:
                each = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
                each.sendall(REQUEST)
            except OSError:
                return held
            each.setblocking(False)  # noqa: FBT003  the method takes it by place only
            selector.register(each, selectors.EVENT_READ)
            opened += 1
        for key, _ in selector.select(1):
            connection = key.fileobj
            assert isinstance(connection, socket.socket)  # noqa: S101  nothing else is registered
            selector.unregister(connection)
            if answered(connection):
                held.append(connection)
                last = time.monotonic()
            else:
                connection.close()
                opened -= 1
    return held


def answered(connection: socket.socket) -> bool:
    """Say whether an answer came, and the connection stays open after it."""
    try:
        head = connection.recv(65_536)
    except OSError:
        return False
    return head.startswith(b"HTTP/1.1 200") and b"connection: close" not in head.lower()


def is_open(connection: socket.socket) -> bool:
    """Say whether the other end has left it open."""
    try:
        return connection.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def main() -> None:
    """Hold, report, wait, report."""
    port, wanted = map(int, sys.argv[1:])
    held = hold(port, wanted)
    sys.stdout.write(f"{len(held)}\n")
    sys.stdout.flush()
    sys.stdin.readline()
    sys.stdout.write(f"{sum(map(is_open, held))}\n")


if __name__ == "__main__":
    main()
