"""What a TLS port is spoken to in, judged from bytes in every segmentation."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from halfsync.endpoints.client_hello import LOOKED_AT, FirstBytes, Kind, read_first_bytes


def hello(*protocols: str, name: str = "site.test") -> bytes:
    """Return what a client of the standard library sends first."""
    context = ssl.create_default_context()
    if protocols:
        context.set_alpn_protocols(protocols)
    sent = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=name).do_handshake()
    return sent.read()


def in_records(data: bytes, size: int) -> bytes:
    """Return the one record's message in records of a size."""
    message = data[5:]
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + len(each).to_bytes(2, "big") + each for each in pieces)


HELLO = hello("h2", "http/1.1")


@pytest.mark.parametrize("size", [1, 3, 4, 7, 100, 10_000])
def test_protocols_are_found_in_every_segmentation(size: int) -> None:
    """Whatever the records and the packets: nothing is said before the message is whole."""
    data = in_records(HELLO, size)
    expected = FirstBytes(Kind.HELLO, (b"h2", b"http/1.1"))
    assert read_first_bytes(data) == expected
    assert read_first_bytes(data + b"what follows") == expected
    for end in range(len(data)):
        assert read_first_bytes(data[:end]).kind is Kind.UNFINISHED, end


def test_a_client_need_not_offer_protocols() -> None:
    """Without ALPN there are none, and one protocol is one."""
    assert read_first_bytes(hello()) == FirstBytes(Kind.HELLO)
    assert read_first_bytes(hello("acme-tls/1")) == FirstBytes(Kind.HELLO, (b"acme-tls/1",))


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1\r\n",
        b"get /x?y=z HTTP/1.0\n",
        b"PRI * HTTP/2.0\r\n",
        b"CONNECT a:443 HTTP/1.1\r\n",
        b"M-SEARCH * HTTP/1.1\r\n",
    ],
)
def test_plain_http_is_told_by_its_request_line(line: bytes) -> None:
    """As soon as that is whole."""
    assert read_first_bytes(line + b"Host: a\r\n\r\n").kind is Kind.HTTP
    for end in range(len(line)):
        assert read_first_bytes(line[:end]).kind is Kind.UNFINISHED, end


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x80\x2e\x01\x00\x02",
        b"\x15\x03\x01\x00\x02\x01\x00",
        b"\x16\x02\x01\x00\x05\x01\x00\x00\x01\x00",
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
        b"\x16\x03\x01\x00\x00",
        b"GET /\r\n",
        b"GET \xff",
        b"\r\n\r\n",
        b"A" * 8192,
        b"\x16\x03\x01\xff\xff\x01\xff\xff\xff".ljust(LOOKED_AT, b"x"),
    ],
)
def test_what_is_neither_is_left_to_openssl(data: bytes) -> None:
    """It knows the alert."""
    assert read_first_bytes(data) == FirstBytes(Kind.OTHER)


@given(st.integers(0, len(HELLO) - 1), st.integers(0, 255), st.integers(0, len(HELLO)))
@example(0, 0, 0)
def test_no_bytes_raise(at: int, value: int, end: int) -> None:
    """One byte is wrong, or the end is missing."""
    mutated = HELLO[:at] + bytes([value]) + HELLO[at + 1 :]
    read_first_bytes(mutated)
    read_first_bytes(mutated[:end])


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x16\x03\x01", HELLO[:11], HELLO[:50]]))
def test_no_garbage_raises(data: bytes, before: bytes) -> None:
    """Nor is it taken for a ClientHello that would need more than is looked at."""
    read_first_bytes(before + data)
