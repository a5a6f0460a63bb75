"""Attacks by what stands in a head: of HTTP/1.1, or of the PROXY protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .wire import Target

PROXIED = (
    b"PROXY TCP4 999.1.1.1 127.0.0.1 1 2\r\n",
    b"PROXY TCP4 a\x00b 127.0.0.1 1 2\r\n",
    b"PROXY TCP4 10.0.0.1 127.0.0.1 99999 2\r\n",
    b"PROXY TCP4 10.0.0.1 127.0.0.1 x 2\r\n",
    b"PROXY TCP6 nonsense ::1 1 2\r\n",
    b"PROXY " + b"A" * 300,
    b"\r\n\r\n\x00\r\nQUIT\n\x2f\x11\x00\x0c" + b"\xff" * 12,
)


async def content_types(target: Target) -> None:
    """Send a Content-Type of 3,000 semicolons."""
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Type: a/b" + b";" * 3000
    async for peer in target.again():
        while not (peer.lost or target.over()):
            await peer.send((request + b"\r\n\r\nx") * 4)
            await peer.news()
        peer.close()


async def names(target: Target) -> None:
    """Names of headers that nobody uses, 90 new ones in each request."""
    number = 0
    async for peer in target.again():
        while not (peer.lost or target.over()):
            lines = b"".join(b"X-Junk-%d: 1\r\n" % (number + each) for each in range(90))
            number += 90
            await peer.send(b"GET / HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n")
            await peer.news()
        peer.close()
    target.counts["names"] = number


async def proxy_headers(target: Target) -> None:
    """PROXY headers that are none; and `PROXY UNKNOWN`, which must be served."""
    number = 0
    async for peer in target.again(target.proxied_port):
        if number % 10 == 0:
            await peer.send(b"PROXY UNKNOWN\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await peer.news(5)
            target.counts["unknown, served" if b" 200 " in peer.received else "unknown, refused"] += 1
            peer.close()
        else:
            await peer.send(PROXIED[number % len(PROXIED)] + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await peer.news(5)
            if b" 200 " in peer.received:
                target.counts["malformed, served"] += 1
            peer.close()
        number += 1
        await target.pause(0.005)
