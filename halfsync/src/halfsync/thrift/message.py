"""What a frame holds: a message of the binary or compact protocol, with a header (THeader) or without.

Which of the three is told by the first byte, as Apache's THeaderTransport does it.
Only the strict form of the binary protocol is taken: the old one begins with a length that is anything.
"""

from __future__ import annotations

from halfsync.thrift import header as theader
from halfsync.thrift.errors import FrameError
from halfsync.thrift.header import BINARY, COMPACT, put_varint, varint

CALL = 1
REPLY = 2
EXCEPTION = 3
ONEWAY = 4

LONGEST_NAME = 256
"""Bytes of a method's name, with that of its service."""

_STRICT = b"\x80\x01\x00"
_COMPACT = 0x82
_NO_HEADERS: dict[str, str] = {}


class Message:
    """A message whose beginning has been read."""

    __slots__ = ("body", "headers", "kind", "name", "payload", "protocol", "seqid", "sequence")

    def __init__(self, protocol: int, payload: bytes) -> None:
        self.protocol = protocol
        """BINARY or COMPACT."""
        self.payload = payload
        """The whole message."""
        self.kind = 0
        """CALL, REPLY, EXCEPTION or ONEWAY; another number from a peer that knows no better."""
        self.name = b""
        self.seqid = 0
        """The client's number for the call, as it comes: 32 bits without a sign."""
        self.body = 0
        """Where in the payload the arguments begin."""
        self.headers = _NO_HEADERS
        self.sequence: bytes | None = None
        """The header's own number, when the frame has a header."""


def read(frame: bytes, longest: int, *, whole: bool = True) -> Message:
    """Read the beginning of the message in a frame.

    :param longest: bytes of the message in a compressed frame.
    :param whole: False when nothing but the beginning is wanted, which is cheap for a compressed frame, too.
    :raises FrameError: when it is no message that can be answered.
    """
    first = frame[0]
    if first == 0x80:
        return _binary(frame)
    if first == _COMPACT:
        return _compact(frame)
    if frame.startswith(theader.MAGIC):
        head, payload = theader.unwrap(frame, longest, whole=whole)
        if head.protocol == BINARY:
            if payload[:1] != b"\x80":
                raise FrameError("the message is not of the protocol that its header names")
            message = _binary(payload)
        else:
            if payload[:1] != b"\x82":
                raise FrameError("the message is not of the protocol that its header names")
            message = _compact(payload)
        message.headers = head.headers
        message.sequence = head.sequence
        return message
    raise FrameError("a message of no protocol that is known: neither binary (strict), compact nor THeader")


def write(message: Message, kind: int, name: bytes, body: bytes) -> bytes:
    """Return a frame, with its length, that answers a message in its own protocol."""
    payload = compose(message.protocol, kind, name, message.seqid, body)
    if message.sequence is not None:
        return theader.wrap(payload, sequence=message.sequence, protocol=message.protocol)
    return len(payload).to_bytes(4, "big") + payload


def compose(protocol: int, kind: int, name: bytes, seqid: int, body: bytes) -> bytes:
    """Return a message, without a frame around it.

    :param seqid: 32 bits without a sign.
    """
    if protocol == BINARY:
        return b"".join(
            (
                b"\x80\x01\x00",
                kind.to_bytes(1, "big"),
                len(name).to_bytes(4, "big"),
                name,
                seqid.to_bytes(4, "big"),
                body,
            )
        )
    start = bytes((_COMPACT, kind << 5 | 1))
    return b"".join((start, put_varint(seqid), put_varint(len(name)), name, body))


def _binary(payload: bytes) -> Message:
    if len(payload) < 12 or not payload.startswith(_STRICT):
        raise FrameError("a binary message without a version, or cut off")
    message = Message(BINARY, payload)
    message.kind = payload[3]
    length = int.from_bytes(payload[4:8], "big")
    end = 8 + length
    if length > LONGEST_NAME or end + 4 > len(payload):
        raise FrameError("the name of a method is too long, or cut off")
    message.name = payload[8:end]
    message.seqid = int.from_bytes(payload[end : end + 4], "big")
    message.body = end + 4
    return message


def _compact(payload: bytes) -> Message:
    size = len(payload)
    if size < 4 or payload[1] & 0x1F != 1:
        raise FrameError("a compact message of another version, or cut off")
    message = Message(COMPACT, payload)
    message.kind = payload[1] >> 5
    message.seqid, at = varint(payload, 2, size)
    length, at = varint(payload, at, size)
    end = at + length
    if length > LONGEST_NAME or end > size:
        raise FrameError("the name of a method is too long, or cut off")
    message.name = payload[at:end]
    message.body = end
    return message
