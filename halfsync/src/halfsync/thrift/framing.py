"""Bytes in, frames out: a frame is a message behind its length in four bytes. No Twisted here.

                 4 bytes                 length bytes
    length <----------------> payload <----------------> length ...
       |
       +-- too long, too short, or no length at all: FrameError, and nothing more is read

The length is judged before anything of the payload is kept; joining is done once a frame, so that
a frame that comes in many small pieces costs what it costs in one.
"""

from __future__ import annotations

from halfsync.thrift.errors import FrameError

SHORTEST = 4
"""Bytes of the shortest message there is: in the compact protocol, with an empty name and no arguments."""

OTHERS = {
    b"\x16\x03": "TLS, which is not spoken here",
    b"\x01\x00\x00\x00": "a login (SASL), and none is wanted here",
    **dict.fromkeys((b"GET ", b"HEAD", b"POST", b"PUT ", b"OPTI", b"PRI ", b"HTTP"), "HTTP"),
}
"""How other protocols begin."""


class FrameReader:
    """The frames of one connection."""

    __slots__ = ("_have", "_longest", "_need", "_pieces")

    def __init__(self, longest: int) -> None:
        """Take frames of up to `longest` bytes."""
        self._longest = longest
        self._pieces: list[bytes] = []
        self._have = 0
        self._need = 4

    @property
    def held(self) -> int:
        """How many bytes wait for the rest of their frame."""
        return self._have

    def feed(self, data: bytes) -> list[bytes]:
        """Take what has arrived, and return the payloads of the frames that are complete.

        :raises FrameError: when a length is none that is taken; the reader is of no use after that.
        """
        have = self._have + len(data)
        if have < self._need:
            self._pieces.append(data)
            self._have = have
            return []
        if self._pieces:
            self._pieces.append(data)
            data = b"".join(self._pieces)
            self._pieces.clear()
        frames = []
        at = 0
        need = 4
        while have - at >= 4:
            length = int.from_bytes(data[at : at + 4], "big")
            if not SHORTEST <= length <= self._longest:
                raise FrameError(self._reason(length))
            end = at + 4 + length
            if end > have:
                need = 4 + length
                break
            frames.append(data[at + 4 : end])
            at = end
        self._need = need
        self._have = have - at
        if self._have:
            self._pieces.append(data[at:] if at else data)
        return frames

    def rest(self) -> bytes:
        """Return the bytes that wait for the rest of their frame."""
        return b"".join(self._pieces)

    def _reason(self, length: int) -> str:
        if length >> 16 == 0x8001 or length >> 24 == 0x82:
            return "the client does not frame its messages"
        if length < SHORTEST:
            return f"a frame of {length} bytes is no message"
        # As a length, the beginning of another protocol is far too great.
        other = resemblance(length.to_bytes(4, "big"))
        return f"a frame of {length} bytes is longer than {self._longest}{other}"


def resemblance(data: bytes) -> str:
    """Return the end of a reason: which other protocol bytes look like; it helps who set the client up."""
    return next((f"; it looks like {what}" for begins, what in OTHERS.items() if data.startswith(begins)), "")
