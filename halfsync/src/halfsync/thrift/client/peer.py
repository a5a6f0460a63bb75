"""Where a server is: `tcp:host:port`, `tls:host:port` or `unix:path`, and how a connection to it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS

from halfsync.client.balancer import Address
from halfsync.life.errors import UnusableError

if TYPE_CHECKING:
    from halfsync.client.trust import Trust

KINDS = ("tcp", "tls", "unix")


class Peer(NamedTuple):
    """One server as a caller writes it."""

    kind: str
    """One of KINDS."""
    address: Address


def parse(text: str) -> Peer:
    """Read where a server is.

    :raises UnusableError: a `ValueError` and `StartError`, when it is none of the three forms.
    """
    kind, _, rest = text.partition(":")
    if kind == "unix" and rest:
        return Peer(kind, Address(rest, 0))
    host, _, port = rest.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if kind in ("tcp", "tls") and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536:
        return Peer(kind, Address(host, int(port)))
    raise UnusableError(
        f"address: {text!r} is none; write tcp:host:port, tls:host:port, or unix:/path of a socket"
    )


def endpoint(
    reactor: Any, kind: str, address: Address, *, trust: Trust, server_name: str, connect_timeout: float
) -> Any:
    """Return what connects to an address.

    :param server_name: whose certificate is wanted over TLS.
    :raises ValueError: when a file of the trust cannot be used.
    """
    if kind == "unix":
        return UNIXClientEndpoint(reactor, address.host, timeout=connect_timeout)
    plain = HostnameEndpoint(reactor, address.host, address.port, timeout=connect_timeout)
    return wrapClientTLS(trust.options(server_name), plain) if kind == "tls" else plain
