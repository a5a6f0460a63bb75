"""How fast a client takes what is ready for it, so that a slow one is told from a stalled one."""

from __future__ import annotations

from contextlib import suppress
from fcntl import ioctl
from math import inf
from struct import unpack
from termios import TIOCOUTQ
from typing import TYPE_CHECKING, Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.tcp import Connection

from halfsync.endpoints.transport import SocketTransport
from halfsync.http.request import address_text
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from halfsync.http.bounds import Bounds
    from halfsync.http.channel import Channel
    from halfsync.http.h2 import H2Channel


log = get_logger(__name__)

LINGER = 2.0
"""Seconds for a client to take a last answer and close, while what it still sends is dropped.

Closing with unread input makes the kernel send a reset, which can overtake the answer (RFC 9112 section 9.6).
"""


class Pace:
    """What a client has taken while something waited for it, on average over `write_timeout` of waiting.

    It is asked with how many bytes are left for the client at that moment;
    who cannot tell leaves that out, and adds to `taken` what goes.
    """

    __slots__ = ("_bounds", "_since", "_waited", "taken")

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._since: float | None = None
        """When the present wait began."""
        self._waited = 0.0
        """Seconds of the waits before."""
        self.taken = 0
        """Bytes; what is sent during a wait is added, because it is left at the end, or taken."""

    @property
    def waiting(self) -> bool:
        """Whether something waits for the client."""
        return self._since is not None

    def wait(self, now: float, left: int = 0) -> float:
        """Begin to wait, unless it is so already; return when it is time to judge."""
        if self._since is None:
            self._since = now
            self.taken += left
        return self._since + max(0, self._bounds.write_timeout - self._waited)

    def wait_for_the_rest(self, now: float, transport: Any) -> float:
        """Begin to wait for a client to take what is left, and close; return when it is time to judge."""
        deadline = self.wait(now, untaken(transport))
        return deadline if unsent(transport) else now + LINGER

    def go_on(self, now: float, left: int = 0) -> float:
        """End a wait, if there is one; return how long it was."""
        if self._since is None:
            return 0.0
        wait, self._since = now - self._since, None
        self._waited += wait
        self.taken -= left
        return wait

    def judge(self, now: float, left: int = 0) -> float | None:
        """Return when to judge again, of a client that is fast enough; None of one that is not."""
        since = now if self._since is None else self._since
        if self.taken - left < max(1, self._bounds.min_rate * (self._waited + now - since)):
            return None
        self._since, self._waited, self.taken = None, 0.0, 0
        return self.wait(now, left)


def wait_or_cut(channel: Channel | H2Channel, pace: Pace | None, now: float) -> float:
    """Return until when a connection may still wait for its client; cut one whose client is too slow."""
    left = unsent(channel.transport)
    deadline = pace.judge(now, untaken(channel.transport)) if pace and left else None
    if deadline is not None:
        return deadline
    if left:
        log.info("http.stalled", peer=address_text(channel.getPeer()), unsent=left)
    channel.abort()
    return inf


def unsent(transport: Any) -> int:
    """Return how many bytes wait for the client in our memory, below whatever wraps the socket."""
    bottom = _bottom(transport)
    if bottom is None:
        return 0
    if isinstance(bottom, SocketTransport):
        return bottom.unsent
    waiting: int = len(bottom.dataBuffer) - bottom.offset + bottom._tempDataLen  # noqa: SLF001  nothing public
    return waiting


def untaken(transport: Any) -> int:
    """Return how many bytes the client has not taken: those in our memory, and those in the kernel's.

    The kernel frees room in its buffer, of up to megabytes, in large steps:
    of an honest client that takes 2 KiB a second, our memory saw nothing for minutes.
    """
    bottom = _bottom(transport)
    queued = 0
    if isinstance(bottom, SocketTransport):
        return bottom.untaken
    if isinstance(bottom, Connection):
        # SIOCOUTQ of tcp(7) and unix(7). A socket that is closed already has none.
        with suppress(OSError, AttributeError, ValueError):
            (queued,) = unpack("i", ioctl(bottom.fileno(), TIOCOUTQ, bytes(4)))
    return unsent(transport) + queued


def _bottom(transport: Any) -> Any:
    while not isinstance(transport, FileDescriptor):
        inner = getattr(transport, "transport", None)
        if inner is None or inner is transport:
            return None
        transport = inner
    return transport
