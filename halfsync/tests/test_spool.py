"""A client that is slow costs a connection and some disk, and no worker thread."""

from __future__ import annotations

import hashlib
import struct
import tempfile

import pytest
from structlog.testing import capture_logs
from twisted.internet import tcp
from twisted.internet.threads import deferToThread
from twisted.web.resource import Resource

from halfsync.http import channel, exchange, site, spool
from halfsync.http.channel import Channel
from http_tools import GET, Connection, ServerCase

MIB = 1024 * 1024
PIECES = 12

WHOLE = b"".join(struct.pack(">I", number) * (MIB // 4) for number in range(PIECES))


class Gatherer:
    """An application that streams WHOLE by the mebibyte, and says so when it has made the last one."""

    def __init__(self) -> None:
        self.done = 0

    def __call__(self, _environ, start_response):
        start_response("200 OK", [("Content-Length", str(len(WHOLE)))])
        for start in range(0, len(WHOLE), MIB):
            yield WHOLE[start : start + MIB]
        self.done += 1


class SpoolTest(ServerCase):
    """Over real sockets, as the kernel's buffers are part of it."""

    def setUp(self):
        self.patch(exchange, "SLOW", 0.01)
        self.app = Gatherer()

    async def ask_and_take_nothing(self):
        client = await self.connect()
        client.transport.pauseProducing()
        client.transport.write(GET)
        return client

    async def free_thread(self):
        while not self.app.done or self.pool.busy:
            await deferToThread(int)

    async def take_all(self, client):
        client.transport.resumeProducing()
        received = await client.bytes(WHOLE[-MIB:])
        assert received.partition(b"\r\n\r\n")[2] == WHOLE

    async def test_the_thread_is_free_before_the_client_has_taken_anything(self):
        """And the client gets every byte, in order, when it comes to it."""
        self.serve(self.app, threads=1, spool=100 * MIB)
        client = await self.ask_and_take_nothing()
        await self.free_thread()
        assert self.site.space.taken > 0
        await self.take_all(client)
        assert self.site.space.taken == 0

    async def test_a_body_in_one_piece(self):
        """It is in memory already, so it waits there."""
        self.serve(self.in_one_piece, threads=1, spool=0)
        client = await self.ask_and_take_nothing()
        await self.free_thread()
        assert self.site.memory.taken == len(WHOLE)
        await self.take_all(client)
        assert self.site.memory.taken == 0

    async def test_a_fast_client_leaves_the_others_their_turns(self):
        """What goes past Twisted's buffer is bounded; then the reactor goes round before there is more."""
        self.patch(channel, "A_TURN", MIB // 4)
        limit = channel.A_TURN + tcp.Connection.SEND_LIMIT
        turns = []

        class Counting(Channel):
            def write_now(self, data):
                turns.append(Channel.write_now(self, data))
                return turns[-1]

            def resumeProducing(self):
                turns.append("resumed")
                Channel.resumeProducing(self)

        self.patch(site, "Channel", Counting)
        self.serve(self.in_one_piece, threads=1)
        client = await self.connect()
        client.transport.write(GET)
        assert (await client.bytes(WHOLE[-MIB:])).partition(b"\r\n\r\n")[2] == WHOLE
        head, *rest = turns
        assert 0 < head < 1000
        for burst in " ".join(map(str, rest)).split("resumed"):
            assert sum(map(int, burst.split())) <= limit
        assert sum(each for each in rest if each != "resumed") > MIB, "some of it did go that way"

    async def test_more_in_one_piece_than_memory_is_for(self):
        """It goes to the disk."""
        self.patch(site, "IN_MEMORY", len(WHOLE) - 1)
        self.serve(self.in_one_piece, threads=1, spool=100 * MIB)
        client = await self.ask_and_take_nothing()
        await self.free_thread()
        assert self.site.space.taken > 0
        await self.take_all(client)

    async def test_a_client_that_leaves_gives_its_memory_back(self):
        self.serve(self.in_one_piece, threads=1)
        client = await self.ask_and_take_nothing()
        await self.free_thread()
        client.transport.abortConnection()
        while self.site.connections:
            await deferToThread(int)
        assert self.site.memory.taken == 0

    def in_one_piece(self, _environ, start_response):
        start_response("200 OK", [])
        self.app.done += 1
        return [WHOLE]

    async def test_a_full_disk_makes_the_thread_wait(self):
        """No byte is lost or out of order when the space ends in the middle."""
        self.serve(self.app, threads=1, spool=MIB)
        client = await self.ask_and_take_nothing()
        while self.site.space.taken < MIB - exchange.SLICE:
            await deferToThread(int)
        assert not self.app.done
        await self.take_all(client)
        await self.free_thread()
        assert self.site.space.taken == 0

    async def test_no_disk_at_all(self):
        """Where there is no folder for temporary files, the thread waits, and the log says why."""

        def refuse(**_keywords):
            raise FileNotFoundError("no usable temporary directory")

        self.patch(spool, "TemporaryFile", refuse)
        self.serve(self.app, threads=1, spool=MIB)
        with capture_logs() as events:
            client = await self.ask_and_take_nothing()
            while not events:
                await deferToThread(int)
            await self.take_all(client)
        assert events[0]["event"] == "http.spool_failed"

    async def test_a_disk_that_gives_nothing_back(self):
        """The response is broken off instead of waited for, and all that it held is free."""

        def refuse(*_arguments):
            raise OSError(5, "Input/output error")

        self.serve(self.app, threads=1, spool=100 * MIB)
        client = await self.ask_and_take_nothing()
        await self.free_thread()
        self.patch(spool.os, "pread", refuse)
        with capture_logs() as events:
            client.transport.resumeProducing()
            await client.closed()
        assert "http.spool_failed" in [each["event"] for each in events]
        while self.site.connections:
            await deferToThread(int)
        assert self.site.space.taken == 0

    async def test_a_client_that_leaves_gives_its_space_back(self):
        self.serve(self.app, threads=1, spool=100 * MIB)
        client = await self.ask_and_take_nothing()
        await self.free_thread()
        client.transport.abortConnection()
        while self.site.connections:
            await deferToThread(int)
        assert self.site.space.taken == 0


@pytest.fixture
def space():
    return spool.Space(10)


class Page(Resource):
    """A small resource of twisted.web's."""

    isLeaf = True

    def render_GET(self, _request):
        return b"hello"


class SendTest(ServerCase):
    """How an answer gets to the kernel, over a real socket."""

    def setUp(self):
        self.sent = []
        self.waits = []
        send, wait = tcp.Server.writeSomeData, tcp.Server.startWriting
        self.patch(
            tcp.Server,
            "writeSomeData",
            lambda server, data: self.sent.append(bytes(data)) or send(server, data),
        )
        self.patch(tcp.Server, "startWriting", lambda server: self.waits.append(server) or wait(server))

    async def test_a_short_response_goes_at_once(self):
        """In one piece, and the reactor is not asked to wait for the socket."""
        self.serve()
        client = await self.connect(GET)
        assert (await client.bytes(b"hello")).startswith(b"HTTP/1.1 200 OK\r\n")
        assert (len(self.sent), self.waits) == (1, [])

    async def test_a_resources_head_goes_with_its_body(self):
        """They are written one after the other, and are one packet all the same."""
        self.serve(resource=Page())
        client = await self.connect(GET)
        assert (await client.bytes(b"hello")).startswith(b"HTTP/1.1 200 OK\r\n")
        assert len(self.sent) == 1


def upload(length, **patches):
    """POST a body of so many bytes in three pieces; return what held it, and the room taken by half of it."""
    seen = []

    def app(environ, start_response):
        seen.append(type(environ["wsgi.input"]).__name__)
        start_response("200 OK", [])
        return [hashlib.sha256(environ["wsgi.input"].read()).hexdigest().encode()]

    connection = Connection(app)
    for name, value in patches.items():
        setattr(connection.site.uploads, name, value)
    body = bytes(range(256)) * (length // 256)
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    connection.send(head + body[: length // 3])
    connection.send(body[length // 3 : length // 2])
    taken = connection.site.uploads.taken
    answer = connection.send(body[length // 2 :])
    assert hashlib.sha256(body).hexdigest().encode() in answer
    assert connection.site.uploads.taken == 0, "it has all been given back"
    return seen, taken


def test_a_long_request_is_in_memory_while_there_is_room():
    """Reading it from the disk took the third part of the time of a 1 MB upload."""
    assert upload(3 * MIB) == (["Upload"], 3 * MIB // 2)


def test_a_long_request_goes_to_the_disk_when_there_is_none():
    """Wherever in it the room ends, no byte is lost; and a short one needs none."""
    seen, taken = upload(3 * MIB, limit=2 * MIB)
    assert (seen[0] != "Upload", taken) == (True, 3 * MIB // 2)
    seen, taken = upload(3 * MIB, limit=0)
    assert (seen[0] != "Upload", taken) == (True, 0)
    assert upload(60 * 1024, limit=0) == (["BytesIO"], 0)


def test_a_client_that_leaves_in_its_upload_gives_the_room_back():
    connection = Connection()
    connection.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    assert connection.site.uploads.taken == 5
    connection.lose()
    assert connection.site.uploads.taken == 0


def test_bytes_come_back_in_order(space):
    kept = space.open()
    assert kept.append(b"abc")
    assert kept.append(b"def")
    assert kept.take(4) == b"abcd"
    assert kept.take(4) == b"ef"
    assert kept.take(4) == b""
    kept.close()
    kept.close()
    assert space.taken == 0


def test_all_or_nothing_within_the_space_of_all(space):
    first, second = space.open(), space.open()
    assert first.append(b"12345678")
    assert not second.append(b"123")
    assert second.append(b"12")
    assert space.open() is None
    first.close()
    assert second.append(b"345")
    second.close()
    assert not second.append(b"6")


def test_a_disk_that_refuses_keeps_what_was_there(space, monkeypatch):
    """What is written of a piece that fails is not part of the response."""
    kept = space.open()
    kept.append(b"abc")
    with monkeypatch.context() as patched:
        patched.setattr(spool.os, "pwrite", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
        assert not kept.append(b"def")
    assert kept.take(10) == b"abc"
    kept.close()
    assert space.taken == 0


def test_the_file_has_no_name(space, tmp_path, monkeypatch):
    """Nothing is left behind by a process that is killed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    kept = space.open()
    kept.append(b"abc")
    assert list(tmp_path.iterdir()) == []
    kept.close()
