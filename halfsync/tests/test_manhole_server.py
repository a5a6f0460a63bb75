"""The server in memory: what a clock or a crowd decides."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs
from twisted.conch.ssh import transport
from twisted.conch.ssh.common import NS
from twisted.conch.ssh.userauth import MSG_USERAUTH_FAILURE
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from halfsync.manhole import ssh_server as module
from halfsync.manhole.auth import LoginRefused, UserAuth
from halfsync.manhole.host_key import load_host_key
from halfsync.manhole.login import ManholeCounts
from halfsync.manhole.ssh_server import SSHServer
from halfsync.manhole.ssh_transport import MAX_PACKETS


class Wire(StringTransport):
    """A connection that can be cut."""

    aborted = False

    def abortConnection(self):
        self.aborted = True


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def server(clock, tmp_path):
    host_key = load_host_key(str(tmp_path / "host"))
    made = SSHServer(
        host_key=host_key,
        user="me",
        authorized_keys="",
        tools=SimpleNamespace(),
        counts=ManholeCounts(),
        reactor=clock,
    )
    made.doStart()
    return made


def knock(server):
    connection = server.buildProtocol(IPv4Address("TCP", "10.0.0.1", 4321))
    wire = Wire(peerAddress=IPv4Address("TCP", "10.0.0.1", 4321))
    connection.makeConnection(wire)
    return connection, wire


def test_whoever_does_not_log_in_is_cut_off(server, clock):
    """However busy the connection keeps: conch's own limit is ten hours and begins later."""
    connection, wire = knock(server)
    connection.dataReceived(b"SSH-2.0-slow\r\n")
    clock.advance(59)
    connection.dataReceived(b"\0\0")
    assert not wire.aborted
    with capture_logs() as logs:
        clock.advance(1)
    assert wire.aborted
    assert [(each["event"], each["peer"], each["reason"]) for each in logs] == [
        ("manhole.refused", "10.0.0.1:4321", "not logged in within 60 s")
    ]
    connection.connectionLost(None)
    assert not server.unauthenticated


def test_whoever_sends_packets_without_logging_in_is_cut_off(server):
    """The protocol has packets that are ignored: no client keeps the reactor busy with them."""
    connection, wire = knock(server)
    ignored = b"\0\0\0\x0c\x06\x02" + bytes(10)
    connection.dataReceived(b"SSH-2.0-busy\r\n")
    connection.dataReceived(ignored * MAX_PACKETS)
    assert not wire.aborted
    with capture_logs() as logs:
        connection.dataReceived(ignored * 1000)
    assert wire.aborted
    assert [(each["event"], each["reason"]) for each in logs] == [
        ("manhole.refused", "more than 256 packets, and not logged in")
    ]
    assert server.counts.refused == 1


def test_the_oldest_makes_room(server, clock):
    """A crowd that says nothing keeps nobody out; the log says so once; no timer outlives a connection."""
    crowd = [knock(server) for _ in range(module.MAX_UNAUTHENTICATED)]
    with capture_logs() as logs:
        late = [knock(server) for _ in range(3)]
    assert [wire.aborted for _, wire in crowd] == [True] * 3 + [False] * 7
    assert not any(wire.aborted for _, wire in late)
    assert [(each["peer"], each["reason"]) for each in logs] == [
        ("10.0.0.1:4321", "10 others are not logged in yet, and this is the oldest")
    ]
    assert server.counts.refused == 3
    assert len(server.unauthenticated) == module.MAX_UNAUTHENTICATED
    connection, wire = crowd[0]
    wire.clear()
    connection.dataReceived(b"SSH-2.0-late\r\n" * 10)
    assert wire.value() == b""
    for each, _ in crowd + late:
        each.connectionLost(None)
    assert not server.unauthenticated
    assert clock.getDelayedCalls() == []


def test_a_client_that_exchanges_keys_is_not_the_first_to_go(server):
    """To say nothing costs nothing, and to exchange keys does: the silent ones make room first."""
    crowd = [knock(server) for _ in range(module.MAX_UNAUTHENTICATED)]
    for connection, _ in crowd[:2]:
        connection.isEncrypted = lambda _direction: True
    knock(server)
    assert [wire.aborted for _, wire in crowd[:4]] == [False, False, True, False]


def test_while_the_log_is_not_written_nobody_new_gets_in(server, monkeypatch):
    """What each connection logs is never dropped, and would fill the memory."""
    behind = SimpleNamespace(behind=module.MAX_BEHIND + 1)
    monkeypatch.setattr(module.logs, "running", lambda: behind)
    assert server.buildProtocol(IPv4Address("TCP", "10.0.0.2", 1)) is None
    behind.behind = 0
    assert server.buildProtocol(IPv4Address("TCP", "10.0.0.2", 1)) is not None


def test_the_number_of_visits_is_bounded(server):
    """One more is refused, and told so in the log."""
    server.logins.update(range(module.MAX_LOGINS))
    with pytest.raises(LoginRefused, match="10 are in already"):
        server.requestAvatar(b"key", None)


def test_nothing_that_follows_the_end_is_obeyed(server):
    """A client cannot go on behind our farewell with what it has sent ahead."""
    connection, wire = knock(server)
    connection.sendDisconnect(transport.DISCONNECT_BY_APPLICATION, b"enough")
    assert wire.disconnecting
    wire.clear()
    connection.dataReceived(b"SSH-2.0-late\r\n" * 1000)
    assert (wire.value(), connection.buf) == (b"", b"")
    connection.connectionLost(None)


def test_services_come_in_their_order(server):
    """Sessions only after a login, a login only once."""
    client = SimpleNamespace(login=None)
    assert server.getService(client, b"ssh-connection") is None
    assert server.getService(client, b"ssh-userauth") is module.UserAuth
    assert server.getService(client, b"nonsense") is None
    known = SimpleNamespace(login=None, avatar=object())
    assert server.getService(known, b"ssh-connection") is module.ChannelService
    assert server.getService(known, b"ssh-userauth") is None
    known.login = object()
    assert server.getService(known, b"ssh-connection") is None


@pytest.mark.parametrize(
    ("host", "expected"),
    [("10.0.0.1", "10.0.0.1"), ("::ffff:10.0.0.1", "10.0.0.1"), ("fe80::1%eth0", "fe80::1")],
)
def test_addresses_as_patterns_know_them(server, host, expected):
    """IPv4 as such also on a socket for both families, and no scope."""
    connection = server.buildProtocol(IPv6Address("TCP", host, 1))
    connection.makeConnection(Wire(peerAddress=IPv6Address("TCP", host, 1)))
    assert connection.address == expected
    connection.connectionLost(None)


class TooMany:
    """The transport of a login."""

    def __init__(self, server):
        self.factory = server
        self.address = self.peer = self.id = None
        self.sent = []

    def isEncrypted(self, _direction):
        return True

    def refuse(self, reason, **facts):
        self.factory.counts.refused += 1

    def sendPacket(self, kind, _data):
        self.sent.append(kind)

    def sendDisconnect(self, _code, text):
        self.sent.append(text)


def test_refusals_are_slow_and_few(server, clock):
    """Each answer takes its time, also for a client that does not wait for it; the eleventh try ends it."""
    login = UserAuth()
    login.transport = TooMany(server)
    login.serviceStarted()
    request = NS(b"me") + NS(b"ssh-connection") + NS(b"password") + b"\0" + NS(b"x")
    for _ in range(10):
        login.ssh_USERAUTH_REQUEST(request)
    assert login.transport.sent == []
    clock.advance(0.5)
    assert login.transport.sent == [MSG_USERAUTH_FAILURE] * 10
    login.ssh_USERAUTH_REQUEST(request)
    assert login.transport.sent[10:] == [b"too many keys"]
    login.serviceStopped()
    assert clock.getDelayedCalls() == []


def test_a_refusal_that_nobody_waits_for_is_forgotten(server, clock):
    """A connection that ends leaves no timer."""
    login = UserAuth()
    login.transport = TooMany(server)
    login.serviceStarted()
    login.ssh_USERAUTH_REQUEST(NS(b"me") + NS(b"ssh-connection") + NS(b"password") + b"\0" + NS(b"x"))
    login.serviceStopped()
    assert (login.transport.sent, clock.getDelayedCalls()) == ([], [])
