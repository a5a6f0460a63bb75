"""One client has one name, whoever wrote its address down."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from halfsync.endpoints.addresses import address_text, bracketed, from_socket, ip_address


@pytest.mark.parametrize(
    ("written", "host"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:c000:0201", "192.0.2.1"),
        ("0:0:0:0:0:ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0:0:0:0:0:7", "2001:db8::7"),
        ("2001:0db8::0007", "2001:db8::7"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("fe80::0:1%eth0", "fe80::1%eth0"),
    ],
)
def test_every_spelling_of_an_address_gives_one_text(written: str, host: str) -> None:
    """IPv4 within IPv6 is IPv4; IPv6 is written as RFC 5952 says."""
    address = ip_address(written, 80)
    assert (address.host, address.port) == (host, 80)
    assert isinstance(address, IPv6Address if ":" in host else IPv4Address)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost",
        "1",
        "0x7f.1",
        "192.0.2.01",
        "192.0.2.256",
        "::1::",
        "fe80::1%",
        "1.2.3.4\0",
        "é",
        "[::1]",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """It is a ValueError, whatever the text."""
    with pytest.raises(ValueError, match="is no IP address"):
        ip_address(text, 80)


@given(st.ip_addresses(v=6))
def test_the_text_is_a_fixed_point(address: object) -> None:
    """What was written once is written so again."""
    once = ip_address(str(address), 1)
    assert ip_address(once.host, 1) == once


def test_a_client_of_a_socket_for_both_families_is_one_of_ipv4() -> None:
    """The kernel calls it ::ffff:127.0.0.1."""
    with (
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listening,
        socket.create_connection(("127.0.0.1", listening.getsockname()[1])) as client,
    ):
        accepted, name = listening.accept()
        with accepted:
            assert name[0] == "::ffff:127.0.0.1"
            assert from_socket(name) == IPv4Address("TCP", "127.0.0.1", client.getsockname()[1])
            assert from_socket(accepted.getsockname()).host == "127.0.0.1"


def test_addresses_of_every_family_have_a_text() -> None:
    """As people write them."""
    assert from_socket(("::1", 80, 0, 0)) == IPv6Address("TCP", "::1", 80)
    assert from_socket("") == UNIXAddress(None)
    assert from_socket("/run/x.sock") == UNIXAddress(b"/run/x.sock")
    assert from_socket(b"\0x") == UNIXAddress(b"\0x")
    assert address_text(from_socket(("::1", 80, 0, 0))) == "[::1]:80"
    assert address_text(IPv4Address("TCP", "192.0.2.1", 80)) == "192.0.2.1:80"
    assert address_text(IPv6Address("TCP", "2001:db8::7", 0)) == "2001:db8::7"
    assert address_text(UNIXAddress(None)) == "unix"
    assert address_text(None) == "unix"
    assert bracketed("::1") == "[::1]"
    assert bracketed("example.com") == "example.com"
