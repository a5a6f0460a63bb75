"""A connection of HTTP/2, as its streams know it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from halfsync.http.connections import Connection

if TYPE_CHECKING:
    from halfsync.endpoints.addresses import Address
    from halfsync.http.context import Context
    from halfsync.http.h2.streams import Streams


class H2(Connection, Protocol):
    """The connection, as its streams know it."""

    context: Context

    @property
    def session(self) -> Streams:
        """What is sent on its streams."""

    @property
    def local(self) -> Address:
        """Our end."""

    @property
    def secure(self) -> bool:
        """Whether there is TLS on the connection."""

    def ready(self, stream: Any) -> None:
        """Give the stream a turn, soon."""

    def forget(self, stream: Any, *, answered: bool = False) -> None:
        """Be done with a stream."""

    def acknowledge(self, count: int, number: int) -> None:
        """Let the client send as much more as has been taken from it."""

    def spend_on_reset(self) -> None:
        """Have the client pay for a stream that comes to nothing by its fault."""
