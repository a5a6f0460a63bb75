"""What the kernel knows of a connection."""

from __future__ import annotations

import select
from contextlib import suppress
from fcntl import ioctl
from struct import unpack
from termios import TIOCOUTQ
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket


def unsent_in_kernel(sock: socket.socket) -> int:
    """Return how many bytes the kernel keeps that the client has not taken (SIOCOUTQ of tcp(7), unix(7)).

    The kernel frees room in its buffer, of up to megabytes, in large steps:
    of an honest client that takes 2 KiB a second, our own memory saw nothing for minutes.
    """
    # A socket that is closed already has none.
    with suppress(OSError, ValueError):
        (queued,) = unpack("i", ioctl(sock.fileno(), TIOCOUTQ, bytes(4)))
        return int(queued)
    return 0


def has_hung_up(sock: socket.socket) -> bool:
    """Say whether the client is known to be gone for good: by a reset, or by the end of a UNIX socket.

    The reactor does not look at a connection whose client has closed its side: there is nothing to read.
    """
    poll = select.poll()
    poll.register(sock.fileno(), 0)
    return any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0))
