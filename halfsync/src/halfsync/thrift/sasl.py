"""SASL's messages as Apache's TSaslTransport frames them: bytes in, messages out. No Twisted here.

    status 1 byte | length 4 bytes | payload

    client                                  server
    START "SCRAM-SHA-256"
    OK    client-first-message         ->   OK       server-first-message
    OK    client-final-message         ->   COMPLETE server-final-message     (or BAD, and the end)
    then frames, each behind its length in 4 bytes

A mechanism with no challenge (PLAIN) is COMPLETE after the initial response.
"""

from __future__ import annotations

from halfsync.thrift.errors import FrameError
from halfsync.thrift.framing import resemblance

START = 1
OK = 2
BAD = 3
ERROR = 4
COMPLETE = 5


def pack(status: int, payload: bytes) -> bytes:
    """Return a message as bytes."""
    return status.to_bytes(1, "big") + len(payload).to_bytes(4, "big") + payload


class SaslReader:
    """The messages of one login, which together may not be longer than `longest` bytes."""

    __slots__ = ("_buffer", "_left")

    def __init__(self, longest: int) -> None:
        self._buffer = b""
        self._left = longest

    def feed(self, data: bytes) -> None:
        """Take bytes.

        :raises FrameError: when there are too many.
        """
        self._left -= len(data)
        if self._left < 0:
            raise FrameError("too much was sent before the login was done")
        self._buffer += data

    def next(self) -> tuple[int, bytes] | None:
        """Return the next message; None when it is not all there.

        :raises FrameError: when it is none.
        """
        buffer = self._buffer
        if not buffer:
            return None
        status = buffer[0]
        if status not in (START, OK, BAD, ERROR, COMPLETE):
            raise FrameError(f"a login (SASL) is wanted first{resemblance(buffer)}")
        if len(buffer) < 5:
            return None
        length = int.from_bytes(buffer[1:5], "big")
        if length > self._left + len(buffer):
            raise FrameError("a message of the login is too long")
        if len(buffer) < 5 + length:
            return None
        self._buffer = buffer[5 + length :]
        return status, buffer[5 : 5 + length]

    def rest(self) -> bytes:
        """Return what came after the last message."""
        return self._buffer
