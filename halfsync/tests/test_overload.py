"""More connections than there may be, and clients that take their response too slowly."""

from __future__ import annotations

from structlog.testing import capture_logs
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from http_tools import GET, Connection, ServerCase, parse, resident


class TestTooMany(ServerCase):
    """Beyond `max_connections`."""

    async def test_refused(self):
        """The next client is told at once and asked to come back; those before it go on, and make room."""
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
        while not any(each.outgoing.blocked for each in self.site.context.connections):
            await deferToThread(int)
        while spool and (made[0] < 1600 or self.pool.busy):
            await deferToThread(int)
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
        self.serve(endless, threads=1, write_timeout=0.2, min_rate=50_000)
        started = reactor.seconds()
        client = await self.slow(0.05, lambda _: reactor.seconds() > started + 1.5)
        assert client.lost is None
        client.transport.abortConnection()
