"""A client that is slow costs a connection and some disk, and no worker thread."""

from __future__ import annotations

import hashlib
import struct
import tempfile
import threading

import pytest
from structlog.testing import capture_logs
from twisted.web.resource import Resource

from halfsync.endpoints import send_queue
from halfsync.endpoints.transport import SocketTransport
from halfsync.http.account import Account
from halfsync.http.wsgi import flow, spool
from halfsync.http.wsgi.spool import open_spool
from http_tools import GET, Connection, ServerCase, until

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
        self.patch(flow, "SLOW", 0.01)
        self.app = Gatherer()

    async def ask_and_take_nothing(self):
        client = await self.connect()
        client.transport.pauseProducing()
        client.transport.write(GET)
        return client

    async def free_thread(self):
        await until(lambda: self.app.done and not self.pool.busy)

    async def take_all(self, client):
        client.transport.resumeProducing()
        received = await client.bytes(WHOLE[-MIB:])
        assert received.partition(b"\r\n\r\n")[2] == WHOLE

    async def test_the_thread_is_free_before_the_client_has_taken_anything(self):
        """And the client gets every byte, in order, when it comes to it."""
        self.serve(self.app, threads=1, spool=100 * MIB)
        client = await self.ask_and_take_nothing()
        await self.free_thread()
        assert self.site.context.disk.taken > 0
        await self.take_all(client)
        assert self.site.context.disk.taken == 0

    async def test_a_body_in_one_piece(self):
        """It is in memory already, so it waits there."""
        self.serve(self.in_one_piece, threads=1, spool=0)
        client = await self.ask_and_take_nothing()
        await self.free_thread()
        assert self.site.context.memory.taken == len(WHOLE)
        await self.take_all(client)
        assert self.site.context.memory.taken == 0

    async def test_a_fast_client_leaves_the_others_their_turns(self):
        """What is sent in one turn of the reactor is bounded."""
        self.patch(send_queue, "TURN", MIB // 4)
        turns = []
        send = SocketTransport._send
        self.patch(
            SocketTransport,
            "_send",
            lambda transport, pieces: turns.append(sum(map(len, pieces))) or send(transport, pieces),
        )
        self.serve(self.in_one_piece, threads=1)
        client = await self.connect()
        client.transport.write(GET)
        assert (await client.bytes(WHOLE[-MIB:])).partition(b"\r\n\r\n")[2] == WHOLE
        assert len(turns) > 1
        assert max(turns[1:]) <= MIB // 4

    async def test_more_in_one_piece_than_memory_is_for(self):
        """It goes to the disk."""
        self.serve(self.in_one_piece, threads=1, spool=100 * MIB, memory=len(WHOLE) - 1)
        client = await self.ask_and_take_nothing()
        await self.free_thread()
        assert self.site.context.disk.taken > 0
        await self.take_all(client)

    async def test_a_client_that_leaves_gives_its_memory_back(self):
        self.serve(self.in_one_piece, threads=1)
        client = await self.ask_and_take_nothing()
        await self.free_thread()
        client.transport.abortConnection()
        await until(lambda: not self.site.connections)
        assert self.site.context.memory.taken == 0

    def in_one_piece(self, _environ, start_response):
        start_response("200 OK", [])
        self.app.done += 1
        return [WHOLE]

    async def test_a_full_disk_makes_the_thread_wait(self):
        """No byte is lost or out of order when the space ends in the middle."""
        self.serve(self.app, threads=1, spool=MIB)
        client = await self.ask_and_take_nothing()
        await until(lambda: self.site.context.disk.taken >= MIB - flow.SLICE)
        assert not self.app.done
        await self.take_all(client)
        await self.free_thread()
        assert self.site.context.disk.taken == 0

    async def test_no_disk_at_all(self):
        """Where there is no folder for temporary files, the thread waits, and the log says why."""

        def refuse(**_keywords):
            raise FileNotFoundError("no usable temporary directory")

        self.patch(spool, "TemporaryFile", refuse)
        self.serve(self.app, threads=1, spool=MIB)
        with capture_logs() as events:
            client = await self.ask_and_take_nothing()
            await until(lambda: events)
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
        await until(lambda: not self.site.connections)
        assert self.site.context.disk.taken == 0

    async def test_a_client_that_leaves_gives_its_space_back(self):
        self.serve(self.app, threads=1, spool=100 * MIB)
        client = await self.ask_and_take_nothing()
        await self.free_thread()
        client.transport.abortConnection()
        await until(lambda: not self.site.connections)
        assert self.site.context.disk.taken == 0


@pytest.fixture
def space():
    return Account(10)


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
        send, wait = SocketTransport._send, SocketTransport.startWriting
        self.patch(
            SocketTransport,
            "_send",
            lambda transport, pieces: self.sent.append(b"".join(pieces)) or send(transport, pieces),
        )
        self.patch(
            SocketTransport, "startWriting", lambda transport: self.waits.append(transport) or wait(transport)
        )

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


def upload(length, framing=b"Content-Length", **bounds):
    """POST a body of so many bytes in pieces; return the most memory, and disk, that were taken for it."""

    def app(environ, start_response):
        body = environ["wsgi.input"]
        start_response("200 OK", [])
        first = hashlib.sha256(body.read()).hexdigest()
        body.seek(0)
        again = hashlib.sha256()
        while piece := body.read(10_007):
            again.update(piece)
        return [first.encode(), again.hexdigest().encode(), environ["CONTENT_LENGTH"].encode()]

    connection = Connection(app, max_body=100 * MIB, **bounds)
    context = connection.site.context
    body = bytes(range(256)) * (length // 256)
    connection.send(
        b"POST / HTTP/1.1\r\nHost: x\r\n"
        + (b"Transfer-Encoding: chunked" if framing == b"chunked" else b"Content-Length: %d" % len(body))
        + b"\r\n\r\n"
    )
    memory = disk = 0
    answer = b""
    for start in range(0, len(body), 70_000):
        piece = body[start : start + 70_000]
        if framing == b"chunked":
            piece = b"%x\r\n%b\r\n" % (len(piece), piece)
        answer = connection.send(piece)
        memory, disk = max(memory, context.memory.taken), max(disk, context.upload_disk.taken)
    if framing == b"chunked":
        answer = connection.send(b"0\r\n\r\n")
        disk = max(disk, context.upload_disk.taken)
    digest = hashlib.sha256(body).hexdigest().encode()
    assert answer.endswith(digest + digest + str(len(body)).encode()), answer
    assert context.memory.taken == context.upload_disk.taken == 0, "it has all been given back"
    return memory, disk


@pytest.mark.parametrize("framing", [b"Content-Length", b"chunked"])
def test_a_long_request_is_in_memory_while_there_is_room(framing):
    """Reading it from the disk took the third part of the time of a 1 MB upload."""
    memory, disk = upload(3 * MIB, framing)
    assert 3 * MIB - 70_000 <= memory <= 3 * MIB + 256 * 1024
    assert disk == 0


@pytest.mark.parametrize("framing", [b"Content-Length", b"chunked"])
@pytest.mark.parametrize("memory", [256 * 1024, 700_000, 2 * MIB])
def test_a_long_request_goes_to_the_disk_when_there_is_none(framing, memory):
    """Wherever in it the room ends, no byte is lost."""
    taken, disk = upload(3 * MIB, framing, memory=memory)
    assert taken <= memory
    assert disk > 0


def test_no_room_for_a_request_at_all():
    """A full memory, or a full disk, is our fault and not the client's: 503, and a line in the log."""
    for bounds in ({"memory": 1000}, {"memory": 300_000, "spool": 400_000}):
        connection = Connection(**bounds)
        with capture_logs() as logs:
            connection.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
            for _ in range(10):
                if connection.open:
                    connection.send(bytes(100_000))
        assert connection.transport.value().startswith(b"HTTP/1.1 503 ") or bounds
        assert [each["event"] for each in logs] == ["http.spool_failed"]
        assert connection.site.counts.refused == {503: 1}
        connection.lose()
        assert connection.site.context.memory.taken == connection.site.context.upload_disk.taken == 0


def test_a_client_that_leaves_in_its_upload_gives_the_room_back():
    connection = Connection()
    connection.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    assert connection.site.context.memory.taken > 0
    connection.lose()
    assert connection.site.context.memory.taken == 0


def test_the_disk_is_written_without_the_lock(space, monkeypatch):
    """While a write hangs, the reactor finds out what there is, and takes it, all the same."""
    kept = open_spool(space, None)
    kept.append(b"abc")
    hanging, go = threading.Event(), threading.Event()
    write = spool.os.pwrite

    def hang(*arguments):
        hanging.set()
        go.wait(10)
        return write(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(spool.os, "pwrite", hang)
        thread = threading.Thread(target=kept.append, args=(b"def",))
        thread.start()
        assert hanging.wait(10)
        assert kept.take(10) == b"abc"
        assert not kept.close_if_empty(), "more is on its way"
        kept.close()
        assert space.taken > 0, "the thread is at it"
        go.set()
        thread.join(10)
    assert space.taken == 0


def test_bytes_come_back_in_order(space):
    kept = open_spool(space, None)
    assert kept.append(b"abc")
    assert kept.append(b"def")
    assert kept.take(4) == b"abcd"
    assert kept.take(4) == b"ef"
    assert kept.take(4) == b""
    kept.close()
    kept.close()
    assert space.taken == 0


def test_all_or_nothing_within_the_space_of_all(space):
    first, second = open_spool(space, None), open_spool(space, None)
    assert first.append(b"12345678")
    assert not second.append(b"123")
    assert second.append(b"12")
    assert open_spool(space, None) is None
    first.close()
    assert second.append(b"345")
    second.close()
    assert not second.append(b"6")


def test_a_disk_that_refuses_keeps_what_was_there(space, monkeypatch):
    """What is written of a piece that fails is not part of the response."""
    kept = open_spool(space, None)
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
    kept = open_spool(space, None)
    kept.append(b"abc")
    assert list(tmp_path.iterdir()) == []
    kept.close()
