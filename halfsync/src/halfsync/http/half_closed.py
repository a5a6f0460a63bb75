"""A client that has closed its side while its request is answered: it may wait for the response, or be gone.

Over TCP both look the same until something is sent to it. What is done is decided by evidence:

- A reset, or the end of a UNIX socket for both directions, says that it is gone.
- Before a response has begun, a client of HTTP/1.1 is sent `100 Continue`, which every client must take
  (RFC 9110 section 15.2). The kernel of one that is gone answers it with a reset.
- While a response is sent, its bytes are the question. A response that has nothing to send for SILENCE
  seconds gets no evidence any more, and its client is taken to be gone; nginx, Go and hyper do that at once.
- A client that cannot be asked (HTTP/1.0), or does not take the question, is waited for as long as for a
  request.
"""

from __future__ import annotations

from math import inf
from socket import AF_UNIX
from typing import TYPE_CHECKING

from halfsync.http.rate import socket_of, untaken

if TYPE_CHECKING:
    from halfsync.http.h1 import H1
    from halfsync.http.h1_stream import H1Stream

SILENCE = 2.0
"""Seconds after which a client that takes nothing is taken to be gone."""

LOOK = 0.5
"""Seconds after which it is looked again."""


class HalfClosed:
    """What is known of such a client."""

    __slots__ = ("_connection", "_sent", "_since")

    def __init__(self, connection: H1) -> None:
        self._connection = connection
        self._since = connection.context.seconds()
        """When it closed its side, or has last shown that it is there all the same."""
        self._sent = 0
        """How much of the response had been sent by then."""

    @property
    def gone(self) -> bool:
        """Whether it is gone for both directions; for any thread."""
        bottom = socket_of(self._connection.transport)
        return bottom is not None and bottom.hung_up

    def ask(self, stream: H1Stream) -> None:
        """Send what brings a reset if it is gone, as far as it may be sent at this point."""
        self._sent = stream.sent
        bottom = socket_of(self._connection.transport)
        on_tcp = bottom is not None and bottom.getHandle().family != AF_UNIX
        if on_tcp and not stream.code and stream.head.version == "HTTP/1.1":
            self._connection.outgoing.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def look(self, stream: H1Stream, now: float) -> float | None:
        """Return when to look again; None when it is gone."""
        patience = inf
        if stream.sent > self._sent:
            self._since, self._sent = now, stream.sent
        if stream.code:
            patience = SILENCE
        elif stream.head.version == "HTTP/1.0" or untaken(self._connection.transport):
            patience = self._connection.context.bounds.request_timeout
        return None if self.gone or now - self._since >= patience else now + LOOK
