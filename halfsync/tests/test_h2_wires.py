"""HTTP/2 over TLS sockets, with clients that no one here wrote."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import httpx
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamReset
from h2.frame_buffer import FrameBuffer
from hpack import Encoder
from hyperframe.frame import GoAwayFrame, HeadersFrame, SettingsFrame
from klein import Klein
from structlog.testing import capture_logs
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from certificates import make_certificate, write
from h2_tools import POST, PREFACE
from halfsync.endpoints import parse
from halfsync.endpoints.tls_transport import A_BUFFER, A_SESSION
from halfsync.life.sockets import Sockets
from http_tools import ServerCase, hello, resident, until

CHUNK = b"x" * 65536
POST_HEAD = HeadersFrame(1, Encoder().encode(POST), flags=["END_HEADERS"]).serialize()
"""Of a request whose body is still to come."""

PIECES = 1600
"""Of these, 100 MB."""


def run(*command: str) -> str:
    """Run a client; return what it printed."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"there is no {command[0]}. Debian, Ubuntu: apt install {PACKAGES[command[0]]}")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, (command, done)
    return done.stdout


PACKAGES = {"curl": "curl", "nghttp": "nghttp2-client", "h2load": "nghttp2-client"}


class Reader:
    """A blocking client that asks once and takes what it likes; for a thread."""

    def __init__(self, port: int, path: str, window: int):
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        raw = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.socket = context.wrap_socket(raw)
        assert self.socket.selected_alpn_protocol() == "h2"
        self.h2 = H2Connection(H2Configuration())
        self.h2.initiate_connection()
        headers = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", path)]
        self.h2.send_headers(1, headers, end_stream=True)
        if window > 65535:
            self.h2.increment_flow_control_window(window - 65535)
            self.h2.increment_flow_control_window(window - 65535, 1)
        self.socket.sendall(self.h2.data_to_send())

    def reset(self) -> int:
        """Read, opening no window, until the stream is reset; return the code."""
        while True:
            for event in self.h2.receive_data(self.socket.recv(65536)):
                if isinstance(event, StreamReset):
                    return event.error_code


class H2Test(ServerCase):
    """Whole ways."""

    timeout = 60

    def serve_tls(self, app=hello, *, kind="ssl", **options):
        """Serve on a port as `--web.listen` would."""
        self.serve(app, **options)
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        pem = write(folder / "localhost.pem", *make_certificate("localhost"))
        texts = {
            "ssl": f"ssl:0:privateKey={pem}:certKey={pem}:interface=127.0.0.1",
            "tls": f"tls:{folder}:0:interface=127.0.0.1",
        }
        bound = parse(texts[kind]).listen(self.site, reactor, Sockets())
        self.addCleanup(lambda: Deferred.fromCoroutine(bound.close()))
        self.tls_port = int(re.search(r":(\d+) ", bound.address)[1])
        self.url = f"https://localhost:{self.tls_port}"

    async def test_curl(self):
        """It agrees on HTTP/2 by ALPN; HTTP/1.1 is there to be asked for."""
        await self.ask_both("ssl")

    async def test_curl_and_a_folder(self):
        """With certificates that are chosen by the name of the server, too."""
        await self.ask_both("tls")

    async def ask_both(self, kind):
        """Ask in both versions."""
        self.serve_tls(kind=kind)
        for option, version in (("--http2", "2"), ("--http1.1", "1.1")):
            out = await deferToThread(run, "curl", "-sk", option, "-w", " %{http_version}", self.url)
            assert out == f"hello {version}"

    async def test_curl_and_what_is_refused(self):
        """A client that is still sending gets the answer."""
        self.serve_tls(max_body=1000)
        command = [
            "curl",
            "-sk",
            "--http2",
            "-w",
            " %{http_code}",
            "--data-binary",
            f"@{self.large()}",
            self.url,
        ]
        assert await deferToThread(run, *command) == "Request Entity Too Large\n 413"

    async def test_httpx(self):
        """Another client, that keeps its connection: uploads, failures, and then the next request."""
        begun = threading.Event()

        def app(environ, start_response):
            if environ["PATH_INFO"] == "/fail":
                start_response("200 OK", [])
                return failing()
            body = environ["wsgi.input"].read()
            start_response("200 OK", [("X-Protocol", environ["SERVER_PROTOCOL"])])
            return [b"%d" % len(body)]

        def failing():
            yield b"begun"
            begun.set()
            raise RuntimeError("mid")

        def talk():
            with httpx.Client(http2=True, verify=False, base_url=self.url) as client:
                for size in (0, 1, 100_000, 3_000_000):
                    reply = client.post("/", content=b"x" * size)
                    assert (reply.http_version, reply.text) == ("HTTP/2", str(size))
                    assert reply.headers["x-protocol"] == "HTTP/2"
                with pytest.raises(httpx.RemoteProtocolError):
                    client.get("/fail")
                assert client.post("/", content=b"x" * 9_000_000).status_code == 413
                assert client.get("/").text == "0"

        self.serve_tls(app, max_body=5_000_000)
        await deferToThread(talk)
        assert begun.is_set()
        assert self.site.context.connections.accepted == 1

    async def test_klein(self):
        """The async variant, too."""
        app = Klein()

        @app.route("/<name>")
        async def greet(_request, name):
            return f"hello {name}"

        self.serve_tls(resource=app.resource())
        out = await deferToThread(run, "curl", "-sk", "--http2", f"{self.url}/you", "-w", " %{http_version}")
        assert out == "hello you 2"
        out = await deferToThread(run, "nghttp", "-nsm", "20", f"{self.url}/you")
        assert out.count(" 200 ") == 20
        out = await deferToThread(run, "h2load", "-n", "500", "-c", "4", "-m", "20", f"{self.url}/you")
        assert "500 succeeded, 0 failed, 0 errored" in out

    async def test_prior_knowledge(self):
        """Without TLS, a client that knows already may speak HTTP/2."""
        self.serve(queue=1000)
        url = f"http://127.0.0.1:{self.port.getHost().port}/"
        out = await deferToThread(run, "curl", "-s", "--http2-prior-knowledge", "-w", " %{http_version}", url)
        assert out == "hello 2"
        out = await deferToThread(run, "h2load", "-n", "1000", "-c", "4", "-m", "50", url)
        assert "1000 succeeded, 0 failed, 0 errored" in out

    async def test_nghttp(self):
        """It asks for many at once."""
        self.serve_tls(queue=100)
        out = await deferToThread(run, "nghttp", "-nsm", "20", self.url)
        assert out.count(" 200 ") == 20

    async def test_h2load(self):
        """Each of some thousand requests is answered, 50 at a time on each connection."""
        self.serve_tls(queue=1000)
        out = await deferToThread(run, "h2load", "-n", "2000", "-c", "4", "-m", "50", self.url)
        assert "2000 succeeded, 0 failed, 0 errored" in out
        assert self.site.counts.requests == {("GET", 200): 2000}

    async def test_a_shut_window_costs_little(self):
        """100 MB for a client that opens no window: under 2 MB; the stream is reset and its thread free."""
        reader = await self.leave_unread(65535)
        assert await deferToThread(reader.reset) == 8
        reader.socket.close()

    async def test_an_unread_socket_costs_little(self):
        """The same for one that opens every window and takes nothing; here the connection is cut."""
        reader = await self.leave_unread(2**31 - 1)
        reader.socket.close()

    async def leave_unread(self, window):
        """Ask for 100 MB, do not read it, and see what that costs."""
        made, closed = [0], threading.Event()

        def app(environ, start_response):
            return (
                hello(environ, start_response) if environ["PATH_INFO"] == "/small" else large(start_response)
            )

        def large(start_response):
            start_response("200 OK", [])
            try:
                for _ in range(PIECES):
                    made[0] += 1
                    yield CHUNK
            finally:
                closed.set()

        self.serve_tls(app, write_timeout=2, spool=0)
        # What the first connection of a process costs is no part of this.
        for _ in range(2):
            first = await deferToThread(Reader, self.tls_port, "/small", window)
            await deferToThread(first.socket.recv, 65536)
            first.socket.close()
        before = resident()
        reader = await deferToThread(Reader, self.tls_port, "/", window)
        after = await deferToThread(self.settled, made)
        assert 0 < made[0] < PIECES
        assert after - before < 2 * 1024 * 1024, (after - before, made)
        assert await deferToThread(closed.wait, 20)
        return reader

    async def test_a_large_response_arrives(self):
        """All of 100 MB comes to a client that reads."""
        self.serve_tls(lambda e, s: (s("200 OK", []), (CHUNK for _ in range(PIECES)))[1])
        command = ["curl", "-sk", "--http2", "-o", "/dev/null", "-w", "%{size_download}", self.url]
        assert await deferToThread(run, *command) == str(PIECES * len(CHUNK))

    async def test_turned_away(self):
        """A client for which there is no place hears GOAWAY, then the end of TLS; HTTP/1.1 is not spoken."""
        self.serve_tls(max_connections=1, max_connections_per_client=9)
        first = await deferToThread(self.open_h2)
        try:
            # One that has asked, so that it is not idle.
            first.sendall(PREFACE + SettingsFrame(0).serialize() + POST_HEAD)
            while not any(each.asked for each in self.site.context.connections):
                await deferToThread(int)
            data = await deferToThread(self.read_turned_away)
        finally:
            first.close()
        buffer = FrameBuffer(server=False)
        buffer.max_frame_size = 2**14
        buffer.add_data(data)
        frames = list(buffer)
        assert [type(each) for each in frames[::2]] == [SettingsFrame, GoAwayFrame]
        assert frames[-1].last_stream_id == 0

    async def test_what_tls_holds_counts(self):
        """Its session, and the buffer of a record that comes in part; when there is no room, it is cut."""
        self.serve_tls()
        memory, connections = self.site.context.memory, self.site.context.connections
        client = await deferToThread(self.open_h2)
        self.addCleanup(client.close)
        await until(lambda: len(connections))
        (connection,) = connections
        assert memory.held_by(connection) >= A_SESSION
        assert memory.held_by(connection) < A_SESSION + A_BUFFER
        # The head of a record of 16 KiB, and some of it.
        socket.socket.sendall(client, b"\x17\x03\x03\x40\x00" + bytes(5000))
        await until(lambda: memory.held_by(connection) >= A_SESSION + A_BUFFER)
        assert memory.largest(1)[0][0] is connection
        memory.limit = A_SESSION
        with capture_logs() as logs:
            await until(lambda: not len(connections))
        assert "http.holder_cut" in [each["event"] for each in logs]
        assert (memory.taken, memory.holders()) == (0, {})

    def open_h2(self):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        return context.wrap_socket(socket.create_connection(("127.0.0.1", self.tls_port)))

    def read_turned_away(self):
        with self.open_h2() as client:
            # What it sends at once, as clients do, is dropped; it must not take the answer away.
            client.sendall(PREFACE + SettingsFrame(0).serialize() + POST_HEAD)
            data = b""
            while piece := client.recv(65536):
                data += piece
            return data

    async def test_drain(self):
        """Requests in flight are answered to their end, and the drain ends with their connections."""
        go = threading.Event()
        self.addCleanup(go.set)

        def app(environ, start_response):
            go.wait(10)
            return hello(environ, start_response)

        self.serve_tls(app, queue=10)
        curl = ("curl", "-sk", "--http2", self.url)
        answers = [deferToThread(run, *curl) for _ in range(2)]
        await self.in_flight(2)
        drained = Deferred.fromCoroutine(self.site.drain())
        # Accepted before the listener heard of the drain.
        answers.append(deferToThread(run, *curl))
        await self.in_flight(3)
        assert not drained.called
        go.set()
        for answer in answers:
            assert await answer == "hello"
        await drained

    async def in_flight(self, count):
        """Return when there are so many requests."""
        await until(lambda: len(self.site.in_flight()) >= count)

    def large(self) -> str:
        """Make a file of 10 MB."""
        with tempfile.NamedTemporaryFile(delete=False) as file:
            file.write(bytes(10_000_000))
        self.addCleanup(Path(file.name).unlink)
        return file.name

    @staticmethod
    def settled(made: list[int]) -> int:
        """Return how much memory is held once nothing more is made."""
        last, since = made[0], time.monotonic()
        while not last or time.monotonic() - since < 0.5:
            time.sleep(0.05)
            if made[0] != last:
                last, since = made[0], time.monotonic()
        return resident()
