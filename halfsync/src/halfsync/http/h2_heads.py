"""How many heads an HTTP/2 connection may have read in a turn of the reactor.

Some bytes on the wire may be a head that costs 0.3 ms, and a thousand connections may send heads in the
same turn: with 16 of each, another client waited for 3 s.
"""

from __future__ import annotations

A_READ = 16 * 1024
"""Bytes that are read of a connection in a turn: heads of a few bytes may each take 0.3 ms."""

HEADS = 16
"""Heads of a connection in a turn; what follows them is read after the others had theirs."""

CROWD = 32
"""Connections that may have as many each; of more, each has fewer."""


class ReadingOn:
    """The connections of a listener of which more has come than was read in a turn."""

    def __init__(self) -> None:
        self.count = 0

    @property
    def heads(self) -> int:
        """How many heads a connection may have read in this turn: one at least."""
        return HEADS if self.count <= CROWD else max(1, HEADS * CROWD // self.count)
