"""More connections than there may be, and clients that take their response too slowly."""

from __future__ import annotations

import importlib
import re

import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import SettingsFrame
from structlog.testing import capture_logs
from twisted.internet import reactor
from twisted.internet.address import UNIXAddress
from twisted.internet.testing import StringTransport

from h2_tools import POST, PREFACE
from h2_tools import Client as H2Client
from halfsync.endpoints.addresses import ip_address
from halfsync.flags import FlagError
from halfsync.http import connections
from halfsync.http.proxies import Proxies
from halfsync.testing import flags_set
from http_tools import GET, Connection, ServerCase, parse, resident, until


class TestTooMany(ServerCase):
    """Beyond `max_connections`."""

    async def test_refused(self):
        """A client beyond its share is told at once and asked to come back; those before it go on."""
        self.serve(max_connections=1)
        first = await self.connect(GET)
        await first.bytes(b"hello")
        second = await self.connect(GET)
        reply = parse(await second.closed())
        assert reply.status == 503
        assert 1 <= int(reply.headers["Retry-After"]) <= 3
        assert reply.headers["Connection"] == "close"
        first.transport.write(GET)
        await first.bytes(b"hello", 2)
        assert self.site.counts.refused == {503: 1}
        first.transport.loseConnection()
        await first.closed()
        third = None
        while third is None or third.received.startswith(b"HTTP/1.1 503"):
            # Until the server has seen the first one go.
            third = await self.connect(GET)
            await third.bytes(b"\r\n\r\n")
        await third.bytes(b"hello")

    def test_a_flood_gets_no_answer(self):
        """Connections that are being refused have a bound too."""
        connection = Connection(max_connections=1)
        more = [connection.site.buildProtocol(None) for _ in range(100)]
        with capture_logs():
            for each in more:
                each.makeConnection(type(connection.transport)())
        assert [each.transport.disconnected for each in more].count(True) >= 30
        assert sum(b" 503 " in each.transport.value() for each in more) >= 60


class Crowd:
    """Clients in memory, each from an address that the test names."""

    def __init__(self, *, trusted=(), **bounds):
        self.first = Connection(**bounds)
        self.site, self.clock = self.first.site, self.first.clock
        self.first.lose()
        self.site.proxies = Proxies(trusted)

    def connect(self, peer):
        """Open a connection from there."""
        address = peer if isinstance(peer, UNIXAddress) else ip_address(peer, 1)
        connection = self.site.buildProtocol(None)
        connection.makeConnection(StringTransport(peerAddress=address, lenient=True))
        self.clock.advance(0.1)
        return connection


def refused(connection):
    """Whether a connection was answered 503."""
    value = connection.transport.value()
    return b" 503 " in value and b"Retry-After: " in value


class TestShares:
    """`max_connections_per_client`, and what makes room."""

    def test_one_client_has_a_quarter(self):
        """Of 8 places a client has 2; another still finds one, and so does the first when one of its ends."""
        crowd = Crowd(max_connections=8)
        mine = [crowd.connect("192.0.2.1") for _ in range(3)]
        assert [refused(each) for each in mine] == [False, False, True]
        assert not refused(crowd.connect("192.0.2.2"))
        mine[2].connectionLost()
        mine[0].connectionLost()
        assert not refused(crowd.connect("192.0.2.1"))
        assert refused(crowd.connect("192.0.2.1"))

    def test_the_flag_says_another_share(self):
        """A given number holds; it is the client's, however the address is written."""
        crowd = Crowd(max_connections=8, max_connections_per_client=1)
        assert not refused(crowd.connect("::ffff:192.0.2.1"))
        assert refused(crowd.connect("192.0.2.1"))

    def test_an_ipv6_client_is_its_network(self):
        """Addresses of one /64 are one client."""
        crowd = Crowd(max_connections=8, max_connections_per_client=1)
        assert not refused(crowd.connect("2001:db8::1"))
        assert refused(crowd.connect("2001:db8::2"))
        assert not refused(crowd.connect("2001:db8:0:1::1"))

    def test_exempt(self):
        """Trusted proxies and UNIX sockets carry many clients."""
        crowd = Crowd(max_connections=8, max_connections_per_client=1, trusted=["10.0.0.7"])
        for peer in ("10.0.0.7", UNIXAddress("/run/x")):
            assert not any(refused(crowd.connect(peer)) for _ in range(3))

    def test_http2_counts_on(self):
        """A connection that goes on with HTTP/2 is its client's still."""
        crowd = Crowd(max_connections=8, max_connections_per_client=1)
        crowd.site.context.speak_h2(crowd.connect("192.0.2.1"))
        assert refused(crowd.connect("192.0.2.1"))

    def test_the_longest_idle_makes_room(self):
        """HTTP/1.1 or HTTP/2: who asked last stays, and whose request is on its way."""
        crowd = Crowd(max_connections=3, max_connections_per_client=9)
        begun = crowd.connect("192.0.2.1")
        begun.dataReceived(b"GET / HTTP/1.1\r\n")
        asked = crowd.connect("192.0.2.2")
        h2 = crowd.site.context.speak_h2(crowd.connect("192.0.2.3"))
        crowd.clock.advance(1)
        asked.dataReceived(GET)
        new = crowd.connect("192.0.2.4")
        assert h2.transport.disconnecting
        assert not any(each.transport.disconnecting for each in (begun, asked, new))
        assert not refused(crowd.connect("192.0.2.5"))
        assert asked.transport.disconnecting
        assert not begun.transport.disconnecting

    def test_one_that_was_asked_since_the_look_stays(self):
        """All are looked at for every hundred that make room; who is asked meanwhile is not idle for long."""
        crowd = Crowd(max_connections=3, max_connections_per_client=9)
        first, second, third = [crowd.connect(f"192.0.2.{each}") for each in (1, 2, 3)]
        crowd.connect("192.0.2.4")
        assert first.transport.disconnecting
        second.dataReceived(GET)
        crowd.connect("192.0.2.5")
        assert third.transport.disconnecting
        assert not second.transport.disconnecting
        for each in (6, 7, 8):
            assert not refused(crowd.connect(f"192.0.2.{each}"))
        assert second.transport.disconnecting

    def test_nobody_is_idle(self):
        """Then the new one is told so."""
        crowd = Crowd(max_connections=1)
        crowd.connect("192.0.2.1").dataReceived(b"GET")
        assert refused(crowd.connect("192.0.2.2"))

    def test_one_client_turned_away_leaves_room_for_others(self):
        """A flood from one address is cut, and another client is served."""
        crowd = Crowd(max_connections=8)
        flood = [crowd.connect("192.0.2.1") for _ in range(100)]
        assert sum(map(refused, flood)) <= 66
        other = crowd.connect("192.0.2.2")
        other.dataReceived(GET)
        assert b"hello" in other.transport.value()


def test_a_sweep_is_of_some_connections_in_a_turn(monkeypatch):
    """Thousands with deadlines and buffers would hold up all others; each is looked at all the same."""
    monkeypatch.setattr(connections, "A_SLICE", 2)
    crowd = Crowd(max_connections=100)
    many = [crowd.connect("192.0.2.1") for _ in range(5)]
    for each in many:
        each.deadline = 0.0
    found = crowd.site.context.connections
    found._sweep()
    assert [each.transport.disconnecting for each in many] == [True, True, False, False, False]
    crowd.clock.advance(0)
    assert all(each.transport.disconnecting for each in many)
    found._sweep()
    for each in many:
        each.connectionLost()
    assert crowd.clock.getDelayedCalls() == [], "nothing is left of a sweep when nobody is"


def endless(_environ, start_response):
    """Never end."""
    start_response("200 OK", [])
    while True:
        yield b"x" * 65536


class TestSlowReaders(ServerCase):
    """A client that takes a little now and then."""

    async def test_100_mb_unread(self):
        """A stream that its client does not take costs under 2 MB while its thread waits."""
        assert 0 < await self.leave_unread(spool=0) < 1600

    async def test_100_mb_unread_and_on_the_disk(self):
        """And no more when all of it is made."""
        assert await self.leave_unread(spool=200_000_000) == 1600

    async def leave_unread(self, spool):
        """Ask for 1,600 pieces of 64 KiB, take none, and see what that costs; return how many were made."""
        made = [0]

        def app(environ, start_response):
            start_response("200 OK", [])
            return [b"hello"] if environ["PATH_INFO"] == "/small" else stream()

        def stream():
            for _ in range(1600):
                made[0] += 1
                yield b"x" * 65536

        self.serve(app, threads=1, spool=spool)
        # What the first connection of a process costs is no part of this.
        first = await self.connect(GET.replace(b"/ ", b"/small "))
        await first.bytes(b"hello")
        before = resident()
        client = await self.connect()
        client.transport.pauseProducing()
        client.transport.write(GET)
        await until(lambda: any(each.outgoing.blocked for each in self.site.context.connections))
        await until(lambda: not (spool and (made[0] < 1600 or self.pool.busy)))
        assert resident() - before < 2 * 1024 * 1024, (resident() - before, made)
        client.transport.abortConnection()
        return made[0]

    async def slow(self, pause, done):
        """Ask for the endless response, and take one piece after each pause until something is true."""
        client = await self.connect(GET)
        client.keep = 100
        received = client.dataReceived
        calls = []

        def take(data):
            client.transport.pauseProducing()
            calls.append(reactor.callLater(pause, client.transport.resumeProducing))
            received(data)

        client.dataReceived = take
        await client.until(lambda: done(client))
        client.dataReceived = received
        client.transport.pauseProducing()
        if calls[-1].active():
            calls[-1].cancel()
        return client

    async def test_too_slow(self):
        """Below the rate it is cut, though it takes something all the time, and its thread is free."""
        self.serve(endless, threads=1, write_timeout=0.4, min_rate=100_000_000)
        with capture_logs() as logs:
            client = await self.slow(0.02, lambda client: client.lost)
            await self.pool.drain()
        assert client.size
        assert "http.stalled" in [each["event"] for each in logs]
        assert self.pool.busy == 0

    async def test_slow_enough(self):
        """Above the rate it is served for as long as it takes."""
        self.serve(endless, threads=1, write_timeout=1, min_rate=50_000)
        started = reactor.seconds()
        client = await self.slow(0.05, lambda client: client.lost or reactor.seconds() > started + 3)
        assert client.lost is None
        client.transport.abortConnection()


@pytest.mark.parametrize(
    ("flag", "value", "right"),
    [
        ("web.memory", "1", "1048576 to 1099511627776"),
        ("web.memory", str(2**41), "1048576 to 1099511627776"),
        ("web.spool", "-1", "0 to 1125899906842624"),
        ("web.max_body", "0", "1 to 1125899906842624"),
        ("web.max_head", "100", "512 to 1048576"),
        ("web.max_headers", "1", "8 to 10000"),
        ("web.min_rate", str(2**31), "1 to 1073741824"),
        ("web.threads", "0", "1 to 10000"),
        ("web.queue_timeout", "0", "0.001 to 1e+09 seconds"),
        ("web.stuck_after", "-1", "0 to 1e+09 seconds"),
        ("rpc.memory", "1", "1048576 to 1099511627776"),
        ("rpc.max_frame", "1", "256 to 1073741824"),
    ],
)
def test_bounds_with_which_nothing_could_be_served_are_refused(flag, value, right):
    """By a message that says what would be right."""
    importlib.import_module("halfsync.http.listener")
    importlib.import_module("halfsync.http.wsgi.gateway")
    importlib.import_module("halfsync.thrift.listener")
    with pytest.raises(FlagError, match=f"; right is {re.escape(right)} "), flags_set({flag: value}):
        pass


class TestTurnedAwayOverHttp2:
    """A client with which HTTP/2 was agreed on (ALPN) is told in HTTP/2 that it may ask elsewhere."""

    def refused(self) -> H2Client:
        client = H2Client(max_connections=1, max_connections_per_client=9)
        held = client.site.buildProtocol(None)
        held.makeConnection(StringTransport(lenient=True))
        held.dataReceived(b"GET / HTTP/1.1\r\n")
        # The first has asked, and none is idle.
        client.request(POST, end=False)
        new = H2Client(site=client.site, clock=client.clock, greet=False)
        new.receive()
        return new

    def test_goaway(self):
        """No stream was begun (RFC 9113 section 6.8), no byte is of HTTP/1.1, and it ends soon."""
        new = self.refused()
        assert new.goaways == [(0, ErrorCodes.NO_ERROR)]
        assert isinstance(new.frames[0], SettingsFrame)
        # What has come meanwhile is dropped.
        new.send_bytes(PREFACE)
        assert new.request().status == 0
        assert not new.open
        new.advance(3)
        assert new.transport.disconnected
        new.lose()
        assert new.site.connections == 2

    def test_a_flood(self):
        """Beyond a number of them, they are cut without a word."""
        client = H2Client(max_connections=1, max_connections_per_client=9)
        client.request(POST, end=False)
        more = [H2Client(site=client.site, clock=client.clock, greet=False) for _ in range(80)]
        assert 64 <= sum(each.receive() != [] for each in more) < 80
        assert [each for each in more if not (each.goaways or each.transport.disconnected)] == []
