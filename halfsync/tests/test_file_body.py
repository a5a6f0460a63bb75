"""Files that the kernel sends (`sendfile(2)`): which, to whom, and what becomes of them on the way."""

from __future__ import annotations

import gzip
import io
import os
import re
import ssl
import sys
import threading
from hashlib import sha256
from types import SimpleNamespace

import httpx
import pytest
from structlog.testing import capture_logs
from twisted.internet.defer import Deferred

from certificates import make_certificate, write
from children import running
from halfsync import Gateway, Mount, StaticFiles
from halfsync.endpoints import send_queue
from halfsync.endpoints.send_queue import FilePiece, SendQueue
from halfsync.http.account import Account
from halfsync.http.disk import Disk
from halfsync.http.wsgi import file_body
from halfsync.http.wsgi.file_body import WINDOW, FileSender, open_file
from halfsync.http.wsgi.file_part import FilePart
from http_tools import PATIENCE, ServerCase, hello, until

SIZE = 12_000_000
"""More than the kernel keeps for a client that takes nothing."""

CONTENT = sha256(b"seed").digest() * (SIZE // 32)


def get(path: str = "/", *more: str, version: str = "1.1", method: str = "GET") -> bytes:
    """Return a request."""
    return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: a", *more, "", ""]).encode()


class Sent:
    """Counts what `os.sendfile` sends."""

    def __init__(self, monkeypatch) -> None:
        self.bytes = 0
        self._real = os.sendfile
        monkeypatch.setattr(send_queue, "os", SimpleNamespace(sendfile=self))

    def __call__(self, *arguments):
        sent = self._real(*arguments)
        self.bytes += sent
        return sent


class Files(ServerCase):
    """Over real sockets, by threads."""

    @pytest.fixture(autouse=True)
    def _fixtures(self, monkeypatch, tmp_path):
        self.monkeypatch = monkeypatch
        self.folder = tmp_path
        self.path = tmp_path / "large.bin"
        self.path.write_bytes(CONTENT)
        self.sent = Sent(monkeypatch)

    def wrapped(self, environ, start_response):
        """Answer with the file, as Werkzeug does."""
        start_response("200 OK", [("Content-Length", str(SIZE))])
        return environ["wsgi.file_wrapper"](self.path.open("rb"))

    def serve_files(self, app=None, **more):
        """Serve them beside an application that answers 5 bytes."""
        self.serve(**more)
        handlers = {"/": app or self.wrapped, "/static": StaticFiles(self.folder), "/hello": hello}
        self.site.context.handler = Mount({at: Gateway(each, self.pool) for at, each in handlers.items()})

    async def body(self, client, size: int = SIZE) -> bytes:
        """Return the body of the one response that comes."""
        await client.until(lambda: b"\r\n\r\n" in client.received or client.lost)
        head = client.received.index(b"\r\n\r\n") + 4
        await client.until(lambda: client.size >= head + size or client.lost)
        return client.received[head:]

    async def slow(self, path: str = "/"):
        """Return a client that has asked and takes nothing."""
        client = await self.connect()
        client.transport.pauseProducing()
        client.transport.write(get(path))
        await until(lambda: self.site.context.disk.files)
        await until(self.is_blocked)
        return client

    def is_blocked(self) -> bool:
        return any(each.outgoing.blocked for each in self.site.context.connections if each.stream)

    async def test_the_kernel_sends_them(self):
        """Every byte of them; the connection goes on, and nothing stays open."""
        self.serve_files()
        for path in ("/", "/static/large.bin", "/"):
            before = self.sent.bytes
            client = await self.connect(get(path))
            assert await self.body(client) == CONTENT
            assert self.sent.bytes - before == SIZE
            client.received = b""
            client.transport.write(get("/hello"))
            assert (await client.bytes(b"hello")).endswith(b"\r\n\r\nhello")
        assert self.site.context.disk.files == 0

    async def test_several_on_a_connection_keep_their_order(self):
        """What was asked behind a file is answered behind it, be it another part of the file."""
        self.serve_files()
        part = "Range: bytes=1000000-1499999"
        asked = [get(), get("/hello"), get("/static/large.bin", part), get("/hello", "Connection: close")]
        client = await self.connect(b"".join(asked))
        received = await client.closed()
        bodies = re.split(rb"HTTP/1\.1 20[06] [^\r]*\r\n(?:[^\r]+\r\n)+\r\n", received)
        assert bodies == [b"", CONTENT, b"hello", CONTENT[1_000_000:1_500_000], b"hello"]
        assert self.sent.bytes == SIZE + 500_000

    async def test_a_client_of_http10(self):
        """The end of the connection is that of the file, or its length is."""
        self.serve_files()
        client = await self.connect(get(version="1.0"))
        assert (await client.closed()).endswith(CONTENT)
        assert self.sent.bytes == SIZE

    async def test_head_sends_none(self):
        """Only what would come before it."""
        self.serve_files()
        client = await self.connect(
            get(method="HEAD") + get("/static/large.bin", "Connection: close", method="HEAD")
        )
        assert (await client.closed()).count(f"Content-Length: {SIZE}".encode()) == 2
        assert (self.sent.bytes, self.site.context.disk.files) == (0, 0)

    async def test_a_slow_client_costs_neither_memory_nor_a_thread(self):
        """One thread answers others while it takes nothing, and what it has not taken is counted nowhere."""
        self.serve_files(threads=1)
        client = await self.slow()
        context = self.site.context
        assert context.disk.taken == 0
        assert context.memory.taken < 64 * 1024
        other = await self.connect(get("/hello"))
        await other.bytes(b"\r\n\r\nhello")
        client.transport.resumeProducing()
        assert await self.body(client) == CONTENT
        await until(lambda: context.disk.files == 0)

    async def test_a_client_that_leaves(self):
        """The file is closed at once."""
        self.serve_files()
        client = await self.slow()
        client.transport.abortConnection()
        await until(lambda: self.site.context.disk.files == 0)

    async def test_a_client_that_takes_nothing_is_cut(self):
        """As with other bodies: it has to take what waits at the least rate."""
        self.serve_files(write_timeout=0.3)
        client = await self.connect()
        client.transport.pauseProducing()
        client.transport.write(get())
        await until(lambda: self.site.counts.aborted)
        assert self.site.context.disk.files == 0
        client.transport.resumeProducing()
        assert len((await client.closed()).partition(b"\r\n\r\n")[2]) < SIZE

    async def test_a_file_that_becomes_shorter(self):
        """The connection ends, so that nobody takes a part for the whole; nothing is made up."""
        self.serve_files()
        client = await self.slow()
        os.truncate(self.path, SIZE // 2)
        client.transport.resumeProducing()
        part = (await client.closed()).partition(b"\r\n\r\n")[2]
        # What was in the kernel by then may be of either.
        assert len(part) < SIZE
        await until(lambda: self.site.context.disk.files == 0)
        other = await self.connect(get("/hello"))
        await other.bytes(b"\r\n\r\nhello")

    async def test_a_file_that_is_shorter_when_a_thread_looks(self):
        """It says so in the log, with how much was sent."""
        self.monkeypatch.setattr(file_body, "_at_hand", lambda file, size: not file.offset)
        self.serve_files()
        real = file_body._fetch

        def fetch(file, size):
            os.truncate(self.path, file.offset)
            real(file, size)

        self.monkeypatch.setattr(file_body, "_fetch", fetch)
        with capture_logs() as logs:
            client = await self.connect(get())
            part = (await client.closed()).partition(b"\r\n\r\n")[2]
        # The end is a reset, which may overtake what was sent.
        assert CONTENT[: file_body.WINDOW].startswith(part)
        (event,) = [each for each in logs if each["event"] == "wsgi.file_failed"]
        assert (event["declared"], event["sent"], event["request"]) == (SIZE, file_body.WINDOW, "GET /")
        assert self.site.context.disk.files == 0

    async def test_what_the_disk_has_to_fetch_is_fetched_in_a_thread(self):
        """The reactor goes on, though the disk may hang; then the file goes on, whole."""
        hangs, began = threading.Event(), Deferred()
        self.monkeypatch.setattr(file_body, "_at_hand", lambda file, size: False)
        self.serve_files()
        real, names = file_body._fetch, set()

        def fetch(file, size):
            names.add(threading.current_thread().name)
            if file.offset:
                self.pool._reactor.callFromThread(lambda: began.called or began.callback(None))
                hangs.wait(PATIENCE)
            real(file, size)

        self.monkeypatch.setattr(file_body, "_fetch", fetch)
        client = await self.connect(get())
        await began
        other = await self.connect(get("/hello"))
        await other.bytes(b"\r\n\r\nhello")
        hangs.set()
        assert await self.body(client) == CONTENT
        assert names == {"files"}
        assert self.site.context.disk.files == 0

    async def test_a_client_that_leaves_while_the_disk_hangs(self):
        """The file stays open as long as the thread is at it, and no longer."""
        hangs, began = threading.Event(), Deferred()
        self.monkeypatch.setattr(file_body, "_at_hand", lambda file, size: False)

        def fetch(file, size):
            self.pool._reactor.callFromThread(began.callback, None)
            hangs.wait(PATIENCE)
            os.fstat(file.fileno())

        self.monkeypatch.setattr(file_body, "_fetch", fetch)
        self.serve_files()
        client = await self.connect(get())
        await began
        client.transport.abortConnection()
        await until(lambda: not self.site.connections)
        assert self.site.context.disk.files == 1
        hangs.set()
        await until(lambda: self.site.context.disk.files == 0)

    async def test_a_disk_that_fails(self):
        """The response is broken off, and the log says why."""

        def fetch(file, size):
            raise OSError(5, "Input/output error")

        self.monkeypatch.setattr(file_body, "_at_hand", lambda file, size: not file.offset)
        self.monkeypatch.setattr(file_body, "_fetch", fetch)
        self.serve_files()
        with capture_logs() as logs:
            client = await self.connect(get())
            assert len((await client.closed()).partition(b"\r\n\r\n")[2]) < SIZE
        (event,) = [each for each in logs if each["event"] == "wsgi.file_failed"]
        assert "Input/output error" in event["problem"]
        assert self.site.context.disk.files == 0

    async def test_without_a_place_for_one_more_file_it_is_read(self):
        """Files that are open at a time are bounded; the response is the same."""
        self.serve_files(most_files=1)
        slow = await self.slow()
        before = self.sent.bytes
        client = await self.connect(get("/static/large.bin"))
        assert await self.body(client) == CONTENT
        assert self.sent.bytes == before
        slow.transport.abortConnection()

    async def test_a_drain_waits_for_it(self):
        """As for any response; then the connection ends."""
        self.serve_files()
        client = await self.slow()
        draining = Deferred.fromCoroutine(self.site.drain())
        client.transport.resumeProducing()
        assert (await client.closed()).endswith(CONTENT)
        await draining

    async def test_small_ones_are_sent_with_their_head(self):
        """One piece costs less than two calls."""
        (self.folder / "small.txt").write_bytes(b"small")
        self.serve_files()
        client = await self.connect(get("/static/small.txt"))
        assert (await client.bytes(b"small")).endswith(b"\r\n\r\nsmall")
        assert self.sent.bytes == 0

    async def test_what_only_looks_like_a_file_is_read(self):
        """A packed file has the number of what it unpacks; a length that is wrong is found as always."""
        packed = self.folder / "packed.gz"
        packed.write_bytes(gzip.compress(CONTENT))

        def unpacked(environ, start_response):
            start_response("200 OK", [("Content-Length", str(SIZE))])
            return environ["wsgi.file_wrapper"](gzip.open(packed))

        self.serve_files(unpacked)
        client = await self.connect(get())
        assert await self.body(client) == CONTENT
        assert self.sent.bytes == 0

    async def test_a_client_sees_where_it_began(self):
        """A file that was read, or sought in, is sent from there."""

        def app(environ, start_response):
            file = self.path.open("rb")
            assert len(file.read(1000)) == 1000
            start_response("200 OK", [("Content-Length", str(SIZE - 1000))])
            return environ["wsgi.file_wrapper"](file)

        self.serve_files(app)
        client = await self.connect(get())
        assert await self.body(client, SIZE - 1000) == CONTENT[1000:]
        assert self.sent.bytes == SIZE - 1000


class Windows:
    """A stream that notes what it is given; its disk is always at hand, by calls that are made at once."""

    def __init__(self) -> None:
        self.calls = []
        reactor = SimpleNamespace(callLater=lambda seconds, call: self.calls.append(call))
        self.context = SimpleNamespace(reactor=reactor, file_thread=Disk(reactor))
        self.sizes = []
        self.begun = self.finished = False

    def begin(self, head):
        self.begun = True

    def write_file(self, piece):
        self.sizes.append(len(piece))

    def finish(self):
        self.finished = True

    def turn(self):
        """Make the one call that waits for the next turn."""
        (call,) = self.calls
        self.calls.clear()
        call()


@pytest.mark.parametrize("at_hand", [True, False])
def test_others_have_their_turn_between_two_windows(tmp_path, monkeypatch, at_hand):
    """One window a turn of the reactor, wherever it comes from; none while the client does not take it."""
    monkeypatch.setattr(file_body, "_at_hand", lambda file, size: at_hand)
    path, size = tmp_path / "file", 3 * WINDOW + 10
    path.write_bytes(bytes(size))
    stream, account = Windows(), Account(0)
    with path.open("rb") as file:
        sender = FileSender(stream, None, open_file(file, size, account))
    assert (stream.begun, stream.sizes) == (True, [WINDOW])
    sender.resume()
    assert stream.sizes == [WINDOW]
    stream.turn()
    assert stream.sizes == [WINDOW] * 2
    sender.pause()
    stream.turn()
    assert stream.sizes == [WINDOW] * 2
    sender.resume()
    assert stream.sizes == [WINDOW] * 3
    stream.turn()
    assert (stream.sizes, stream.finished) == ([*[WINDOW] * 3, 10], True)
    assert not stream.calls
    # What is sent last closes it; here nobody sends.
    sender.gone()
    assert account.files == 0


PROGRAM = """
import sys
from halfsync import About, StaticFiles, serve_wsgi
sys.exit(serve_wsgi(StaticFiles(sys.argv.pop(1)), About("files"), argv=sys.argv[1:]))
"""


@pytest.mark.parametrize("kind", ["tcp", "ssl", "unix"])
def test_they_are_the_same_over_any_wire(tmp_path, kind):
    """Sent by the kernel, or read by a thread, for TLS and HTTP/2."""
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "large.bin").write_bytes(CONTENT)
    program = tmp_path / "files.py"
    program.write_text(PROGRAM)
    pem = write(tmp_path / "server.pem", *make_certificate("localhost"))
    listen = {
        "tcp": "tcp:0:interface=127.0.0.1",
        "ssl": f"ssl:0:privateKey={pem}:interface=127.0.0.1",
        "unix": f"unix:{tmp_path}/socket",
    }[kind]
    command = [sys.executable, str(program), str(folder), "--log.format=json", "--admin.listen="]
    with running([*command, f"--web.listen={listen}"]) as service:
        address = service.wait_for("web.listening")["address"]
        service.wait_for("service.started")
        at = re.search(r":([0-9]+)\b(?!\.)", address)
        url = f"{'https' if kind == 'ssl' else 'http'}://127.0.0.1:{at[1] if at else 80}/large.bin"
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        uds = f"{tmp_path}/socket" if kind == "unix" else None
        for http2 in (False, True) if kind == "ssl" else (False,):
            transport = httpx.HTTPTransport(verify=context, http2=http2, uds=uds)
            with httpx.Client(transport=transport, timeout=PATIENCE) as client:
                for headers, status, content in (
                    ({}, 200, CONTENT),
                    ({"Range": "bytes=-2000000"}, 206, CONTENT[-2_000_000:]),
                    ({"Range": "bytes=5-1000004"}, 206, CONTENT[5:1_000_005]),
                ):
                    response = client.get(url, headers=headers)
                    assert (response.status_code, response.content == content) == (status, True)
                assert response.http_version == ("HTTP/2" if http2 else "HTTP/1.1")


def test_which_files_the_kernel_can_send(tmp_path):
    """Plain ones of which just as much is left as was declared, and parts of them."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    account = Account(100, most_files=2)

    def opened(file, length=10):
        found = open_file(file, length, account)
        if found is None:
            return None
        at = (found.offset, found.left)
        found.close()
        found.close()
        return at

    with path.open("rb") as file:
        assert opened(file) == (0, 10)
        assert opened(file, 9) is None
        assert opened(file, 11) is None
        file.seek(4)
        assert opened(file, 6) == (4, 6)
        assert opened(FilePart(file, 3), 3) == (4, 3)
        assert opened(FilePart(file, 7), 7) is None
        assert opened(FilePart(file, 3), 4) is None
    assert opened(file) is None
    with path.open("rb", buffering=0) as file:
        assert opened(file) == (0, 10)
    with path.open("r+b") as file, path.open() as text:
        assert opened(file) is None
        assert opened(text) is None
    for other in (io.BytesIO(b"0123456789"), object(), None, gzip.GzipFile(path)):
        assert opened(other) is None
    read, written = os.pipe()
    with os.fdopen(read, "rb") as pipe:
        os.close(written)
        assert opened(pipe, 0) is None
    assert account.files == 0
    account.most_files = 0
    with path.open("rb") as file:
        assert opened(file) is None


class Closable:
    """A file of a queue."""

    closed = False

    def fileno(self):
        return -1

    def close(self):
        self.closed = True


def test_a_queue_keeps_bytes_and_windows_in_order():
    """Each turn has pieces of memory or a window, never both, and only memory counts as such."""
    queue, file = SendQueue(), Closable()
    for piece in (b"abc", memoryview(b"def"), FilePiece(file, 7, 5, last=True), b"gh"):
        queue.add(piece)
    assert (queue.size, queue.in_files, queue.file) == (13, 5, None)
    assert list(map(bytes, queue.turn())) == [b"abc", b"def"]
    queue.drop(4)
    assert list(map(bytes, queue.turn())) == [b"ef"]
    queue.drop(2)
    window = queue.file
    assert (window.offset, len(window)) == (7, 5)
    queue.drop(3)
    assert (window.offset, len(window), queue.in_files, queue.size, file.closed) == (10, 2, 2, 4, False)
    queue.drop(2)
    assert (queue.file, queue.in_files, file.closed) == (None, 0, True)
    assert queue.turn() == [b"gh"]
    queue.drop(2)
    assert queue.size == 0


def test_a_queue_that_is_given_up_closes_its_files():
    """Though only a window of one is in it that is not the last."""
    queue, file = SendQueue(), Closable()
    queue.add(b"a")
    queue.add(FilePiece(file, 0, 5, last=False))
    queue.close()
    assert file.closed
