"""Arguments and results to and from bytes, by Apache's runtime: its C codec, where that is right.

The C codec holds the interpreter's lock while it decodes. A frame of a megabyte that is nothing but
empty structs takes it 0.4 s; the Python codec takes longer, but lets the reactor run meanwhile.
Every such struct ends in a zero byte, and counting these takes 50 microseconds a megabyte.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any, NoReturn

from thrift.protocol.TBinaryProtocol import TBinaryProtocol, TBinaryProtocolAccelerated
from thrift.protocol.TCompactProtocol import TCompactProtocol, TCompactProtocolAccelerated
from thrift.transport.TTransport import CReadableTransport, TTransportBase

from halfsync.thrift.checks import Suspicious, Wrong
from halfsync.thrift.header import BINARY

if TYPE_CHECKING:
    from halfsync.thrift.checks import Check

DENSE = 50_000
"""Zero bytes in a frame from which on it is decoded without holding the interpreter's lock."""

LARGE = 64 * 1024
"""Bytes of a frame below which it cannot be dense enough to matter."""


class _Input(TTransportBase, CReadableTransport):  # type: ignore[misc]  # the runtime is untyped
    """A payload, as either codec reads it.

    For the C codec it is also the protocol: that asks one for its transport and its limits, no more.
    """

    cstringio_buf: Any = None  # the runtime has a property of that name, which cannot be set

    def __init__(self, payload: bytes, at: int) -> None:
        self.cstringio_buf = BytesIO(payload)
        self.cstringio_buf.seek(at)
        self.trans = self
        self.string_length_limit = self.container_length_limit = len(payload)

    def read(self, size: int) -> bytes:
        data: bytes = self.cstringio_buf.read(size)
        return data

    def cstringio_refill(self, partial: bytes, size: int) -> NoReturn:
        """Hear from the C codec that the payload is at its end."""
        del partial, size
        raise EOFError("the message is cut off")


class _Output:
    """Where either codec writes."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.write = self.parts.append


def dense(payload: bytes) -> bool:
    """Say whether decoding the payload would hold up the process for long."""
    return len(payload) >= LARGE and payload.count(0) > DENSE


def decode(struct: Any, protocol: int, payload: bytes, at: int, replaced: Check | None) -> Any:
    """Read a struct (the arguments of a call, or its result) from a payload, to its last byte.

    No text and no container may claim to be longer than the payload.
    :param replaced: the check of the struct's type for text that the C codec may have replaced.
    :raises Wrong: whatever is wrong with the bytes.
    """
    if dense(payload):
        return _read(struct, _PLAIN[protocol], payload, at)
    _read_fast(struct, protocol, payload, at)
    if replaced is not None:
        try:
            replaced(struct)
        except Suspicious:
            # The Python codec does not replace what is no UTF-8, it raises.
            return _read(type(struct)(), _PLAIN[protocol], payload, at)
    return struct


def encode(struct: Any, protocol: int) -> bytes:
    """Write a struct.

    :raises Wrong: when it holds what its type does not allow.
    """
    cls = type(struct)
    spec = getattr(cls, "thrift_spec", None)
    encode_fast = _ENCODE[protocol]
    try:
        if spec is not None and encode_fast is not None:
            written: bytes = encode_fast(struct, [cls, spec])
            return written
        out = _Output()
        struct.write(_FAST[protocol](out))
    except Exception as error:
        # TypeError, OverflowError, AttributeError, AssertionError: the value is at fault each time.
        raise Wrong(f"{type(error).__name__}: {error}") from error
    return b"".join(out.parts)


def _read_fast(struct: Any, protocol: int, payload: bytes, at: int) -> Any:
    cls = type(struct)
    spec = getattr(cls, "thrift_spec", None)
    decode_fast = _DECODE[protocol]
    if spec is None or decode_fast is None:
        return _read(struct, _FAST[protocol], payload, at)
    given = _Input(payload, at)
    try:
        decode_fast(struct, given, [cls, spec])
    except Exception as error:
        raise Wrong(f"{type(error).__name__}: {error}") from error
    if given.cstringio_buf.tell() != len(payload):
        raise Wrong("there are bytes after the last field")
    return struct


def _read(struct: Any, codec: Any, payload: bytes, at: int) -> Any:
    given = _Input(payload, at)
    size = len(payload)
    try:
        struct.read(codec(given, string_length_limit=size, container_length_limit=size))
    except Exception as error:
        # OverflowError, TypeError, EOFError, UnicodeDecodeError, the runtime's own: the bytes are at fault.
        raise Wrong(f"{type(error).__name__}: {error}") from error
    if given.cstringio_buf.tell() != size:
        raise Wrong("there are bytes after the last field")
    return struct


_FAST: dict[int, Any] = {
    BINARY: TBinaryProtocolAccelerated,
    2: TCompactProtocolAccelerated,
}
_PLAIN: dict[int, Any] = {BINARY: TBinaryProtocol, 2: TCompactProtocol}

# Private names of the runtime's, and yet what the compiler's code for every struct calls (test_private_names
# holds both); None where the runtime was installed without its extension.
# Making a protocol for each struct took a quarter of a call's time.
_ENCODE: dict[int, Any] = {number: cls(_Output())._fast_encode for number, cls in _FAST.items()}  # noqa: SLF001
_DECODE: dict[int, Any] = {number: cls(_Output())._fast_decode for number, cls in _FAST.items()}  # noqa: SLF001
