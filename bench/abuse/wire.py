"""Connections of attackers: raw bytes from addresses of their own, and frames of HTTP/2, right or wrong."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hpack import Encoder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 7, 8
END_STREAM, END_HEADERS = 1, 4
TABLE_SIZE, WINDOW = 1, 4


@dataclass
class Target:
    """What is attacked, and what came of it."""

    port: int
    tls_port: int
    proxied_port: int
    seconds: float
    quick: bool
    counts: Counter[str] = field(default_factory=Counter)
    """`opened`, `cut` by the server, and what else an attack counts."""

    def over(self) -> bool:
        """Say whether the time is over."""
        return asyncio.get_running_loop().time() >= self.end

    def __post_init__(self) -> None:
        """Begin the time."""
        self.end = asyncio.get_running_loop().time() + self.seconds

    async def pause(self, seconds: float) -> None:
        """Wait, no longer than until the end."""
        await asyncio.sleep(max(0.0, min(seconds, self.end - asyncio.get_running_loop().time())))

    async def open(self, port: int | None = None, *, address: int = 2, reads: bool = True) -> Peer:
        """Open a connection from 127.0.0.`address`.

        :param reads: whether what comes is taken; else the kernel's buffers fill.
        """
        loop = asyncio.get_running_loop()
        _, peer = await loop.create_connection(
            lambda: Peer(self, reads=reads),
            "127.0.0.1",
            port or self.port,
            local_addr=(f"127.0.0.{address}", 0),
        )
        return peer

    async def again(self, port: int | None = None, *, address: int = 2) -> AsyncIterator[Peer]:
        """Open one connection after the other, each when the one before is lost, until the end."""
        while not self.over():
            try:
                yield await self.open(port, address=address)
            except OSError:
                self.counts["not opened"] += 1
                await self.pause(0.05)


class Peer(asyncio.Protocol):
    """One connection of an attacker."""

    def __init__(self, target: Target, *, reads: bool = True) -> None:
        self.target = target
        self.received = b""
        self.size = 0
        self.lost = False
        self._reads = reads
        self._full = asyncio.Event()
        self._full.set()
        self._news = asyncio.Event()
        self._encoder = Encoder()
        self._next = 1

    # asyncio calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  what TCP has
        self.transport = transport
        self.target.counts["opened"] += 1
        if not self._reads:
            transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        """Keep the end of what comes."""
        self.size += len(data)
        self.received = (self.received + data)[-200_000:]
        self._news.set()

    def pause_writing(self) -> None:
        """Hear that the server does not read."""
        self._full.clear()

    def resume_writing(self) -> None:
        """Hear that it reads."""
        self._full.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count what the server has cut."""
        del exc
        if not self.lost:
            self.lost = True
            self.target.counts["cut"] += 1
        self._full.set()
        self._news.set()

    # Attacks call these.

    async def send(self, data: bytes) -> None:
        """Send bytes, once the server takes them."""
        if not self.lost:
            self.transport.write(data)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._full.wait(), 1)
        await asyncio.sleep(0)

    async def news(self, seconds: float = 1.0) -> None:
        """Wait until something comes, or the connection is lost."""
        self._news.clear()
        if not self.lost:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), seconds)

    async def greet(self, settings: dict[int, int] | None = None) -> None:
        """Begin with HTTP/2."""
        payload = b"".join(key.to_bytes(2) + value.to_bytes(4) for key, value in (settings or {}).items())
        await self.send(PREFACE + frame(SETTINGS, 0, 0, payload))

    def head(
        self, path: str = "/", *more: tuple[str, str], method: str = "GET", end: bool = True
    ) -> tuple[int, bytes]:
        """Return the frame that opens the next stream, with its number."""
        number, self._next = self._next, self._next + 2
        fields = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "x"), *more]
        block = self._encoder.encode(fields)
        return number, frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), number, block)

    def close(self) -> None:
        """Leave."""
        self.lost = True
        self.transport.abort()


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame of HTTP/2."""
    return b"%b%c%c%b%b" % (len(payload).to_bytes(3), kind, flags, stream.to_bytes(4), payload)


def frames(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """Return the whole frames in bytes: type, flags, stream, payload."""
    found, at = [], 0
    while at + 9 <= len(data):
        length = int.from_bytes(data[at : at + 3])
        if at + 9 + length > len(data):
            break
        number = int.from_bytes(data[at + 5 : at + 9])
        found.append((data[at + 3], data[at + 4], number, data[at + 9 : at + 9 + length]))
        at += 9 + length
    return found


def trusting() -> ssl.SSLContext:
    """Return what a client needs that trusts anyone."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
