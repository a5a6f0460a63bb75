"""What the tests of HTTP/2 share: a client in memory that sends any frame, be it allowed or not."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from h2.frame_buffer import FrameBuffer
from hpack import Decoder, Encoder
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, RstStreamFrame, SettingsFrame
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from halfsync.http.bounds import Bounds
from halfsync.http.site import Site
from halfsync.http.wsgi.gateway import Gateway
from http_tools import Inline, hello

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

GET = [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "localhost")]
POST = [(":method", "POST"), *GET[1:]]


class Transport(StringTransport):
    """A connection that has agreed on HTTP/2."""

    negotiatedProtocol = b"h2"
    protocol: Any = None


@dataclass
class Response:
    """What has come of a stream."""

    status: int = 0
    interim: list[int] = field(default_factory=list)
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    frames: int = 0
    """Frames of data."""
    ended: bool = False
    reset: int | None = None


class Client:
    """A connection in memory to a site whose time is a Clock."""

    def __init__(
        self,
        app: Any = hello,
        *,
        resource: Any = None,
        access_log: bool = False,
        greet: bool = True,
        site: Site | None = None,
        clock: Clock | None = None,
        **bounds: Any,
    ):
        self.clock = clock or Clock()
        self.site = site or Site(
            resource or Gateway(app, Inline()),
            bounds=Bounds(**bounds),
            access_log=access_log,
            reactor=self.clock,
        )
        self.transport = Transport(lenient=True)
        channel = self.site.buildProtocol(None)
        channel.makeConnection(self.transport)
        channel.handshakeCompleted()
        self.server = self.transport.protocol
        self.encoder = Encoder()
        self.frames: list[Frame] = []
        self.streams: dict[int, Response] = defaultdict(Response)
        self._decoder = Decoder()
        self._buffer = FrameBuffer(server=False)
        self._buffer.max_frame_size = 2**14
        self._next = 1
        if greet:
            self.send_bytes(PREFACE)
            self.send(SettingsFrame(0))

    def send(self, *frames: Frame) -> list[Frame]:
        """Send frames; return those that came back."""
        return self.send_bytes(b"".join(frame.serialize() for frame in frames))

    def send_bytes(self, data: bytes) -> list[Frame]:
        """Send bytes; return the frames that came back for them."""
        self.server.dataReceived(data)
        return self.receive()

    def receive(self) -> list[Frame]:
        """Have the server do what is due; return the frames that came."""
        self.clock.advance(0)
        self._buffer.add_data(self.transport.value())
        self.transport.clear()
        frames = list(self._buffer)
        self.frames += frames
        for frame in frames:
            self._take(frame)
        return frames

    def advance(self, seconds: float, step: float = 1) -> None:
        """Let time pass."""
        self.clock.pump([step] * round(seconds / step))
        self.receive()

    def head(self, headers: Any = GET, *, end: bool = True, number: int | None = None) -> HeadersFrame:
        """Make the frame that opens the next stream."""
        if number is None:
            number, self._next = self._next, self._next + 2
        frame = HeadersFrame(number, self.encoder.encode(headers))
        frame.flags.add("END_HEADERS")
        if end:
            frame.flags.add("END_STREAM")
        return frame

    def request(self, headers: Any = GET, body: bytes | None = None, *, end: bool = True) -> Response:
        """Send a request; return what has come of it, which may grow."""
        head = self.head(headers, end=end and body is None)
        self.send(head)
        if body is not None:
            self.send(data(head.stream_id, body, end=end))
        return self.streams[head.stream_id]

    def lose(self) -> None:
        """Close the connection from the client's side."""
        self.server.connectionLost(Failure(ConnectionDone()))

    @property
    def open(self) -> bool:
        """Whether the server still wants the connection."""
        return not self.transport.disconnecting and not self.transport.disconnected

    @property
    def goaways(self) -> list[tuple[int, int]]:
        """Every GOAWAY: the last stream and the code."""
        return [
            (each.last_stream_id, each.error_code) for each in self.frames if isinstance(each, GoAwayFrame)
        ]

    def _take(self, frame: Frame) -> None:
        stream = self.streams[frame.stream_id]
        if isinstance(frame, HeadersFrame):
            headers = self._decoder.decode(frame.data)
            status = int(dict(headers).get(":status", "0"))
            if not status:
                assert stream.status
                assert "END_STREAM" in frame.flags
                stream.trailers = list(map(tuple, headers))
            elif status < 200:
                stream.interim.append(status)
            else:
                assert not stream.status
                stream.status, stream.headers = status, list(map(tuple, headers[1:]))
        elif isinstance(frame, DataFrame):
            stream.body += frame.data
            stream.frames += 1
        elif isinstance(frame, RstStreamFrame):
            stream.reset = frame.error_code
        assert not (stream.ended and isinstance(frame, (HeadersFrame, DataFrame)))
        stream.ended |= "END_STREAM" in frame.flags


def data(number: int, body: bytes, *, end: bool = True) -> DataFrame:
    """Make a frame of data."""
    frame = DataFrame(number, body)
    if end:
        frame.flags.add("END_STREAM")
    return frame
