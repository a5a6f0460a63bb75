"""Who can reach a listening socket: this machine's programs, those of one user, or other machines."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from halfsync.endpoints.sockets import Inherited, ListenError, Tcp, Unix

if TYPE_CHECKING:
    from halfsync.endpoints.sockets import Source


def public_address(source: Source) -> str | None:
    """Return the IP address at which other machines can connect; None when none can.

    An inherited socket tells where it listens; one that cannot be had is not judged.
    """
    if isinstance(source, Unix):
        return None
    host = source.host if isinstance(source, Tcp) else _bound(source)[0]
    if host is None:
        return None
    host = host or "0.0.0.0"  # noqa: S104  it is judged
    return None if is_loopback(host) else str(ipaddress.ip_address(host.partition("%")[0]))


def is_loopback(host: str) -> bool:
    """Say whether an IP address is this machine's loopback, also when it is mapped into IPv6."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def is_shared_unix(source: Source) -> bool:
    """Say whether it is a UNIX socket to which other users can connect."""
    if isinstance(source, Unix):
        return source.mode is None or bool(source.mode & 0o077)
    return _bound(source)[1] if isinstance(source, Inherited) else False


def _bound(source: Source) -> tuple[str | None, bool]:
    """Return the host of an inherited socket, and whether it is a UNIX socket that other users can use."""
    try:
        listening = source.open()
    except ListenError:
        return None, False
    with listening:
        name = listening.getsockname()
    if listening.family == socket.AF_UNIX:
        try:
            return None, bool(Path(name).stat().st_mode & 0o077)
        except (OSError, ValueError, TypeError):
            # A name in the abstract namespace has no mode.
            return None, True
    return name[0], False
