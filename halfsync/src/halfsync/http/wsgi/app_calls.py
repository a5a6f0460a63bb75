"""What an application may ask its server while it answers a request, by callables in the environ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from halfsync.http.context import describe
from halfsync.http.wsgi.response import read
from halfsync.http.wsgi.trailers import Trailers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from halfsync.http.stream import Stream
    from halfsync.http.wsgi.flow import Workers


class AppCalls:
    """One request, as its application asks about it; its methods belong to the worker's thread."""

    _stream: Stream
    _workers: Workers
    # What is not set for each request costs none of its time.
    _started = False
    """Whether the head is on its way, so that it cannot be replaced."""
    _gone = False
    _trailers: Trailers | None = None
    """Of a response to a client that takes them."""

    def describe(self) -> str:
        """Say what the thread is at."""
        return describe(self._stream)

    # By the environ.

    def client_gone(self) -> bool:
        """Say whether the client is known to have left, so that nobody waits for the response."""
        return self._gone or self._stream.left

    def draining(self) -> bool:
        """Say whether the process is being stopped and waits for this request."""
        return self._stream.context.draining

    def early_hints(self, headers: list[tuple[str, str]]) -> None:
        """Send 103 Early Hints (RFC 8297) now, where the client's HTTP has them and no response has begun.

        :param headers: `Link` mostly: `[("Link", "</style.css>; rel=preload; as=style")]`.
        :raises ValueError: for what is no header, or one that the final response alone may have.
        """
        hinted = read("200 OK", headers)
        if hinted.length is not None or hinted.close:
            raise ValueError("Content-Length and Connection belong to the final response")
        if not self._started:
            self._workers.in_reactor(self._hint, hinted.fields)

    def send_trailers(self, names: Iterable[str], values: Callable[[], Iterable[tuple[str, str]]]) -> bool:
        """Have fields follow the body; say that the client takes them.

        :param names: of all that may come.
        :param values: called after the last piece of the body; returns names and values.
        :raises ValueError: for what may not stand there (RFC 9110 section 6.5.1).
        :raises RuntimeError: when the response has begun.
        """
        if self._started:
            raise RuntimeError("trailers are named before the response begins")
        self._trailers = Trailers(names, values)
        return True

    def _hint(self, fields: list[tuple[str, str]]) -> None:
        if not self._gone:
            self._stream.hint(fields)
