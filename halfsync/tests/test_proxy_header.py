"""PROXY headers in every segmentation; malformed ones are refused, and nothing else comes out."""

from __future__ import annotations

import socket
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from halfsync.endpoints.proxy_header import LONGEST, MalformedHeaderError, ProxyHeader, read_proxy_header

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
FOUR = pack("!4s4sHH", bytes([192, 0, 2, 7]), bytes([192, 0, 2, 1]), 4711, 443)


def v2(block: bytes = FOUR, *, command: int = 0x21, kind: int = 0x11, length: int | None = None) -> bytes:
    return SIGNATURE + pack("!BBH", command, kind, len(block) if length is None else length) + block


def six(client: str, local: str) -> bytes:
    inet6 = [socket.inet_pton(socket.AF_INET6, each) for each in (client, local)]
    return v2(pack("!16s16sHH", *inet6, 4711, 443), kind=0x21)


CLIENT, LOCAL = IPv4Address("TCP", "192.0.2.7", 4711), IPv4Address("TCP", "192.0.2.1", 443)
CLIENT6, LOCAL6 = IPv6Address("TCP", "2001:db8::7", 4711), IPv6Address("TCP", "2001:db8::1", 443)

GOOD = {
    b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n": (CLIENT, LOCAL),
    b"PROXY TCP6 2001:DB8:0::7 2001:db8:0:0::1 4711 443\r\n": (CLIENT6, LOCAL6),
    b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:192.0.2.1 4711 443\r\n": (CLIENT, LOCAL),
    b"PROXY UNKNOWN\r\n": (None, None),
    b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n": (None, None),
    b"PROXY UNKNOWN what\tever\r\n": (None, None),
    v2(): (CLIENT, LOCAL),
    v2(FOUR + b"\x04\x00\x02xx"): (CLIENT, LOCAL),
    v2(command=0x20): (None, None),
    v2(b"", command=0x20, kind=0x00): (None, None),
    v2(b"", kind=0x00): (None, None),
    v2(kind=0x12): (None, None),
    six("2001:db8::7", "2001:db8::1"): (CLIENT6, LOCAL6),
    six("::ffff:192.0.2.7", "::ffff:192.0.2.1"): (CLIENT, LOCAL),
    v2(b"/run/a".ljust(108, b"\0") + b"/run/b".ljust(108, b"\0"), kind=0x31): (
        UNIXAddress(b"/run/a"),
        UNIXAddress(b"/run/b"),
    ),
}


@pytest.mark.parametrize("header", GOOD)
def test_headers_are_read_in_every_segmentation(header: bytes) -> None:
    """Addresses come out in their one spelling, and nothing before the header is whole."""
    expected = ProxyHeader(len(header), *GOOD[header])
    assert read_proxy_header(header) == expected
    assert read_proxy_header(header + b"\x16\x03\x01") == expected
    for end in range(len(header)):
        assert read_proxy_header(header[:end]) is None, end


BAD = {
    b"GET / HTTP/1.1\r\n": "no PROXY header",
    b"PROXX": "no PROXY header",
    b"PROXY \r\n": "no PROXY header",
    b"PROXY TCP4\r\n": "no PROXY header",
    b"PROXY UNKNOWNX\r\n": "no PROXY header",
    b"PROXY UNKNOWN\n": "no PROXY header",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\n": "no PROXY header",
    b"PROXY TCP4 client 192.0.2.1 4711 443\r\n": "no PROXY header",
    b"PROXY TCP4 192.0.2.7\x1b[2J 192.0.2.1 4711 443\r\n": "no PROXY header",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 http 443\r\n": "no PROXY header",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 -1 443\r\n": "no PROXY header",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 +1 443\r\n": "no PROXY header",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 \xb2 443\r\n": "no PROXY header",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443 \r\n": "no PROXY header",
    b"PROXY TCP4  192.0.2.7 192.0.2.1 4711 443\r\n": "no PROXY header",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 99999 443\r\n": "there is no port 99999",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 443 65536\r\n": "there is no port 65536",
    b"PROXY TCP4 2001:db8::7 2001:db8::1 4711 443\r\n": "no addresses of TCP4",
    b"PROXY TCP6 192.0.2.7 192.0.2.1 4711 443\r\n": "no addresses of TCP6",
    b"PROXY TCP4 192.0.2.777 192.0.2.1 4711 443\r\n": "'192.0.2.777' is no IP address",
    b"PROXY TCP6 1::2::3 ::1 4711 443\r\n": "'1::2::3' is no IP address",
    b"PROXY TCP4 " + b"1" * 100: "does not end within 107 bytes",
    v2(command=0x11): "version and command of the PROXY header are 0x11",
    v2(command=0x22): "version and command",
    v2(FOUR[:-1]): "too few for its addresses",
    v2(FOUR, kind=0x21): "too few for its addresses",
    v2(length=LONGEST): f"the PROXY header has {LONGEST + 16} bytes; {LONGEST} may be",
}


@pytest.mark.parametrize("data", BAD)
def test_a_malformed_header_is_refused_with_a_line(data: bytes) -> None:
    """Control characters of the client's do not get into it."""
    with pytest.raises(MalformedHeaderError) as caught:
        read_proxy_header(data)
    assert BAD[data] in str(caught.value)
    assert str(caught.value).isprintable()


@given(st.sampled_from(sorted({*GOOD, *BAD})), st.integers(0, 250), st.binary(max_size=3))
def test_nothing_else_comes_out(header: bytes, at: int, wrong: bytes) -> None:
    """Whatever bytes are wrong, and where."""
    try:
        read_proxy_header(header[:at] + wrong + header[at + len(wrong) :])
    except MalformedHeaderError as error:
        assert str(error).isprintable()  # noqa: PT017  most inputs raise nothing
