"""The two ends of a connection, as every protocol on it sees them."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import ISSLTransport
from twisted.internet.protocol import Protocol
from twisted.protocols.policies import ProtocolWrapper

if TYPE_CHECKING:
    from halfsync.endpoints.addresses import Address
    from halfsync.http.context import Context


class Ends(Protocol):
    """A connection that knows its ends, each looked up once it is asked for."""

    transport: Any
    context: Context
    # What a connection does not have of its own costs it no memory, and there may be thousands.
    _weighs = 0
    """Bytes in buffers of it, as far as that was looked at."""

    def weigh(self) -> None:
        """Have the account know what is in buffers of it at the moment."""
        size = 0 if self.transport is None else self.buffered()
        if size != self._weighs:
            self._weighs = size
            self.context.memory.weigh(self, size)

    def buffered(self) -> int:
        """Return how many bytes are in buffers of it."""
        return 0

    def weigh_nothing(self) -> None:
        """Give all of that back: the connection is lost."""
        if self._weighs:
            self._weighs = 0
            self.context.memory.weigh(self, 0)

    @cached_property
    def client(self) -> Address:
        """The other end, which behind `haproxy:` is known from the first bytes on."""
        found: Address = self.transport.getPeer()
        return found

    @cached_property
    def local(self) -> Address:
        """Our end."""
        return self.context.own_address(self.transport.getHost())

    @cached_property
    def secure(self) -> bool:
        """Whether there is TLS on the connection."""
        return ISSLTransport(self.transport, None) is not None

    def take_over(self, transport: Any) -> None:
        """Stand in for the protocol that a transport has had."""
        transport.unregisterProducer()
        if isinstance(transport, ProtocolWrapper):
            transport.wrappedProtocol = self
        else:
            transport.protocol = self
        self.makeConnection(transport)
