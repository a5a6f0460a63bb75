"""Headers compressed (HPACK, RFC 7541): read by the package hpack, what repeats once only; written here.

What is written uses the static table only: a dynamic one would be our memory, of a size that clients name,
and filled with values that never come again (dates, request ids), at 3 ms an answer once it was searched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from hpack import Decoder
from hpack.exceptions import HPACKError, OversizedHeaderListError

from halfsync.http.h2.frames import ErrorCode, H2Error

if TYPE_CHECKING:
    from collections.abc import Iterable

KNOWN = 4
"""Blocks of a connection that are remembered: most clients ask for few things again and again."""

MOST_KNOWN = 32 * 1024
"""Bytes of memory that all of them take: values of 4 KB may be a byte each on the wire."""

A_FIELD = 400
COPIES = 3
"""What a header takes of it: bytes of its objects, and how often its value is there, as handlers get it."""

TABLE = 4096
AN_ENTRY = 130
"""Bytes of memory that a table takes (section 4.1), and the objects of each header in it."""

LONGEST_KNOWN = 100
"""Bytes of a block that is: a browser's takes 10 to 60, and each of them may stand for a header."""

PAIRS = 512
"""Response headers whose encoding is remembered by all connections."""

LONGEST = 200
"""Characters of one that is."""

_STATIC_NAMES = {
    b"cache-control": 24,
    b"content-encoding": 26,
    b"content-length": 28,
    b"content-type": 31,
    b"date": 33,
    b"etag": 34,
    b"last-modified": 44,
    b"location": 46,
    b"server": 54,
    b"set-cookie": 55,
    b"vary": 59,
}
_STATUSES = {b"200": 8, b"204": 9, b"206": 10, b"304": 11, b"400": 12, b"404": 13, b"500": 14}
"""Indices of the static table (RFC 7541 appendix A)."""

NO_TABLE = b"\x20"
"""How the first block of a connection begins: a dynamic table of size 0 (section 6.3), which holds whatever
the client allows."""


class Fields(list[tuple[bytes, bytes]]):
    """The headers that a block says; blocks of the same bytes share them: nothing here is changed."""

    __slots__ = ("head",)

    def __init__(self, fields: Iterable[tuple[bytes, bytes]]) -> None:
        super().__init__(fields)
        self.head: Any = None
        """What a reader has made of them, so that it need not again."""


class FieldReader:
    """The request headers of one connection."""

    def __init__(self, longest: int) -> None:
        """Read lists of headers no larger than that, with 32 bytes counted for each header besides."""
        self._decoder = Decoder(max_header_list_size=longest)
        self._known: dict[bytes, Fields] = {}
        self._held = 0
        """Bytes of memory of what is remembered."""
        self._table = 0
        self.size = 0
        """Bytes of memory that the table and what is remembered take, at most."""

    def read(self, block: bytes) -> Fields:
        """Return what a block says.

        :raises H2Error: when it says nothing; what comes after it could not be read, either.
        """
        known = self._known.get(block)
        if known is not None:
            return known
        try:
            # Of a block that was read to its end, or the connection ends: the table is the same at both ends.
            decoded = self._decoder.decode(block, raw=True)
            fields = Fields(cast("Iterable[tuple[bytes, bytes]]", decoded))
        except OversizedHeaderListError as error:
            raise H2Error(ErrorCode.ENHANCE_YOUR_CALM, "the headers are too large") from error
        except HPACKError as error:
            raise H2Error(ErrorCode.COMPRESSION_ERROR, str(error)) from error
        if len(block) > LONGEST_KNOWN or not _adds_nothing(block):
            self._forget()
            self._table = TABLE + AN_ENTRY * len(self._decoder.header_table.dynamic_entries)
        elif (size := _size(fields)) <= MOST_KNOWN:
            # The same bytes say the same until something is added to the table.
            if len(self._known) >= KNOWN or self._held + size > MOST_KNOWN:
                self._forget()
            self._known[block] = fields
            self._held += size
        self.size = self._table + self._held
        return fields

    def _forget(self) -> None:
        self._known.clear()
        self._held = 0


def _size(fields: Fields) -> int:
    """Return how many bytes of memory headers take."""
    return A_FIELD * len(fields) + COPIES * sum([len(value) for _, value in fields])


def _adds_nothing(block: bytes) -> bool:
    """Say whether a block, which could be read, leaves the table as it was.

    So do indices (section 6.1), and literals that are not to be indexed (6.2.2 and 6.2.3): common clients
    send paths as such. Where a number takes more bytes than is usual, the answer is no.
    """
    at, end = 0, len(block)
    while at < end:
        first = block[at]
        at += 1
        if first >= 0x80:
            if first == 0xFF:
                return False
            continue
        if first >= 0x20:
            return False
        strings = 1 if first & 0x0F else 2
        if first & 0x0F == 0x0F:
            if block[at] >= 0x80:
                return False
            at += 1
        for _ in range(strings):
            length = block[at] & 0x7F
            if length == 0x7F:
                return False
            at += 1 + length
    return True


class FieldWriter:
    """The response headers of all connections; without state but for what it remembers."""

    def __init__(self) -> None:
        self._pairs: dict[tuple[bytes, bytes], bytes] = {}

    def write(self, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
        """Return a block, or a part of one."""
        pairs = self._pairs
        written = []
        for pair in fields:
            encoded = pairs.get(pair)
            if encoded is None:
                encoded = _encode(*pair)
                if len(pairs) < PAIRS and len(pair[1]) < LONGEST and pair[0] not in _EACH_ITS_OWN:
                    pairs[pair] = encoded
            written.append(encoded)
        return b"".join(written)


WRITER = FieldWriter()
"""There is one for all connections."""

_EACH_ITS_OWN = frozenset((b"date", b"etag", b"set-cookie", b"x-request-id"))
"""Headers whose values do not repeat."""


def _encode(name: bytes, value: bytes) -> bytes:
    """Return a header as a literal that is not indexed (section 6.2.2), or as an index."""
    if name == b":status":
        index = _STATUSES.get(value)
        return bytes((0x80 | index,)) if index else b"\x08" + _string(value)
    if name == b"set-cookie":
        # Never to be indexed by others either (section 7.1.3).
        return _integer(_STATIC_NAMES[name], 4, 0x10) + _string(value)
    index = _STATIC_NAMES.get(name)
    return (b"\x00" + _string(name) if index is None else _integer(index, 4, 0)) + _string(value)


def _string(text: bytes) -> bytes:
    """Return a string without Huffman's code (section 5.2), which saves a client little and costs us more."""
    return _integer(len(text), 7, 0) + text


def _integer(number: int, prefix: int, pattern: int) -> bytes:
    """Return an integer (section 5.1)."""
    most = (1 << prefix) - 1
    if number < most:
        return bytes((pattern | number,))
    written = [pattern | most]
    number -= most
    while number >= 0x80:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*written, number])
