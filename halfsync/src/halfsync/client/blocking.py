"""The face of a client for threads: the same calls, which wait."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from halfsync.reactor_calls import from_thread

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from halfsync.client.requests import Response, StreamedResponse


class Calls(Protocol):
    """The face for the reactor."""

    def request(self, method: str, path: str, **what: Any) -> Coroutine[Any, Any, Response]:
        """Call the peer."""

    def open(self, method: str, path: str, **what: Any) -> Coroutine[Any, Any, StreamedResponse]:
        """Call the peer, and leave the body to be read."""


class Blocking:
    """Calls of a thread; each waits for its answer. They raise what those of `HttpClient` raise."""

    def __init__(self, client: Calls) -> None:
        self._client = client

    def request(self, method: str, path: str, **what: Any) -> Response:
        """Call the peer; see `HttpClient.request`."""
        return from_thread(self._client.request(method, path, **what))

    def get(self, path: str, **what: Any) -> Response:
        """GET; see `HttpClient.request`."""
        return self.request("GET", path, **what)

    def post(self, path: str, **what: Any) -> Response:
        """POST; see `HttpClient.request`."""
        return self.request("POST", path, **what)

    def put(self, path: str, **what: Any) -> Response:
        """PUT; see `HttpClient.request`."""
        return self.request("PUT", path, **what)

    def delete(self, path: str, **what: Any) -> Response:
        """DELETE; see `HttpClient.request`."""
        return self.request("DELETE", path, **what)

    @contextmanager
    def pieces(self, method: str, path: str, **what: Any) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Call the peer and give the status and an iterator over the body, read as fast as it is taken."""
        response = from_thread(self._client.open(method, path, **what))

        def read() -> Iterator[bytes]:
            while data := from_thread(response.body.read()):
                yield data

        async def abort() -> None:
            response.body.abort()

        try:
            yield response.status, read()
        finally:
            from_thread(abort())
