"""Clients that leave at any moment, and what must not be left of them."""

from __future__ import annotations

import random
from pathlib import Path

from structlog.testing import capture_logs
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol

from halfsync.http.wsgi import flow
from http_tools import Raw, ServerCase, until
from test_pace import h2_request

PIECE = bytes(100_000)

REQUESTS = {
    "small": b"GET /small HTTP/1.1\r\nHost: a\r\n\r\n",
    "two": b"GET /small HTTP/1.1\r\nHost: a\r\n\r\n" * 2 + b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n",
    "one": b"GET /one HTTP/1.1\r\nHost: a\r\n\r\n",
    "stream": b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n",
    "write": b"GET /write HTTP/1.1\r\nHost: a\r\n\r\n",
    "fail": b"GET /fail HTTP/1.1\r\nHost: a\r\n\r\n",
    "upload": b"POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: 800000\r\n\r\n" + PIECE * 8,
    "half an upload": b"POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: 800000\r\n\r\n" + PIECE * 4,
    "chunks": b"POST /small HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n186A0\r\n%b\r\n1"
    % PIECE,
    "h2 small": h2_request("/small"),
    "h2 one": h2_request("/one"),
    "h2 stream": h2_request("/stream"),
    "h2 one, window shut": h2_request("/one", window=1000),
    "h2 stream, window shut": h2_request("/stream", window=1000),
}


class Leaver(Raw):
    """Asks for something, takes so much of it, and leaves in one of three ways."""

    def __init__(self, request: bytes, take: int, how: str):
        super().__init__()
        self.request, self.take, self.how = request, take, how
        self._calls = []

    def connectionMade(self):
        self.transport.write(self.request)
        if not self.take:
            self._leave()

    def dataReceived(self, data):
        self.size += len(data)
        if self.size >= self.take:
            self._leave()

    def _leave(self):
        if self.how == "reset":
            self.transport.abortConnection()
        elif self.how == "close":
            self.transport.loseConnection()
        else:
            # It takes nothing more, without a word; later it is gone.
            self.transport.pauseProducing()
            self.reset_in(0.05)

    def reset_in(self, seconds: float):
        if self.lost is None:
            self._calls.append(reactor.callLater(seconds, self.transport.abortConnection))

    def connectionLost(self, reason):
        for call in self._calls:
            if call.active():
                call.cancel()
        super().connectionLost(reason)


def app(environ, start_response):
    """Answer in each way there is."""
    path = environ["PATH_INFO"]
    write = start_response("200 OK", [])
    if path == "/small":
        return [b"hello"]
    if path == "/one":
        return [PIECE * 20]
    if path == "/write":
        for _ in range(20):
            write(PIECE)
        return []
    return stream(fail=path == "/fail")


def stream(*, fail):
    """Yield 2 MB, or half of it and an error."""
    for number in range(20):
        if fail and number == 10:
            raise RuntimeError("as asked")
        yield PIECE


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class LeavingTest(ServerCase):
    """Whatever they had asked for, however much they had taken."""

    timeout = 100

    async def test_nothing_is_left(self):
        """No thread is held, no memory, no disk, no descriptor; and the service answers."""
        # So that all of it happens: little memory, and a disk that is used soon, and full at times.
        self.patch(flow, "SLOW", 0.001)
        chance = random.Random(3)
        self.serve(app, threads=4, queue=100, spool=5_000_000, memory=3 * len(PIECE) * 20)
        first = await self.connect(REQUESTS["small"])
        await first.bytes(b"hello")
        before = descriptors()
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.port.getHost().port)
        spooled = held = 0
        with capture_logs():
            for _ in range(25):
                leavers = [
                    await connectProtocol(
                        endpoint,
                        Leaver(
                            REQUESTS[name],
                            chance.choice([0, 1, 200, 70_000, 300_000, 1_500_000]),
                            chance.choice(["reset", "close", "vanish"]),
                        ),
                    )
                    for name in REQUESTS
                ]
                for each in leavers:
                    # Who has not got as much as it wanted leaves all the same.
                    each.reset_in(chance.random() / 10)
                for each in leavers:
                    await each.until(lambda each=each: each.lost)
                    spooled, held = (
                        max(spooled, self.site.context.disk.taken),
                        max(held, self.site.context.memory.taken),
                    )
            await until(lambda: not (self.site.connections > 1 or self.pool.busy or self.pool.waiting))
        assert min(spooled, held) > 0
        assert (self.site.context.disk.taken, self.site.context.memory.taken) == (0, 0)
        assert descriptors() == before
        first.transport.write(REQUESTS["small"])
        await first.bytes(b"hello", 2)
