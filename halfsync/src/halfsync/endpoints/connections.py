"""The open connections of any factory, found when they are asked for: nothing is kept for it meanwhile."""

from __future__ import annotations

import gc
import socket
import struct
from typing import TYPE_CHECKING, Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.protocol import BaseProtocol

from halfsync._twisted import waiting
from halfsync.endpoints.addresses import address_text
from halfsync.endpoints.transport import SocketTransport
from halfsync.life.facts import OpenConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def open_connections(
    part: str, factory: object, age: Callable[[Any], float] | None = None
) -> list[OpenConnection]:
    """Return the open connections whose protocols a factory has made; for the reactor's thread.

    :param age: says of a protocol for how many seconds it has been there, where it notes that.

    The collector knows them, those too that nobody reads from at the moment.
    This call takes about 0.1 s in a process of a million objects.
    """
    found = []
    for protocol in _protocols(factory):
        transport = _bottom(protocol.transport)
        if transport is not None and transport.connected:
            peer = address_text(protocol.transport.getPeer())
            ours = isinstance(transport, SocketTransport)
            unsent = transport.unsent if ours else waiting(transport)
            seconds = None if age is None else age(protocol)
            found.append(OpenConnection(part, peer, age=seconds, idle=idle(transport), unsent=unsent))
    return found


def idle(transport: Any) -> float | None:
    """Return for how many seconds no data came or went; None when the kernel does not know: not of TCP."""
    bottom = _bottom(transport)
    if bottom is None:
        return None
    handle = bottom.getHandle()
    if handle.family == socket.AF_UNIX:
        return None
    # struct tcp_info of tcp(7): eight bytes, then words; milliseconds since data was sent and received.
    words = struct.unpack_from("12I", handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 8)
    return float(min(words[9], words[11])) / 1000


def _protocols(factory: object) -> Iterator[Any]:
    for each in gc.get_objects():
        # Not isinstance: it would ask a proxy (werkzeug's) for the class of what that stands for.
        if issubclass(type(each), BaseProtocol) and getattr(each, "factory", None) is factory:
            yield each


def _bottom(transport: Any) -> Any:
    """Return what writes to the socket, below TLS and the PROXY protocol; None when there is nothing."""
    while not isinstance(transport, FileDescriptor):
        inner = getattr(transport, "transport", None)
        if inner is None or inner is transport:
            return None
        transport = inner
    return transport
