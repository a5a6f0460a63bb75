"""One request on its way through a worker thread, and its response: the protocol of PEP 3333."""

from __future__ import annotations

from functools import partial
from threading import get_ident
from typing import IO, TYPE_CHECKING, Any

from halfsync import deadline as deadlines
from halfsync.http.connections import client_key
from halfsync.http.request_id import bind
from halfsync.http.stream import NO_CONTENT
from halfsync.http.wsgi.app_calls import AppCalls
from halfsync.http.wsgi.environ import FileWrapper, blocks_of, complete, errors
from halfsync.http.wsgi.file_body import FileSender, file_to_send
from halfsync.http.wsgi.flow import SLICE, Disconnected, Flow
from halfsync.http.wsgi.response import read
from halfsync.http.wsgi.trailers import takes_trailers
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence
    from types import TracebackType
    from wsgiref.types import WSGIApplication

    from halfsync.http.stream import RequestHead, ResponseHead, Stream
    from halfsync.http.wsgi.file_body import OpenFile
    from halfsync.http.wsgi.flow import Workers

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]

log = get_logger(__name__)

BY_ADDRESS = object()
COUNTED = 8 * 1024
"""Bytes of a body from which on room is taken for it."""


class Exchange(AppCalls):
    """One request on its way through a thread, and its response.

    Its methods belong to the worker's thread, except for those below `In the reactor`.
    """

    # What is not set for each request costs none of its time.
    _head: ResponseHead | None = None
    _complete = False
    """Whether the end is on its way."""
    _trimmed = False
    _sent = 0
    _flow: Flow | None = None
    """Of a response that is not handed over in one piece."""
    client: Hashable = BY_ADDRESS  # or whose request it is, as a rule of the service says

    def __init__(  # noqa: PLR0917  one call a request, which names would make slower
        self,
        app: WSGIApplication,
        workers: Workers,
        stream: Stream,
        request: RequestHead,
        body: IO[bytes],
        environ: dict[str, Any],
        depth: int = 0,
        deadline: float | None = None,
    ) -> None:
        self._app: Any = app
        self._deadline = deadline
        self._workers = workers
        self._stream = stream
        self._request = request
        self._body = body
        self._environ = environ
        self._depth = depth

    def __call__(self) -> None:
        """Run the application; a worker calls this."""
        stream = self._stream
        try:
            # A client that left while its request was waiting costs no more.
            if self._gone or stream.left:
                self._workers.skipped()
            else:
                stream.thread = get_ident()
                bind(stream.request_id)
                deadlines.set_deadline(self._deadline)
                self._run()
        except Disconnected:
            log.info("wsgi.client_left", request=self.describe(), sent=self._sent)
        except BaseException:
            # SystemExit, too: an application must not end a thread of the pool.
            log.exception("wsgi.application_failed", request=self.describe())
            self._fail()
        finally:
            stream.thread = None
            errors.flush()
            self._body.close()
            if self._gone and self._flow is not None:
                # It may have been made after the reactor looked.
                self._flow.gone()

    def _run(self) -> None:
        environ = self._environ.copy()
        complete(environ, self._stream, self._request, self._body, depth=self._depth)
        environ["halfsync.client_gone"] = self.client_gone
        environ["halfsync.draining"] = self.draining
        environ["halfsync.early_hints"] = self.early_hints
        if "HTTP_TE" in environ and takes_trailers(self._request):
            environ["halfsync.send_trailers"] = self.send_trailers
        result = self._app(environ, self._start_response)
        try:
            if type(result) is list or type(result) is tuple:
                self._send_whole(result)
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
        self._head = read(status, headers)
        return self._send

    def _send_whole(self, pieces: Sequence[bytes]) -> None:
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        head = self._require_head()
        if head.length is None and not self._started and head.code not in NO_CONTENT:
            self._head = head.with_length(len(data))
        if not self._answer_at_once(data):
            self._send_each((data,))

    def _answer_at_once(self, data: bytes) -> bool:
        """Hand over what is a whole response, as most are: without the looks of `_send` and `_end`."""
        head = self._head
        if type(data) is not bytes or head is None or head.length != len(data) or len(data) > COUNTED:
            return False
        if self._started or self._gone or self._trailers or not self._stream.has_body(head.code):
            return False
        self._sent = len(data)
        self._complete = self._started = True
        self._workers.in_reactor(self._answer, head, data, None)
        return True

    def _send_each(self, result: Iterable[bytes]) -> None:
        if isinstance(result, FileWrapper):
            if self._hand_file_over(result.filelike):
                return
            result = blocks_of(result.filelike, SLICE)
        for data in result:
            if self._answer_at_once(data):
                continue
            self._send(data)
            over = self.draining() and self._require_head().is_endless()
            if over or self._trimmed or (self._complete and not self._has_body()):
                # What is never sent need not be made; it may be endless.
                break
        self._end()

    def _hand_file_over(self, given: Any) -> bool:
        """Have the kernel send a file that is a whole body, if it can; the thread goes on then."""
        head = self._require_head()
        file = None if self._started or self._trailers else file_to_send(given, head, self._stream)
        if file is None:
            return False
        self._started = self._complete = True
        self._sent = file.left
        self._workers.in_reactor(self._send_file, file)
        return True

    def _send(self, data: bytes) -> None:
        if not isinstance(data, bytes):
            raise TypeError(f"the body is of bytes, not {type(data).__name__}")
        if self._gone:
            raise Disconnected("the client closed the connection")
        if not data:
            return
        head = self._require_head()
        data = self._fitting(data, head)
        if self._complete:
            return
        self._sent += len(data)
        if (self._sent == head.length and self._trailers is None) or not self._has_body():
            self._complete = True
        if not self._started and self._complete and self._answer_whole(head, data):
            return
        flow = self._flow or self._begin_flow(head)
        for start in range(0, len(data), SLICE):
            flow.send(data[start : start + SLICE])
        if self._complete:
            self._workers.in_reactor(flow.finish)

    def _begin_flow(self, head: ResponseHead) -> Flow:
        if self._trailers is not None:
            head = self._head = head.with_trailers(self._trailers.names)
        self._started = True
        self._flow = Flow(self._stream, self._workers, head, self._workers.client_waits)
        return self._flow

    def _fitting(self, data: bytes, head: ResponseHead) -> bytes:
        """Return what may be sent of a piece: nothing where there is no body, no more than was declared."""
        if not self._has_body():
            return b""
        if head.length is not None and len(data) > head.length - self._sent:
            self._trimmed = True
            log.error("wsgi.body_trimmed", request=self.describe(), declared=head.length)
            return data[: head.length - self._sent]
        return data

    def _answer_whole(self, head: ResponseHead, data: bytes) -> bool:
        """Hand a response over in one piece, if it is short, or there is room for it in memory."""
        release = None
        if len(data) > COUNTED:
            # It stays in memory, where it is already; threads may be far ahead of the reactor.
            memory, holder = self._stream.context.memory, self._stream.holder
            if not memory.take(len(data), holder):
                return False
            release = partial(memory.give_back, len(data), holder)
        self._started = True
        self._workers.in_reactor(self._answer, head, data, release)
        return True

    def _end(self) -> None:
        if self._complete:
            return
        head = self._require_head()
        trailers = self._trailers.fields() if self._trailers is not None and self._has_body() else None
        self._complete = True
        if head.length is not None and self._sent < head.length and self._has_body():
            log.error("wsgi.body_short", request=self.describe(), declared=head.length, sent=self._sent)
            self._workers.in_reactor(self._abort)
        elif trailers is not None:
            self._workers.in_reactor((self._flow or self._begin_flow(head)).finish, trailers)
        elif self._flow is not None:
            self._workers.in_reactor(self._flow.finish)
        else:
            self._started = True
            whole = head.with_length(0) if head.length is None and self._has_body() else head
            self._workers.in_reactor(self._answer, whole, b"", None)

    def _fail(self) -> None:
        """Tell the client, as far as it can still be told."""
        if self._complete:
            return
        self._complete = True
        self._workers.in_reactor(self._abort if self._started else self._apologise)

    def _require_head(self) -> ResponseHead:
        if self._head is None:
            raise AssertionError("the application sent a body before it called start_response")
        return self._head

    def _has_body(self) -> bool:
        return self._stream.has_body(self._require_head().code)

    # In the reactor.

    def gone(self) -> None:
        """Stop the response: there is no client."""
        self._gone = True
        if self._flow is not None:
            self._flow.gone()

    def pause(self) -> None:
        """Have the thread wait."""
        if self._flow is not None:
            self._flow.pause()

    def resume(self) -> None:
        """Have the thread go on."""
        if self._flow is not None:
            self._flow.resume()

    def discard(self) -> None:
        """Give up, because the workers stop before one was free."""
        self._body.close()
        if not self._gone:
            self.gone()
            self._stream.abort()

    def share(self) -> Hashable:
        """Return by what the client is told from others; None when it is not."""
        return client_key(self._stream.client) if self.client is BY_ADDRESS else self.client

    def expire(self) -> None:
        """Give up, because no worker was free for too long."""
        self._body.close()
        if not self._gone:
            self._stream.refuse(503, [("Retry-After", str(self._workers.retry_after()))])

    def _answer(self, head: ResponseHead, data: bytes, release: Callable[[], None] | None) -> None:
        if not self._gone:
            self._stream.answer(head, data, release)
        elif release is not None:
            release()

    def _send_file(self, file: OpenFile) -> None:
        if self._gone:
            file.close()
        else:
            FileSender(self._stream, self._require_head(), file)

    def _abort(self) -> None:
        if not self._gone:
            self.gone()
            self._stream.fail()

    def _apologise(self) -> None:
        if not self._gone:
            self._stream.refuse(500)
