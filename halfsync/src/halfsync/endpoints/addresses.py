"""Addresses of sockets, and the one way in which each is written.

One client has one name, whichever socket took its connection and whoever wrote the address down:
`::ffff:192.0.2.1`, as a socket for both families calls a client of IPv4, is 192.0.2.1,
and IPv6 is spelled as RFC 5952 says.
Allow lists, limits per client, logs and applications compare these texts.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

if TYPE_CHECKING:
    Address = IPv4Address | IPv6Address | UNIXAddress

MAPPED = "::ffff:"
"""How the text of an IPv4 address begins where it stands in an IPv6 one (RFC 4291, section 2.5.5.2)."""


def ip_address(host: str, port: int) -> IPv4Address | IPv6Address:
    """Return the address that a text means, in its one spelling.

    :param host: an IPv4 or IPv6 address in any spelling, without brackets, perhaps with a scope (`%eth0`).
    :raises ValueError: when it is none.
    """
    try:
        if ":" not in host:
            # inet_pton takes four decimal numbers; inet_aton would take `1` and `0x7f.1`, too.
            return IPv4Address(
                "TCP", socket.inet_ntop(socket.AF_INET, socket.inet_pton(socket.AF_INET, host)), port
            )
        bare, percent, scope = host.partition("%")
        if percent and not (scope.isascii() and scope.isprintable() and scope):
            raise ValueError(scope)  # noqa: TRY301  it joins what inet_pton refuses
        text = socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, bare))
    except (OSError, ValueError):
        raise ValueError(f"{host!r} is no IP address") from None
    if text.startswith(MAPPED) and "." in text:
        return IPv4Address("TCP", text[len(MAPPED) :], port)
    return IPv6Address("TCP", text + percent + scope, port)


def from_socket(name: Any) -> Address:
    """Return the address that accept(2), getpeername(2) or getsockname(2) gave; an address is one already."""
    if isinstance(name, (IPv4Address, IPv6Address, UNIXAddress)):
        return name
    if isinstance(name, tuple):
        host, port = name[:2]
        if ":" not in host:
            return IPv4Address("TCP", host, port)
        if host.startswith(MAPPED) and "." in host:
            return IPv4Address("TCP", host[len(MAPPED) :], port)
        if name[3]:
            # With the name of the link: fe80::1%eth0.
            host = socket.getnameinfo(name, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]
        return IPv6Address("TCP", host, port)
    return UNIXAddress(name or None)


def address_text(address: object) -> str:
    """Return an address as people write it: `host:port`, `[host]:port`, `host` without a port, or `unix`."""
    if not isinstance(address, (IPv4Address, IPv6Address)):
        return "unix"
    return f"{bracketed(address.host)}:{address.port}" if address.port else address.host


def bracketed(host: str) -> str:
    """Return a host as it stands in a URL, in Host and in SERVER_NAME: IPv6 in brackets (RFC 3986, 3.2.2)."""
    return f"[{host}]" if ":" in host else host
