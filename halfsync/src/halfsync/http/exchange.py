"""One request on its way through a worker thread, and its response: the protocol of PEP 3333."""

from __future__ import annotations

from functools import partial
from threading import Condition, get_ident
from typing import IO, TYPE_CHECKING, Any, Protocol, cast

from halfsync.http.access_log import printable
from halfsync.http.environ import FileWrapper, build
from halfsync.http.request_id import HEADER, bind
from halfsync.http.response import Head
from halfsync.http.spool import Held
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from wsgiref.types import WSGIApplication

    from halfsync.http.request import Request
    from halfsync.http.spool import Spool

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]

log = get_logger(__name__)

SLICE = 64 * 1024
"""Bytes that are on their way to the reactor at most, and to the client before anything waits for it.

A body in one piece of that size is handed over whole. There may be 100 such on a connection of HTTP/2.
"""

SLOW = 0.5
"""Seconds that a thread waits for a client before what follows goes to the disk."""


class Workers(Protocol):
    """What the gateway needs of `halfsync.workers.WorkerPool`."""

    def submit(self, call: Callable[[], object], label: str | Callable[[], str]) -> None:
        """Have a thread make the call, or raise Busy."""

    def in_reactor(self, function: Callable[..., object], *args: object) -> None:
        """Make a call in the reactor's thread."""


class Disconnected(ConnectionError):  # noqa: N818  said by the application's own frames: no fault of theirs
    """The client is gone, so the rest of the response has nowhere to go."""


class Exchange:
    """One request on its way through a thread, and its response.

    Its methods belong to the worker's thread, except for those below `In the reactor`.
    """

    __slots__ = (
        "_app",
        "_behind",
        "_complete",
        "_ending",
        "_flow",
        "_gone",
        "_head",
        "_paused",
        "_request",
        "_secure",
        "_sent",
        "_spool",
        "_started",
        "_trimmed",
        "_workers",
        "body",
    )

    def __init__(self, app: WSGIApplication, workers: Workers, request: Request) -> None:
        self._app = app
        self._workers = workers
        self._request = request
        # Taken away, because Twisted closes it under the reading application when the client leaves.
        self.body = cast("IO[bytes]", request.content)
        request.content = None
        request.responder = self
        self._secure = request.isSecure()
        self._head: Head | None = None
        self._started = False
        """Whether the head is on its way, so that it cannot be replaced."""
        self._complete = False
        """Whether the end is on its way."""
        self._trimmed = False
        self._sent = 0
        self._gone = False
        # For streams only; guarded by _flow.
        self._flow: Condition | None = None
        self._paused = False
        self._behind = 0
        """Bytes that the reactor has been given and has not taken."""
        self._spool: Spool | Held | None = None
        """What follows them: on the disk when the client is slow, in memory when it was made in one piece."""
        self._ending = False
        """Whether nothing follows what is in the spool."""

    def __call__(self) -> None:
        """Run the application; a worker calls this."""
        request = self._request
        try:
            # A client that left while its request was waiting costs no more.
            if not self._gone:
                request.thread = get_ident()
                bind(request.request_id)
                self._run()
        except Disconnected:
            log.info("wsgi.client_left", request=self.describe(), sent=self._sent)
        except BaseException:
            # SystemExit, too: an application must not end a thread of the pool.
            log.exception("wsgi.application_failed", request=self.describe())
            self._fail()
        finally:
            request.thread = None
            self.body.close()

    def describe(self) -> str:
        """Say what the thread is at."""
        return f"{printable(self._request.method)} {printable(self._request.path)}"

    def _run(self) -> None:
        environ = build(self._request, self.body, secure=self._secure)
        result = self._app(environ, cast("Any", self._start_response))
        try:
            if type(result) in {list, tuple}:
                self._send_whole(cast("list[bytes]", result))
            else:
                self._send_each(result)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None, /
    ) -> Callable[[bytes], None]:
        if exc_info is not None:
            try:
                if self._started and exc_info[1] is not None:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                # It refers to the frames that refer to it.
                exc_info = None
        elif self._head is not None:
            raise AssertionError("start_response was called a second time, without exc_info")
        self._head = Head(status, headers)
        return self._write

    def _write(self, data: bytes) -> None:
        if data:
            self._send(data)

    def _send_whole(self, pieces: list[bytes]) -> None:
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        head = self._require_head()
        if head.length is None and not self._started and head.code not in {204, 304}:
            head.length = len(data)
        if data:
            self._send(data)
        self._end()

    def _send_each(self, result: Iterable[bytes]) -> None:
        if isinstance(result, FileWrapper):
            result = iter(partial(result.filelike.read, SLICE), b"")
        for data in result:
            if data:
                self._send(data)
            if self._complete and (self._trimmed or not self._has_body()):
                # What is never sent need not be made; it may be endless.
                return
        self._end()

    def _send(self, data: bytes) -> None:
        if not isinstance(data, bytes):
            raise TypeError(f"the body is of bytes, not {type(data).__name__}")
        head = self._require_head()
        if not self._has_body():
            data = b""
        elif head.length is not None and len(data) > head.length - self._sent:
            self._trimmed = True
            log.error("wsgi.body_trimmed", request=self.describe(), declared=head.length)
            data = data[: head.length - self._sent]
        if self._complete:
            return
        self._sent += len(data)
        if self._sent == head.length or not self._has_body():
            self._complete = True
        if not self._started and self._complete and len(data) <= SLICE:
            self._started = True
            self._workers.in_reactor(self._answer, data)
            return
        if not self._started and self._complete and self._request.site.memory.take(len(data)):
            self._started = True
            self._workers.in_reactor(self._answer_long, data)
            return
        for start in range(0, len(data), SLICE):
            self._stream(data[start : start + SLICE])
        if self._complete:
            self._workers.in_reactor(self._finish)

    def _stream(self, data: bytes) -> None:
        """Hand a piece over when the client has taken enough of those before it, or put it on the disk."""
        if self._flow is None:
            self._flow = Condition()
        with self._flow:
            spooled = self._put_aside(data)
            if self._gone:
                raise Disconnected("the client closed the connection")
            if not spooled:
                self._behind += len(data)
        self._started = True
        if spooled:
            self._workers.in_reactor(self._feed)
        else:
            self._workers.in_reactor(self._take, data)

    def _put_aside(self, data: bytes) -> bool:
        """Wait until a piece may go straight to the client, or is on the disk; say which."""
        flow = cast("Condition", self._flow)
        while not self._gone:
            if self._spool is None:
                if flow.wait_for(self._may_go_on, SLOW):
                    return False
                self._spool = self._request.site.space.open()
                if self._spool is None:
                    flow.wait_for(self._may_go_on)
                    return False
            # It is none that holds a body in one piece: after that nothing comes.
            if cast("Spool", self._spool).append(data):
                return True
            # The disk is full, or our part of it: the client has to take what is there first.
            flow.wait_for(lambda: self._gone or self._spool is None)
        return False

    def _may_go_on(self) -> bool:
        return self._gone or not (self._paused or self._behind >= SLICE)

    def _end(self) -> None:
        if self._complete:
            return
        self._complete = True
        head = self._require_head()
        if head.length is not None and self._sent < head.length and self._has_body():
            log.error("wsgi.body_short", request=self.describe(), declared=head.length, sent=self._sent)
            self._workers.in_reactor(self._request.abort)
        elif self._started:
            self._workers.in_reactor(self._finish)
        else:
            self._started = True
            if self._has_body():
                head.length = 0
            self._workers.in_reactor(self._answer, b"")

    def _fail(self) -> None:
        """Tell the client, as far as it can still be told."""
        if self._complete:
            return
        self._complete = True
        respond = self._request.abort if self._started else self._apologise
        self._workers.in_reactor(respond)

    def _require_head(self) -> Head:
        if self._head is None:
            raise AssertionError("the application sent a body before it called start_response")
        return self._head

    def _has_body(self) -> bool:
        return self._request.has_body(self._require_head().code)

    # In the reactor.

    def gone(self) -> None:
        """Stop the response: there is no client."""
        self._gone = True
        self.resumeProducing()
        if self._spool is not None:
            self._spool.close()

    def discard(self) -> None:
        """Give up, because the workers stop before one was free."""
        self.body.close()
        self._request.abort()

    def pauseProducing(self) -> None:
        """Have the thread wait; called by the transport when its buffer is full."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Have the thread go on."""
        self._paused = False
        if self._flow is not None:
            with self._flow:
                self._flow.notify()
            self._feed()

    stopProducing = gone

    def _answer(self, data: bytes) -> None:
        if not self._gone:
            self._begin(data)
            self._request.finish()

    def _answer_long(self, data: bytes) -> None:
        held = Held(self._request.site.memory, data)
        if self._gone:
            held.close()
            return
        self._flow = Condition()
        self._spool = held
        self._ending = True
        self._request.registerProducer(self, streaming=True)
        self._begin(b"")
        self._feed()

    def _take(self, data: bytes) -> None:
        if self._gone:
            return
        if self._request.startedWriting:
            self._request.write(data)
        else:
            self._request.registerProducer(self, streaming=True)
            self._begin(data)
        flow = cast("Condition", self._flow)
        with flow:
            self._behind -= len(data)
            flow.notify()
        self._feed()

    def _feed(self) -> None:
        """Send of what waits as much as the client takes, once it has what came before."""
        try:
            self._send_waiting()
        except OSError as error:
            # The disk does not give back what it has taken.
            log.warning("http.spool_failed", problem=str(error))
            self._request.abort()

    def _send_waiting(self) -> None:
        flow = cast("Condition", self._flow)
        while self._spool is not None and not (self._gone or self._paused or self._behind):
            if isinstance(self._spool, Held):
                self._spool.skip(self._request.write_now(self._spool.rest))
            if data := self._spool.take(SLICE):
                self._request.write(data)
                continue
            with flow:
                if data := self._spool.take(SLICE):
                    # It came between the two looks.
                    self._request.write(data)
                    continue
                self._spool.close()
                self._spool = None
                flow.notify()
            if self._ending:
                self._finish()

    def _finish(self) -> None:
        if self._gone:
            return
        if self._spool is not None:
            self._ending = True
            self._feed()
            return
        self._request.unregisterProducer()
        self._request.finish()

    def _apologise(self) -> None:
        if not self._gone:
            self._request.answer(500)

    def _begin(self, data: bytes) -> None:
        head = self._require_head()
        headers = head.headers
        if head.length is not None and head.code >= 200 and head.code != 204:
            headers.append((b"Content-Length", b"%d" % head.length))
        if not head.has_date:
            headers.append((b"Date", self._request.site.date()))
        if not head.has_request_id:
            headers.append((HEADER, self._request.request_id.encode("ascii")))
        self._request.begin(head.code, head.reason, headers, data, length=head.length)
