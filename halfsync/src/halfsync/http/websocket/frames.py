"""Where the frames of a websocket begin and end (RFC 6455 section 5.2): enough to bound a message.

What the frames mean is read by wsproto, which collects a message whatever its length.
"""

from __future__ import annotations

from math import inf

TEXT, CLOSE = 1, 8
_LENGTHS = {126: 2, 127: 8}
"""Bytes of the longer forms of a length, by what stands in its place."""


class Frames:
    """Counts what a client sends, in pieces of any size."""

    def __init__(self, max_message: int) -> None:
        self.too_long = False
        """Whether a message is longer than may be; nothing more is looked at then."""
        self.close_seen = False
        """Whether a frame of type Close has begun."""
        self._max_message = max_message
        self._message = 0
        """Bytes of the present message so far, as its frames declare them."""
        self._last = True
        """Whether the present message ends with the present frame."""
        self._text = False
        """Whether the present message is text."""
        self._head = bytearray()
        self._left = 0
        """Bytes of the present frame that are still to come, its mask included."""

    @property
    def held(self) -> int:
        """Bytes that are kept of a message that has come in part.

        Text is kept as characters, which take four bytes each when one of them is an emoji.
        """
        if self._last and not self._left:
            return 0
        come = max(0, self._message - self._left)
        return 4 * come if self._text else come

    def feed(self, data: bytes, most: float = inf) -> int:
        """Look at more that has arrived; return at how much, which is all unless many frames begin in it.

        :param most: frames that may begin.
        """
        position = 0
        while position < len(data) and not self.too_long:
            if self._left:
                step = min(self._left, len(data) - position)
                self._left -= step
                position += step
                continue
            if not self._head:
                if most <= 0:
                    return position
                most -= 1
            self._head.append(data[position])
            position += 1
            self._take_head()
        return len(data)

    def _take_head(self) -> None:
        head = self._head
        if len(head) < 2:
            return
        short = head[1] & 0x7F
        more = _LENGTHS.get(short, 0)
        if len(head) < 2 + more:
            return
        length = int.from_bytes(head[2:]) if more else short
        self._left = length + (4 if head[1] & 0x80 else 0)
        opcode = head[0] & 0x0F
        if opcode & 8:
            self.close_seen = self.close_seen or opcode == CLOSE
        else:
            if opcode:
                # Else the message goes on.
                self._text = opcode == TEXT
            self._message = length + (0 if self._last else self._message)
            self.too_long = self._message > self._max_message
            self._last = bool(head[0] & 0x80)
        head.clear()
