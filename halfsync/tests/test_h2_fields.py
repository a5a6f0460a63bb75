"""Blocks of headers that a connection remembers, since the same bytes say the same (RFC 7541)."""

from __future__ import annotations

import pytest
from hpack import Encoder

from halfsync.http.h2.fields import KNOWN, FieldReader

ADDED = b"\x40\x01a\x01b"
"""A header that is added to the table; it is 62 there."""


@pytest.fixture
def reader() -> FieldReader:
    found = FieldReader(10_000)
    found.read(ADDED)
    return found


@pytest.mark.parametrize(
    "block",
    [
        b"\xbe",  # an index
        b"\x82\xbe",  # two
        b"\x04\x02/x",  # a literal that is not indexed, its name by index
        b"\x14\x02/x\xbe",  # one that never is
        b"\x0f\x2b\x01v",  # an index of two bytes
        b"\x00\x01n\x01v\xbe",  # a new name
        b"\x04\x82\x63\xcf",  # in Huffman's code
    ],
)
def test_what_adds_nothing_is_read_once(reader, block):
    """What was made of it the first time is there the second time."""
    first = reader.read(block)
    first.head = object()
    assert reader.read(block) is first


@pytest.mark.parametrize(
    "block",
    [
        ADDED,
        b"\x44\x02/x",  # a literal that is added, its name by index
        b"\x82\x40\x01a\x01b",  # behind an index
        b"\x20\x82",  # the table has another size
        b"\x3f\x01\x82",
        b"\x04\x7f\x00" + b"/" * 127,  # longer than what is remembered
    ],
)
def test_what_may_change_the_table_is_read_each_time(reader, block):
    """The same bytes may say something else afterwards."""
    first = reader.read(block)
    assert reader.read(block) is not first


def test_the_same_bytes_say_something_else_once_the_table_has_changed(reader):
    """Nothing is remembered beyond a change."""
    assert reader.read(b"\xbe") == [(b"a", b"b")]
    reader.read(b"\x40\x01c\x01d")
    assert reader.read(b"\xbe") == [(b"c", b"d")]
    assert reader.read(b"\xbf") == [(b"a", b"b")]


def test_the_last_ones_are_remembered(reader):
    """A client that never asks for the same does not keep what it asks for later from being remembered."""
    for number in range(10 * KNOWN):
        reader.read(b"\x04\x03/%02d" % number)
    last = reader.read(b"\x04\x01/")
    assert reader.read(b"\x04\x01/") is last


def test_whatever_a_client_sends_says_what_hpack_reads():
    """With any encoder's mix of indices and literals, remembered or not."""
    encoder, reader = Encoder(), FieldReader(10_000)
    heads = [[(":method", "GET"), (":path", path), ("x-a", "1" * size)] for path in "/ab" for size in (1, 40)]
    for head in heads * 5:
        wanted = [(name.encode(), value.encode()) for name, value in head]
        assert reader.read(encoder.encode(head)) == wanted
