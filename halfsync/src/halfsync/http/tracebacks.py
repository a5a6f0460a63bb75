"""Why a request failed, shown to whoever asked for it, for development: `--web.tracebacks`.

A page of plain text takes the place of a 500, on this machine only: the client and the name that it asks for
are of the loopback, and no proxy stands between. Whatever framework has caught the error has logged it;
so what is logged in the name of the request is shown. Nothing of this is there without the flag.
"""

from __future__ import annotations

import re
import sys
import traceback
from typing import IO, TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from structlog.contextvars import get_contextvars

from halfsync import logs
from halfsync.endpoints.exposure import is_loopback, public_address
from halfsync.http.handlers import as_handler
from halfsync.http.stream import ResponseHead

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from structlog.typing import EventDict

    from halfsync.endpoints.endpoint import Endpoint
    from halfsync.http.stream import RequestHead, Stream

_HERE = re.compile(
    r"(?:[\w-]+\.)*localhost(?::\d+)?|127(?:\.\d{1,3}){3}(?::\d+)?|\[::1\](?::\d+)?", re.IGNORECASE
)
"""Hosts that no page of elsewhere can have as its own (DNS rebinding)."""

_FORWARDED = re.compile(r"HTTP_(?:VIA|FORWARDED|X_FORWARDED\w*|X_REAL_IP|X_CLIENT_IP|CF_CONNECTING_IP)")
"""Headers that proxies add: a tunnel's client is no client of this machine."""

_FIELDS = (
    ("Content-Type", "text/plain; charset=utf-8"),
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
)


class _Errors(list[BaseException]):
    """What was logged in the name of one request."""


class Tracebacks:
    """A handler around the one that may fail."""

    def __init__(self, handler: Any) -> None:
        """Show what fails in a handler, a resource or a `Mount`, once the log of the process has started."""
        self._handler = as_handler(handler)
        self._errors: WeakValueDictionary[str, _Errors] = WeakValueDictionary()
        logs.watch(self._note)

    def handle(self, stream: Stream, head: RequestHead, body: IO[bytes], depth: int = 0) -> None:
        """Have the request answered, and look at the answer if its client may see more."""
        if may_see(stream, head):
            self._show(stream)
        self._handler.handle(stream, head, body, depth)

    def refusal(self, head: RequestHead, depth: int = 0) -> int | None:
        """Return the status for a client that asks whether to send its body, as the handler says."""
        ask: Callable[..., int | None] | None = getattr(self._handler, "refusal", None)
        return None if ask is None else ask(head, depth)

    def _note(self, _logger: object, _method: str, event: EventDict) -> EventDict:
        """Keep an error that is logged in the name of a request; in any thread."""
        errors = self._errors.get(event.get("request_id") or get_contextvars().get("request_id") or "")
        if errors is not None:
            error = event.get("exc_info") or getattr(event.get("failure"), "value", None)
            if isinstance(error, tuple):
                error = error[1]
            elif error is not None and not isinstance(error, BaseException):
                error = sys.exc_info()[1]
            if error is not None and not any(error is each for each in errors):
                errors.append(error)
        return event

    def _show(self, stream: Stream) -> None:
        errors = self._errors[stream.request_id] = _Errors()
        answer, begin = stream.answer, stream.begin

        def fails(head: ResponseHead, data: bytes) -> bool:
            # The page of a framework that shows errors itself stays.
            return head.code == 500 and bool(errors) and stream.has_body(500) and b"Traceback" not in data

        def show() -> None:
            page = _page(errors, stream.request_id)
            errors.clear()
            answer(ResponseHead(500, "Internal Server Error", _FIELDS, length=len(page)), page)

        def shown_answer(
            head: ResponseHead, body: bytes = b"", release: Callable[[], None] | None = None
        ) -> None:
            if not fails(head, body):
                answer(head, body, release)
                return
            if release is not None:
                release()
            show()

        def shown_begin(head: ResponseHead, data: bytes = b"") -> None:
            if not fails(head, data):
                begin(head, data)
                return
            # What follows belongs to the page that nobody sees.
            over: Any = stream
            over.write = over.finish = over.abort = over.cut_short = lambda *_: None
            show()

        watched: Any = stream
        watched.answer, watched.begin = shown_answer, shown_begin


def may_see(stream: Stream, head: RequestHead) -> bool:
    """Say whether a client is on this machine, and asks for it by a name of this machine's."""
    return (
        is_loopback(getattr(stream.client, "host", ""))
        and _HERE.fullmatch(head.variables.get("HTTP_HOST", "")) is not None
        and not any(map(_FORWARDED.fullmatch, head.variables))
    )


def exposed(endpoints: Sequence[Endpoint]) -> str | None:
    """Say which endpoint clients of other machines could use; None when there is none."""
    for endpoint in endpoints:
        if endpoint.proxied or public_address(endpoint.source):
            return f"{endpoint.text!r} is open to other machines"
    return None


def _page(errors: list[BaseException], request_id: str) -> bytes:
    told = "\n".join("".join(traceback.format_exception(error)) for error in errors)
    note = f"Request {request_id}. Only this machine sees this page (--web.tracebacks)."
    return f"{told}\n{note}\n".encode(errors="backslashreplace")
