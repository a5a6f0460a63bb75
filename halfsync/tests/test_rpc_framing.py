"""Bytes to frames, in every segmentation; what is no frame is found before anything is kept."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfsync.thrift.errors import FrameError
from halfsync.thrift.framing import FrameReader
from halfsync.thrift.sasl import SaslReader
from rpc_tools import framed


@given(st.lists(st.binary(min_size=4, max_size=300), max_size=8), st.data())
def test_any_segmentation(payloads, data):
    """However the bytes are cut, the frames are those that were sent, in order."""
    sent = b"".join(map(framed, payloads))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=12)))
    reader = FrameReader(1000)
    found = []
    for begin, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        found += reader.feed(sent[begin:end])
    assert found == payloads
    assert reader.held == 0


def test_a_byte_at_a_time():
    reader = FrameReader(1000)
    found = [frame for byte in framed(b"abcdefg") for frame in reader.feed(bytes((byte,)))]
    assert found == [b"abcdefg"]


def test_length_comes_first():
    """A frame that is too long is refused when its length is there, before its first byte."""
    reader = FrameReader(1000)
    with pytest.raises(FrameError, match="longer than 1000"):
        reader.feed(struct.pack("!I", 1001))


@pytest.mark.parametrize("length", [0, 3, 2**31, 2**32 - 1])
def test_no_message(length):
    """Neither empty nor impossible lengths are frames."""
    with pytest.raises(FrameError):
        FrameReader(2**20).feed(struct.pack("!I", length))


@pytest.mark.parametrize("start", [b"\x80\x01\x00\x01", b"\x82\x21\x00\x00"])
def test_unframed_is_told(start):
    """A client without framing is told apart in the log."""
    with pytest.raises(FrameError, match="does not frame"):
        FrameReader(2**20).feed(start)


def test_other_protocols_are_told():
    """Who set up the wrong client, or the wrong port, finds out which it was; other lengths say nothing."""
    for begins, what in (
        (b"GET / HTTP/1.1\r\n", "HTTP"),
        (b"PRI * HTTP/2.0\r\n", "HTTP"),
        (b"\x16\x03\x01\x02\x00", "TLS, which is not spoken here"),
        (b"\x01\0\0\0\x0dSCRAM-SHA-256", r"a login \(SASL\), and none is wanted here"),
    ):
        with pytest.raises(FrameError, match=rf"longer than 100; it looks like {what}$"):
            FrameReader(100).feed(begins)
    with pytest.raises(FrameError, match=r"longer than 100$"):
        FrameReader(100).feed(b"\x7f\xff\xff\xff")


@pytest.mark.parametrize(
    ("begin", "said"),
    [
        (b"\x16\x03\x01\x02\x00", "; it looks like TLS, which is not spoken here"),
        (b"GET / HTTP/1.1", "; it looks like HTTP"),
        (b"\x00\x00\x00\x20\x80\x01", ""),
    ],
)
def test_other_protocols_are_told_in_the_place_of_a_login(begin, said):
    """Whose client has TLS, and whose listener has none, is not told to log in, which it does."""
    reader = SaslReader(1000)
    reader.feed(begin)
    with pytest.raises(FrameError) as error:
        reader.next()
    assert str(error.value) == f"a login (SASL) is wanted first{said}"


def test_many_pieces_cost_once():
    """A frame in 4,096 pieces is joined once: what is held grows by what came, and nothing else."""
    payload = bytes(4096 * 16)
    reader = FrameReader(2**20)
    data = framed(payload)
    for at in range(0, len(data) - 16, 16):
        assert reader.feed(data[at : at + 16]) == []
        assert reader.held == at + 16
    assert reader.feed(data[len(data) - len(data) % 16 - (16 if len(data) % 16 == 0 else 0) :]) == [payload]
