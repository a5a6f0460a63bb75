"""One request of an HTTP/2 connection, and its response: what a connection of HTTP/1.1 is to `Request`."""

from __future__ import annotations

from http import HTTPStatus
from io import BytesIO
from math import inf
from typing import TYPE_CHECKING

from halfsync.endpoints.addresses import address_text
from halfsync.http.access_log import Asked, printable
from halfsync.http.h2_frames import ErrorCode
from halfsync.http.h2_head import CONNECTION_SPECIFIC, H2Head, Malformed, NoAuthority
from halfsync.http.h2_streams import DATA_CREDIT
from halfsync.http.head import LONGEST_NAME
from halfsync.http.rate import LINGER, Pace
from halfsync.http.stream import RequestHead, Stream
from halfsync.http.upload import Upload
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from halfsync.http.account import Holder
    from halfsync.http.context import Context
    from halfsync.http.h2 import H2Connection
    from halfsync.http.stream import ResponseHead

log = get_logger(__name__)

BUFFER = 64 * 1024
"""Bytes that wait for the client before whoever makes them is paused."""

A_STREAM = 6 * 1024
"""Bytes of the objects of a request that is not answered, its head apart."""

HEAD_COPIES = 2
"""A head that waits for its body is in memory as it came, and as handlers get it."""

FRAME = 16 * 1024
"""Bytes of a body that a stream sends when it is its turn."""


NO_HEAD = RequestHead("", "", "HTTP/2", {}, {}, 0, list)
"""Of a stream whose head has not been read."""


class H2Stream(Stream):
    """One request and its response.

    Nothing is sent here before the connection gives the stream its turn: `send`.
    """

    context: Context

    def __init__(self, connection: H2Connection, number: int) -> None:
        context = connection.context
        now = context.seconds()
        Stream.__init__(
            self,
            context,
            NO_HEAD,
            connection.client,
            connection.local,
            connection.secure,
            now,
        )
        self.connection = connection
        self.number = number
        self.deadline = now + context.bounds.request_timeout
        self.closing = False
        """Nothing more of the request is read."""
        self.handled = False
        """Whether the request has arrived and is not answered."""
        self.queued = False
        """Whether it waits for its turn."""
        self._read: H2Head | None = None
        self._body: Upload | None = None
        self._received = 0
        self._arriving = Pace(context.bounds)
        """How the client sends the body."""
        self._aside: bytes | memoryview = b""
        """What has to wait until the disk has taken what came before it."""
        self._flushing = False
        self._unacknowledged = 0
        self._whole = False
        """Whether the request has arrived to its end."""
        self._lingering = False
        """Whether the response is sent to its end before that."""
        # The response.
        self._continue = False
        self._hints: list[list[tuple[bytes, bytes]]] = []
        """Interim responses ahead of the final one."""
        self._headers: list[tuple[bytes, bytes]] | None = None
        self._buffer = bytearray()
        self._rest = memoryview(b"")
        """What follows the buffer, of a body that was made in one piece."""
        self._ended = False
        self._reset: ErrorCode | None = None
        self._paused = False
        self._release: Callable[[], None] | None = None
        self._held = 0
        """Bytes of the memory that are accounted for: of a head without its body, of an answer untaken."""
        self._refused = False
        """Whether it came to nothing by the client's fault, who has paid for it and earns nothing back."""
        self._pace = Pace(context.bounds)
        """How the client takes what has found its window shut."""

    @property
    def holder(self) -> Holder:
        """The connection."""
        return self.connection

    # The connection calls these.

    def receive_head(self, headers: Iterable[tuple[bytes, bytes]], *, bodiless: bool) -> None:
        """Begin a request, or refuse it."""
        bounds = self.context.bounds
        try:
            head = self._read = H2Head.read(headers)
        except Malformed as reason:
            header = printable(reason.args[0].decode("latin-1"))
            log.info("http.malformed", peer=address_text(self.client), header=header)
            if isinstance(reason, NoAuthority):
                self.reject(400)
            else:
                self.reset(ErrorCode.PROTOCOL_ERROR, costly=True)
            return
        if len(head.target) > bounds.max_head:
            self.reject(414)
        elif (
            head.size > bounds.max_head
            or len(head.fields) > bounds.max_headers
            or head.longest_name > LONGEST_NAME
        ):
            self.reject(431)
        elif head.length is not None and head.length > bounds.max_body:
            self.reject(413)
        elif head.method == b"CONNECT":
            self.reject(501)
        elif not (self._room() and (bodiless or self._hold(HEAD_COPIES * head.size))):
            self.reset(ErrorCode.REFUSED_STREAM)
        else:
            self.head = head.request(0 if bodiless else head.length)
            if not bodiless and self.head.special.get("expect", "").lower() == "100-continue":
                self._continue = True
                self.connection.ready(self)

    def receive_data(self, data: bytes, cost: int) -> bool:
        """Take a piece of the body; say whether the client may send more instead of it.

        :param cost: what it takes of the window.
        """
        if self.closing or not data:
            return True
        if self._body is None:
            context = self.context
            self._body = Upload(context.segments, context.upload_disk, self.head.length, self.connection)
            self.deadline = self._arriving.wait(context.seconds())
        self._arriving.taken += len(data)
        self._received += len(data)
        if self._received > self.context.bounds.max_body:
            self.reject(413)
            return True
        if self.head.length is not None and self._received > self.head.length:
            self.reset(ErrorCode.PROTOCOL_ERROR, costly=True)
            return True
        if self._flushing:
            self._aside = b"".join((self._aside, data))
        else:
            self._add(memoryview(data))
        if self._flushing:
            self._unacknowledged += cost
        return not self._flushing

    def receive_end(self) -> None:
        """Have the request answered."""
        self._whole = True
        if self._lingering:
            self.connection.forget(self, answered=not self._refused)
        if self.closing or self._read is None:
            return
        if self._read.length is not None and self._read.length != self._received:
            self.reset(ErrorCode.PROTOCOL_ERROR, costly=True)
        elif self._body is not None and self._body.on_disk and not self._flushing:
            self._to_disk()
        elif not self._flushing:
            self._handle()

    def _add(self, data: memoryview) -> None:
        body = self._body
        try:
            rest = body.add(data) if body is not None else b""
        except OSError as error:
            log.warning("http.spool_failed", problem=str(error))
            self.reject(503)
            return
        if rest:
            self._aside = rest
            self._to_disk()

    def _to_disk(self) -> None:
        body = self._body
        if body is not None:
            self._flushing = True
            # The client is not to blame for how long that takes.
            self.deadline = inf
            self.context.disk_thread.make(body.to_disk, self._flushed)

    def hint(self, fields: Iterable[tuple[str, str]]) -> None:
        """Send 103 Early Hints."""
        if not self.code:
            told = [(name.lower().encode("ascii"), value.strip().encode("latin-1")) for name, value in fields]
            self._hints.append([(b":status", b"103"), *told])
            self.connection.ready(self)

    def _flushed(self, error: OSError | None) -> None:
        self._flushing = False
        if self.closing:
            self._drop_body()
        elif error is not None:
            log.warning("http.spool_failed", problem=str(error))
            self.reject(503)
        else:
            aside, self._aside = self._aside, b""
            self._arriving = Pace(self.context.bounds)
            self.deadline = self._arriving.wait(self.context.seconds())
            if aside:
                self._add(memoryview(aside))
            if self._whole and not (self._flushing or self.closing):
                if aside:
                    self._to_disk()
                else:
                    self._handle()
        if not self._flushing:
            count, self._unacknowledged = self._unacknowledged, 0
            self.connection.acknowledge(count, self.number)

    def _handle(self) -> None:
        self._continue = False
        self.deadline = inf
        # From here on the bound on requests in threads, and before them, is one on their heads, too.
        self._hold(0)
        body, self._body = self._body, None
        if body is not None and self.head.length is None:
            self.head.length = self._received
        self.handled = True
        self.context.handle(self, BytesIO() if body is None else body.whole())

    def _drop_body(self) -> None:
        if self._body is not None and not self._flushing:
            self._body.close()
            self._body = None

    def lose(self) -> None:
        """Tell whatever is at the request that there is no client."""
        self.closing = True
        self.deadline = inf
        self._buffer.clear()
        self._rest = memoryview(b"")
        self._drop_body()
        self._let_go()
        self._hold(0)
        responder, self.responder = self.responder, None
        if self.handled:
            self.handled = False
            self.context.answered(self, aborted=True)
            if responder is not None:
                responder.gone()

    def expire(self, now: float) -> None:
        """Do what the deadline is for."""
        if self._lingering:
            self._reset = ErrorCode.NO_ERROR
            self.deadline = inf
            self.connection.ready(self)
            return
        if not self._pace.waiting:
            judged = self._arriving.judge(now) if self._arriving.waiting else None
            if judged is None:
                self.reject(408)
            else:
                self.deadline = judged
            return
        deadline = self._pace.judge(now)
        if deadline is not None:
            self.deadline = deadline
        else:
            log.info("http.stalled", peer=address_text(self.client), unsent=len(self._buffer))
            self.reset(ErrorCode.CANCEL)

    def send(self) -> bool:
        """Send what the client will take, up to one frame of data; say whether another turn is wanted."""
        session = self.connection.session
        if self._reset is not None:
            self.connection.forget(self)
            session.reset_stream(self.number, self._reset)
            return False
        if self._continue:
            self._continue = False
            session.send_headers(self.number, [(b":status", b"100")])
        while self._hints:
            session.send_headers(self.number, self._hints.pop(0))
        if self._headers is not None:
            headers, self._headers = self._headers, None
            session.send_headers(self.number, headers, end_stream=self._ended and not self._buffer)
            if not self._ended or self._buffer:
                return bool(self._buffer)
        elif self._buffer:
            return self._send_data()
        elif self._ended:
            session.end_stream(self.number)
        if self._ended:
            self._close()
        return False

    def _send_data(self) -> bool:
        session, buffer = self.connection.session, self._buffer
        window = session.local_flow_control_window(self.number)
        if window <= 0:
            self.deadline = self._pace.wait(self.context.seconds())
            if self._release is None and not self._hold(len(buffer) + A_STREAM):
                log.info("http.stalled", peer=address_text(self.client), unsent=len(buffer))
                self.reset(ErrorCode.CANCEL)
            return False
        data = bytes(buffer[: min(window, session.max_outbound_frame_size, FRAME)])
        del buffer[: len(data)]
        if self._rest and len(buffer) < FRAME:
            buffer += self._rest[: BUFFER - FRAME]
            self._rest = self._rest[BUFFER - FRAME :]
        end = self._ended and not buffer
        session.send_data(self.number, data, end_stream=end)
        if not self._refused:
            session.earn(DATA_CREDIT)
        if self._pace.waiting:
            self._pace.taken += len(data)
            if not buffer:
                self._pace.go_on(self.context.seconds())
                self.deadline = inf
                self._hold(0)
        if end:
            self._close()
            return False
        if self._paused and len(buffer) < BUFFER:
            self._paused = False
            if self.responder is not None:
                self.responder.resume()
        return bool(buffer)

    @property
    def buffered(self) -> int:
        """Bytes that wait for the client or the disk, and for which no room was taken."""
        return len(self._buffer) + len(self._aside)

    def _room(self) -> bool:
        memory = self.context.memory
        return not memory.full or memory.room_for(self.connection)

    def _hold(self, size: int) -> bool:
        """Account for so many bytes instead of those before; say whether there is room for them."""
        more, memory = size - self._held, self.context.memory
        if more > 0 and not memory.take(more, self.connection):
            return False
        if more < 0:
            memory.give_back(-more, self.connection)
        self._held = size
        return True

    def _close(self) -> None:
        """Be done with a response that is sent to its end."""
        self._let_go()
        self._hold(0)
        if self.handled:
            self.handled = False
            self.context.answered(self)
        if self._whole:
            self.connection.forget(self, answered=not self._refused)
        else:
            # The client need not send the rest (RFC 9113 section 8.1), but curl 7.88, told so by a reset
            # at once, drops the answer.
            self._lingering = True
            self.deadline = self.context.seconds() + LINGER

    # The handler calls these.

    def answer(
        self, head: ResponseHead, body: bytes = b"", release: Callable[[], None] | None = None
    ) -> None:
        """Send a whole response."""
        self._release = release
        # What is in our hands whole goes into the buffer as the client takes it.
        if len(body) > BUFFER:
            # Not of a short one: an empty view keeps all of it alive.
            self._rest = memoryview(body)[BUFFER:]
        self.begin(head, body[:BUFFER])
        self.sent = len(body)
        self.finish()

    def begin(self, head: ResponseHead, data: bytes = b"") -> None:
        """Send the head of a response and the first bytes of its body."""
        if self._reset is not None:
            return
        self.code = head.code
        headers = [(b":status", b"%d" % head.code)]
        for name, value in head.fields:
            lower = name.lower().encode("ascii")
            if lower not in CONNECTION_SPECIFIC:
                headers.append((lower, value.strip(" \t").encode("latin-1")))
        if head.length is not None and head.code != 204:
            headers.append((b"content-length", b"%d" % (0 if head.code == 205 else head.length)))
        if not head.has_date:
            headers.append((b"date", self.context.date().encode("ascii")))
        if not head.has_request_id and self.request_id:
            headers.append((b"x-request-id", self.request_id.encode("ascii")))
        self._headers = headers
        self.write(data)

    def write(self, data: bytes) -> None:
        """Send a piece of a body."""
        if self._reset is None:
            self.sent += len(data)
            if self._buffer:
                self._buffer += data
            else:
                # One that grows has an eighth to spare.
                self._buffer = bytearray(data)
            self.connection.ready(self)
            if self.responder is not None and not self._paused and len(self._buffer) >= BUFFER:
                self._paused = True
                self.responder.pause()

    def finish(self) -> None:
        """End the response."""
        self.responder = None
        self._ended = True
        self.connection.ready(self)

    def _let_go(self) -> None:
        release, self._release = self._release, None
        if release is not None:
            release()

    def reject(self, code: int) -> None:
        """Answer a request that cannot be read to its end; the connection goes on."""
        if self.closing:
            return
        read = self._read
        asked = Asked.of(read.method.decode("ascii"), read.target.decode("ascii")) if read else Asked()
        self.request_id = self.context.refused(self.client, code, asked)
        self.lose()
        self._refused = code < HTTPStatus.INTERNAL_SERVER_ERROR
        head, body = self.context.plain(code)
        if asked.method == "HEAD":
            body = b""
        self.begin(head, body)
        self.finish()
        if self._refused:
            self.connection.spend_on_reset()

    def abort(self) -> None:
        """Break the response off so that the client can tell."""
        self.reset(ErrorCode.INTERNAL_ERROR)

    def reset(self, code: ErrorCode, *, costly: bool = False) -> None:
        """End the stream with an error.

        :param costly: whether it is the client's fault, and the client pays.
        """
        if self._reset is None:
            self._reset = code
            self.connection.ready(self)
            self.lose()
            if costly:
                self.connection.spend_on_reset()
