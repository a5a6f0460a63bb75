"""A client that does nothing wrong: it asks on a connection that it keeps and on new ones, and uploads.

    python -m bench.abuse.normal PORT --seconds 60

prints one JSON object: how many requests, their p99, and those that were lost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter

PATIENCE = 10.0
"""Seconds after which a request is lost."""

UPLOAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n%b\r\n" + bytes(100_000)
GET = b"GET / HTTP/1.1\r\nHost: x\r\n%b\r\n"


class Normal:
    """The client, from 127.0.0.1."""

    def __init__(self, port: int, seconds: float) -> None:
        self.port = port
        self.end = time.monotonic() + seconds
        self.latencies: list[float] = []
        self.lost: Counter[str] = Counter()

    async def run(self) -> dict[str, object]:
        """Ask until the end."""
        await asyncio.gather(self._kept(), self._new(GET, 0.05), self._new(UPLOAD, 0.5))
        ordered = sorted(self.latencies)
        return {
            "requests": len(ordered) + sum(self.lost.values()),
            "p50": ordered[len(ordered) // 2] * 1000 if ordered else None,
            "p99": ordered[int(len(ordered) * 0.99)] * 1000 if ordered else None,
            "slowest": ordered[-1] * 1000 if ordered else None,
            "lost": dict(self.lost),
        }

    async def _kept(self) -> None:
        ends: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while time.monotonic() < self.end:
            begun = time.monotonic()
            try:
                async with asyncio.timeout(PATIENCE):
                    ends = ends or await asyncio.open_connection("127.0.0.1", self.port)
                    await self._ask(*ends, GET % b"")
            except (OSError, EOFError, TimeoutError, ValueError) as error:
                self.lost[f"kept: {error!r}"] += 1
                if ends is not None:
                    ends[1].close()
                ends = None
            else:
                self.latencies.append(time.monotonic() - begun)
            await asyncio.sleep(0.02)
        if ends is not None:
            ends[1].close()

    async def _new(self, request: bytes, pause: float) -> None:
        while time.monotonic() < self.end:
            begun = time.monotonic()
            try:
                async with asyncio.timeout(PATIENCE):
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    try:
                        await self._ask(reader, writer, request % b"Connection: close\r\n")
                    finally:
                        writer.close()
            except (OSError, EOFError, TimeoutError, ValueError) as error:
                self.lost[f"new: {error!r}"] += 1
            else:
                self.latencies.append(time.monotonic() - begun)
            await asyncio.sleep(pause)

    @staticmethod
    async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        await reader.readexactly(length)
        if b" 200 " not in head[:16]:
            raise ValueError(head.partition(b"\r\n")[0].decode())


def main() -> None:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--seconds", type=float, required=True)
    chosen = parser.parse_args()
    print(json.dumps(asyncio.run(Normal(chosen.port, chosen.seconds).run())))


if __name__ == "__main__":
    main()
