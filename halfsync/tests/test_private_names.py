"""The private names of Twisted, h2 and hpack that the library uses still mean what they meant.

One test a name, in the order of `_twisted.py` and `_h2.py`.
When one fails after an update, the module that owns the name says what it is for.
"""

from __future__ import annotations

import socket

from twisted.internet import reactor
from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Server

from halfsync import _twisted


def test_waiting_counts_what_was_written_and_not_sent():
    """`FileDescriptor.dataBuffer`, `offset` and `_tempDataLen`: joined, being sent, and not yet joined."""
    ours, theirs = socket.socketpair()
    with theirs:
        transport = Server(ours, Protocol(), ("127.0.0.1", 1), None, 0, reactor)
        try:
            assert _twisted.waiting(transport) == 0
            transport.write(b"x" * 1000)
            transport.write(b"y" * 500)
            assert _twisted.waiting(transport) == 1500
            transport.doWrite()
            assert _twisted.waiting(transport) == 0
        finally:
            transport.stopReading()
            transport.stopWriting()
            ours.close()
