"""The header with which a proxy says for whom it connects (PROXY protocol 1 and 2): bytes in, addresses out.

https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt, sections 2.1 and 2.2.
"""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING, NamedTuple

from twisted.internet.address import UNIXAddress

from halfsync.endpoints.addresses import ip_address

if TYPE_CHECKING:
    from halfsync.endpoints.addresses import Address

LONGEST = 4096
"""Bytes of a header that are waited for; in version 2, anything may follow the addresses."""

_V1 = b"PROXY "
_V1_LONGEST = 107
_V1_LINE = re.compile(
    r"PROXY (TCP[46]) ([0-9A-Fa-f.:]{2,45}) ([0-9A-Fa-f.:]{2,45}) ([0-9]{1,5}) ([0-9]{1,5})\r\n"
)
_V1_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n")

_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_FIXED = 16
"""Bytes of a version 2 header before its addresses."""
_V2_SIZES = {0x1: 12, 0x2: 36, 0x3: 216}
"""Bytes of the addresses by family: IPv4, IPv6, UNIX."""
_STREAM = 0x1
_LOCAL, _PROXY = 0x20, 0x21


class MalformedHeaderError(ValueError):
    """The bytes are no PROXY header, or one that says what cannot be. One line, for a person."""


class ProxyHeader(NamedTuple):
    """What a proxy says."""

    length: int
    """Bytes of the header: what follows them is the client's."""
    client: Address | None
    """None when the connection is the proxy's own (a health check), or the proxy cannot tell."""
    local: Address | None
    """The address that the client connected to."""


def read_proxy_header(data: bytes) -> ProxyHeader | None:
    """Read the header at the beginning of what has arrived so far; None when more must arrive first.

    :raises MalformedHeaderError: when no further bytes could make it a header.
    """
    start = data[: len(_V2)]
    if _V2.startswith(start):
        return _read_v2(data) if len(data) >= _V2_FIXED else None
    if _V1.startswith(data[: len(_V1)]):
        return _read_v1(data[:_V1_LONGEST])
    raise MalformedHeaderError(f"no PROXY header: {data[:32]!r}")


def _read_v1(data: bytes) -> ProxyHeader | None:
    line, end, _ = data.partition(b"\n")
    if not end:
        if len(data) == _V1_LONGEST:
            raise MalformedHeaderError(f"the PROXY line does not end within {_V1_LONGEST} bytes")
        return None
    line += end
    if _V1_UNKNOWN.fullmatch(line):
        return ProxyHeader(len(line), None, None)
    match = _V1_LINE.fullmatch(line.decode("latin-1"))
    if match is None:
        raise MalformedHeaderError(f"no PROXY header: {line!r}")
    family, *hosts = match.group(1, 2, 3)
    ports = [int(each) for each in match.group(4, 5)]
    if max(ports) > 65535:
        raise MalformedHeaderError(f"there is no port {max(ports)}: {line!r}")
    if any((":" in host) != (family == "TCP6") for host in hosts):
        raise MalformedHeaderError(f"no addresses of {family}: {line!r}")
    try:
        client, local = map(ip_address, hosts, ports)
    except ValueError as error:
        raise MalformedHeaderError(f"{error}: {line!r}") from None
    return ProxyHeader(len(line), client, local)


def _read_v2(data: bytes) -> ProxyHeader | None:
    command, kind = data[12], data[13]
    if command not in (_LOCAL, _PROXY):
        raise MalformedHeaderError(f"version and command of the PROXY header are 0x{command:02x}")
    length = _V2_FIXED + int.from_bytes(data[14:16], "big")
    if length > LONGEST:
        raise MalformedHeaderError(f"the PROXY header has {length} bytes; {LONGEST} may be")
    family, transport = kind >> 4, kind & 0xF
    size = _V2_SIZES.get(family, 0)
    if length < _V2_FIXED + (size if command == _PROXY else 0):
        raise MalformedHeaderError(f"the PROXY header has {length} bytes, too few for its addresses")
    if len(data) < length:
        return None
    if command == _LOCAL or not size or transport != _STREAM:
        # UNSPEC, and what no stream can be: "the receiver should ignore address information".
        return ProxyHeader(length, None, None)
    return ProxyHeader(length, *_addresses(family, data[_V2_FIXED : _V2_FIXED + size]))


def _addresses(family: int, block: bytes) -> tuple[Address, Address]:
    if family == 0x3:
        return UNIXAddress(block[:108].rstrip(b"\0")), UNIXAddress(block[108:].rstrip(b"\0"))
    width = 4 if family == 0x1 else 16
    kind = socket.AF_INET if family == 0x1 else socket.AF_INET6
    hosts = [socket.inet_ntop(kind, each) for each in (block[:width], block[width : 2 * width])]
    ports = [
        int.from_bytes(each, "big") for each in (block[2 * width : 2 * width + 2], block[2 * width + 2 :])
    ]
    client, local = map(ip_address, hosts, ports)
    return client, local
