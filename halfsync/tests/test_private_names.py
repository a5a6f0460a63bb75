"""The private names of Twisted and thrift that the library uses mean what they meant; of hpack it uses none.

One test a name, in the order of `_twisted.py`; then what `thrift/codec.py` uses.
When one fails after an update, the module that owns the name says what it is for.
"""

from __future__ import annotations

import inspect
import os
import socket

import pytest
from thrift.protocol.TBinaryProtocol import TBinaryProtocolAccelerated
from thrift.protocol.TCompactProtocol import TCompactProtocolAccelerated
from thrift.transport.TTransport import TMemoryBuffer
from twisted.conch.insults.insults import ServerProtocol
from twisted.conch.recvline import HistoricRecvLine
from twisted.conch.ssh.channel import SSHChannel
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.tcp import Server
from twisted.internet.testing import StringTransport
from twisted.logger import Logger
from twisted.python.systemd import ListenFDs
from twisted.web.client import HTTPConnectionPool

from halfsync import _twisted
from sample_rpc.ttypes import Part


def test_a_logger_of_conch_is_replaced():
    """`_log` of a class of conch is what it logs by."""
    seen = []

    @_twisted.logs_to(Logger(observer=seen.append))
    class Channel(SSHChannel):
        """Extends one of conch's."""

    Channel().channelOpen(b"")
    assert [event["log_format"] for event in seen] == ["channel open"]


def test_a_line_of_the_history_is_delivered():
    """`_deliverBuffer` of `HistoricRecvLine` is what puts it into the editor."""

    @_twisted.delivers
    class Editor(HistoricRecvLine):
        """Extends conch's."""

        def deliver(self, buf):
            delivered.append(buf)

    delivered = []
    terminal = ServerProtocol(Editor)
    terminal.makeConnection(StringTransport())
    editor = terminal.terminalProtocol
    editor.historyLines = [b"first", b"second"]
    editor.historyPosition = 2
    editor.handle_UP()
    editor.handle_UP()
    editor.handle_DOWN()
    assert delivered == [b"second", b"first", b"second"]


def test_a_pool_connects_by_another_factory():
    """`_factory` of a pool of the HTTP client makes a connection; it gets what hears that one is free."""
    made = []

    class Connections(Factory):
        """Notes what it is made with."""

        def __init__(self, free, name) -> None:
            made.append((free, name))

    class Endpoint:
        """Takes note of the factory."""

        def connect(self, factory):
            made.append(factory)
            return Deferred()

    pool = HTTPConnectionPool(reactor)
    _twisted.connects_by(pool, Connections)
    pool.getConnection("key", Endpoint())
    (free, _), factory = made
    assert callable(free)
    assert type(factory) is Connections


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


def test_the_parser_of_endpoints_knows_what_systemd_handed_over(monkeypatch):
    """`_sddaemon` of the parser of `systemd:`, and its `_names`: every socket, those of one name included."""
    given = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "3", "LISTEN_FDNAMES": "web:rpc:web"}
    handed_over = ListenFDs.fromEnvironment(given, 3)
    monkeypatch.setattr(_twisted.systemdEndpointParser, "_sddaemon", handed_over)
    assert _twisted.systemd_sockets() == [(3, "web"), (4, "rpc"), (5, "web")]


@pytest.mark.parametrize("protocol", [TBinaryProtocolAccelerated, TCompactProtocolAccelerated])
def test_structs_of_thrift_are_coded_by_the_same_functions(protocol):
    """`_fast_encode` and `_fast_decode` are what the compiler's own code calls, with these arguments."""
    code = inspect.getsource(Part)
    assert "iprot._fast_decode(self, iprot, [self.__class__, self.thrift_spec])" in code
    assert "oprot._fast_encode(self, [self.__class__, self.thrift_spec])" in code
    made = protocol(TMemoryBuffer(), fallback=False)
    given = Part(name="Ada")
    data = made._fast_encode(given, [Part, Part.thrift_spec])
    taken = Part()
    source = protocol(TMemoryBuffer(data), fallback=False)
    source._fast_decode(taken, source, [Part, Part.thrift_spec])
    assert taken == given
