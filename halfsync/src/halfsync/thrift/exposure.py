"""Whether an endpoint is open to clients that nobody has asked who they are."""

from __future__ import annotations

import ipaddress
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from halfsync.endpoints.sockets import Inherited, Tcp, Unix
from halfsync.life.errors import StartError
from halfsync.thrift.mechanisms import PLAIN, SCRAM_PLUS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from halfsync.endpoints.parsing import Endpoint
    from halfsync.endpoints.sockets import Source


def require_safe(endpoint: Endpoint, mechanisms: Sequence[str]) -> None:
    """Refuse an endpoint that anybody could use, or that no client could.

    Without a mechanism, the clients must show certificates, or be of this machine:
    on loopback, or on a UNIX socket that is closed to other users. Behind the PROXY protocol
    they come from elsewhere, whatever the address.
    :raises StartError: with what would be right.
    """
    certificates = endpoint.certificates
    if not mechanisms:
        asked = getattr(certificates, "client_ca", None) is not None
        if not asked and (
            endpoint.proxied or not (_is_loopback(endpoint.source) or _is_private(endpoint.source))
        ):
            raise StartError(
                f"--rpc.listen: {endpoint.text!r} is open to clients that nobody has asked who they are; "
                "set --rpc.sasl=SCRAM-SHA-256 and --rpc.users, or ask for client certificates (clientCA=), "
                "or listen on interface=127.0.0.1 or on a UNIX socket with mode=600"
            )
        return
    if certificates is not None:
        return
    if set(mechanisms) <= {SCRAM_PLUS}:
        raise StartError(f"--rpc.listen: {endpoint.text!r} has no TLS, and {SCRAM_PLUS} needs it")
    if PLAIN in mechanisms and not _is_private(endpoint.source) and set(mechanisms) <= {SCRAM_PLUS, PLAIN}:
        raise StartError(
            f"--rpc.listen: {endpoint.text!r} has no TLS, and PLAIN needs it, or a UNIX socket with mode=600"
        )


def is_private(endpoint: Endpoint) -> bool:
    """Say whether it is a UNIX socket that is closed to other users."""
    return not endpoint.proxied and _is_private(endpoint.source)


def _is_loopback(source: Source) -> bool:
    if isinstance(source, Tcp):
        return source.host != "" and _loopback(source.host)
    if isinstance(source, Inherited):
        with _opened(source) as listening:
            return listening.family != socket.AF_UNIX and _loopback(listening.getsockname()[0])
    return False


def _is_private(source: Source) -> bool:
    if isinstance(source, Unix):
        return source.mode is not None and not source.mode & stat.S_IRWXO
    if isinstance(source, Inherited):
        with _opened(source) as listening:
            if listening.family != socket.AF_UNIX:
                return False
            path = listening.getsockname()
        # An abstract socket (bytes) has no mode: every user may connect.
        return isinstance(path, str) and bool(path) and not Path(path).stat().st_mode & stat.S_IRWXO
    return False


def _loopback(host: str) -> bool:
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _opened(source: Inherited) -> socket.socket:
    try:
        return socket.socket(fileno=os.dup(source.find()))
    except OSError as error:
        raise StartError(f"--rpc.listen: {source.inherited} is no socket: {error.strerror}") from error
