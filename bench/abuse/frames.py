"""Attacks by frames of HTTP/2 that cost more than they bring."""

from __future__ import annotations

from .wire import END_HEADERS, HEADERS, RESET, SETTINGS, TABLE_SIZE, Target, frame, frames

UNKNOWN = 65_000
A_FRAME = 2_700
"""Settings of a frame of 16 KiB."""


async def settings(target: Target) -> None:
    """Unknown settings in 24 frames, and 1,500 empty ones behind them."""
    wire = b"".join(each.to_bytes(2) + bytes(4) for each in range(7, 7 + UNKNOWN) if each < 65_536)
    step = A_FRAME * 6
    async for peer in target.again():
        await peer.greet()
        for start in range(0, len(wire), step):
            await peer.send(frame(SETTINGS, 0, 0, wire[start : start + step]))
        for _ in range(1500):
            await peer.send(frame(SETTINGS, 0, 0))
        while not (peer.lost or target.over()):
            await peer.send(frame(SETTINGS, 0, 0) * 100)
        peer.close()


async def table(target: Target) -> None:
    """Allow a header table of 2^32-1 bytes, and send ids that our answers repeat."""
    async for peer in target.again():
        await peer.greet({TABLE_SIZE: 2**32 - 1})
        number = 0
        while not (peer.lost or target.over()):
            for _ in range(50):
                number += 1
                await peer.send(peer.head("/", ("x-request-id", f"attack-{number:08}"))[1])
            await peer.news()
        target.counts["requests"] += number
        peer.close()


async def resets(target: Target) -> None:
    """Streams that are opened and reset, and heads on streams that are closed already."""
    async for peer in target.again():
        await peer.greet()
        while not (peer.lost or target.over()):
            wire = []
            for _ in range(20):
                number, head = peer.head("/")
                wire += [head, frame(RESET, 0, number, (8).to_bytes(4))]
                wire += [frame(HEADERS, END_HEADERS, number, b"\x82") * 5]
            await peer.send(b"".join(wire))
        peer.close()


async def refusals(target: Target) -> None:
    """Send requests of too many headers, each answered 431."""
    more = [(f"x-{each}", "1") for each in range(101)]
    async for peer in target.again():
        await peer.greet()
        while not (peer.lost or target.over()):
            await peer.send(peer.head("/", *more)[1])
        peer.close()


async def one_too_many(target: Target) -> None:
    """101 streams at once, sent before our SETTINGS are read: one is refused, the others are answered."""
    async for peer in target.again():
        await peer.greet()
        await peer.send(b"".join(peer.head("/wait")[1] for _ in range(101)))
        ended: dict[int, bool] = {}
        while len(ended) < 101 and not (peer.lost or target.over()):
            await peer.news()
            for kind, flags, number, _ in frames(peer.received):
                if number and (kind == RESET or (flags & 1 and kind in {0, 1})):
                    ended[number] = kind != RESET
        if len(ended) == 101:
            target.counts["answered"] += sum(ended.values())
            target.counts["refused streams"] += 101 - sum(ended.values())
        peer.close()


async def well_behaved(target: Target) -> None:
    """No attack: one connection asks 100 times at once, of 50 ms each, and none of it may be answered 503."""
    async for peer in target.again():
        await peer.greet()
        await peer.send(b"".join(peer.head("/wait")[1] for _ in range(100)))
        ended: dict[int, bool] = {}
        while len(ended) < 100 and not (peer.lost or target.over()):
            await peer.news()
            for kind, flags, number, payload in frames(peer.received):
                if number and kind == HEADERS:
                    ended[number] = payload.startswith((b"\x88", b"\x20\x88"))
                    del flags
        if len(ended) == 100:
            target.counts["answered"] += sum(ended.values())
            target.counts["answered 503"] += 100 - sum(ended.values())
        peer.close()
