"""THeader: a frame that carries names and values beside its message (Apache's doc/specs/HeaderFormat.md).

    0FFF magic | flags 2 | sequence 4 | words 2 | protocol, transforms, headers, padding | message
                                          |<------------- 4 x words bytes ------------>|

Only the transform zlib is known, once, and what comes out of it is no longer than a frame may be.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple

from halfsync.thrift.errors import FrameError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAGIC = b"\x0f\xff"
BINARY = 0
COMPACT = 2
_ZLIB = 1
_KEY_VALUE = 1
_PERSISTENT_KEY_VALUE = 2


LONGEST_HEADER = 16 * 1024
"""Bytes of everything before the message."""

MOST_HEADERS = 64


class Header(NamedTuple):
    """What a frame says before its message."""

    sequence: bytes
    """Four bytes, returned with the answer."""
    protocol: int
    headers: dict[str, str]
    """Names in lower case."""


def varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Read a number of up to 32 bits, seven bits a byte; return it and where it ends.

    :raises FrameError: when it is longer, or not all there.
    """
    number = shift = 0
    while at < end and shift < 35:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            if number > 0xFFFFFFFF:
                break
            return number, at
        shift += 7
    raise FrameError("a number is longer than it may be, or cut off")


def put_varint(number: int) -> bytes:
    """Write a number, seven bits a byte."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def unwrap(frame: bytes, longest: int, *, whole: bool = True) -> tuple[Header, bytes]:
    """Take a frame apart into its header and its message.

    :param whole: False for only the beginning of a compressed message.
    :raises FrameError: when it is not what it says, or its message would be longer than `longest`.
    """
    if len(frame) < 14:
        raise FrameError("a header is cut off")
    begin = 10
    end = begin + 4 * int.from_bytes(frame[8:10], "big")
    if end > len(frame) or end > LONGEST_HEADER:
        raise FrameError("a header is longer than its frame, or than it may be")
    protocol, at = varint(frame, begin, end)
    if protocol not in (BINARY, COMPACT):
        raise FrameError("the protocol is neither binary nor compact")
    transforms, at = varint(frame, at, end)
    if transforms > 1:
        raise FrameError("more than one transform")
    packed = False
    if transforms:
        transform, at = varint(frame, at, end)
        if transform != _ZLIB:
            raise FrameError("the transform is not zlib")
        packed = True
    headers = _headers(frame, at, end)
    message = frame[end:]
    if packed:
        message = _unpack(message, longest, whole=whole)
    return Header(frame[4:8], protocol, headers), message


def wrap(
    message: bytes, *, sequence: bytes, protocol: int, headers: Mapping[str, str] | None = None
) -> bytes:
    """Put a header before a message; return the frame with its length."""
    parts = [put_varint(protocol), b"\0"]
    if headers:
        parts += [put_varint(_KEY_VALUE), put_varint(len(headers))]
        for pair in headers.items():
            for text in pair:
                raw = text.encode()
                parts += [put_varint(len(raw)), raw]
    info = b"".join(parts)
    info += bytes(-len(info) % 4)
    head = MAGIC + b"\0\0" + sequence + (len(info) // 4).to_bytes(2, "big") + info
    return (len(head) + len(message)).to_bytes(4, "big") + head + message


def _headers(frame: bytes, at: int, end: int) -> dict[str, str]:
    found: dict[str, str] = {}
    while at < end:
        kind, at = varint(frame, at, end)
        if kind not in (_KEY_VALUE, _PERSISTENT_KEY_VALUE):
            # Padding, or a kind from the future: nothing tells how long it is.
            break
        pairs, at = varint(frame, at, end)
        if len(found) + pairs > MOST_HEADERS:
            raise FrameError(f"more than {MOST_HEADERS} headers")
        for _ in range(pairs):
            key, at = _text(frame, at, end)
            value, at = _text(frame, at, end)
            found[key.lower()] = value
    return found


def _text(frame: bytes, at: int, end: int) -> tuple[str, int]:
    length, at = varint(frame, at, end)
    if length > end - at:
        raise FrameError("a header is cut off")
    return frame[at : at + length].decode("utf-8", "backslashreplace"), at + length


def is_packed(frame: bytes) -> bool:
    """Say whether a frame holds more than its length shows."""
    return frame.startswith(MAGIC) and frame[11:12] != b"\0"


def _unpack(message: bytes, longest: int, *, whole: bool) -> bytes:
    inflate = zlib.decompressobj()
    try:
        plain = inflate.decompress(message, longest if whole else 1024)
    except zlib.error as error:
        raise FrameError("the message is not what zlib makes") from error
    if not whole:
        return plain
    if not inflate.eof or inflate.unconsumed_tail or inflate.unused_data:
        raise FrameError(f"the message is longer than {longest} bytes once unpacked, or not whole")
    return plain
