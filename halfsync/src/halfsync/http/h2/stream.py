"""One request of an HTTP/2 connection: what a connection of HTTP/1.1 and its `Arrival` are to a request."""

from __future__ import annotations

from http import HTTPStatus
from io import BytesIO
from math import inf
from typing import TYPE_CHECKING

from halfsync.endpoints.addresses import address_text
from halfsync.http.access_log import Asked, printable
from halfsync.http.h2.frames import ErrorCode
from halfsync.http.h2.head import H2Head, Malformed, NoAuthority, read_trailers
from halfsync.http.h2.response import A_STREAM, H2Response
from halfsync.http.head import LONGEST_NAME
from halfsync.http.rate import Pace
from halfsync.http.upload import Upload
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from halfsync.http.h2.fields import Fields
    from halfsync.http.h2.parts import H2

log = get_logger(__name__)

HEAD_COPIES = 2
"""A head that waits for its body is in memory as it came, and as handlers get it."""


class H2Stream(H2Response):
    """One request, which is answered by what it inherits."""

    _read: H2Head | None = None
    _body: Upload | None = None
    _received = 0
    _aside: bytes | memoryview = b""
    """What has to wait until the disk has taken what came before it."""
    _flushing = False
    _unacknowledged = 0

    def __init__(self, connection: H2, number: int) -> None:
        H2Response.__init__(self, connection, number)
        self._arriving = Pace(self.context.bounds)
        """How the client sends the body."""

    # The connection calls these.

    def receive_head(self, fields: Fields, *, bodiless: bool) -> None:
        """Begin a request, or refuse it."""
        bounds = self.context.bounds
        try:
            head: H2Head = fields.head or H2Head.read(fields)
            self._read = fields.head = head
        except Malformed as reason:
            self._malformed(reason)
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
        elif not (self._room() and self._hold(A_STREAM + (0 if bodiless else HEAD_COPIES * head.size))):
            self.reset(ErrorCode.REFUSED_STREAM)
        else:
            self.head = head.request(0 if bodiless else head.length)
            if not bodiless and self.head.special.get("expect", "").lower() == "100-continue":
                self._answer_expectation()

    def _answer_expectation(self) -> None:
        """Ask for the body, or refuse it."""
        code = self.context.refusal(self.head, self.client)
        if code is not None:
            self.reject(code)
        else:
            self._continue = True
            self.connection.ready(self)

    def receive_data(self, data: bytes | memoryview, cost: int) -> bool:
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

    def receive_trailers(self, fields: Iterable[tuple[bytes, bytes]]) -> None:
        """Take what follows the body."""
        if self.closing:
            return
        try:
            trailers = read_trailers(fields)
        except Malformed as reason:
            self._malformed(reason)
            return
        size = sum(len(name) + len(value) + 4 for name, value in trailers)
        if size > self.context.bounds.max_head or len(trailers) > self.context.bounds.max_headers:
            self.reject(431)
        elif not self._hold(self._held + HEAD_COPIES * size):
            self.reset(ErrorCode.REFUSED_STREAM)
        else:
            self.head.trailers = trailers

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

    def _malformed(self, reason: Malformed) -> None:
        header = printable(reason.args[0].decode("latin-1"))
        log.info("http.malformed", peer=address_text(self.client), header=header)
        if isinstance(reason, NoAuthority):
            self.reject(400)
        else:
            self.reset(ErrorCode.PROTOCOL_ERROR, costly=True)

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
        self._hold(A_STREAM)
        body, self._body = self._body, None
        if body is not None and self.head.length is None:
            self.head.length = self._received
        self.handled = True
        self.context.handle(self, BytesIO() if body is None else body.whole())

    def _drop_body(self) -> None:
        if self._body is not None and not self._flushing:
            self._body.close()
            self._body = None

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

    @property
    def buffered(self) -> int:
        """Bytes that wait for the client or the disk, and for which no room was taken."""
        return len(self._buffer) + len(self._aside)

    def _room(self) -> bool:
        memory = self.context.memory
        return not memory.full or memory.room_for(self.connection)

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
