"""What is asked of a peer, and what it answers."""

from __future__ import annotations

import json as json_module
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from halfsync.client.body import BytesBody, IteratorBody

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted.web.http_headers import Headers

    from halfsync.client.body import BodyReader

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods that may be sent again (RFC 9110 9.2.2)."""

Data = bytes | str | Iterable[bytes] | AsyncIterator[bytes] | None


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as often as it is tried."""

    method: str
    target: str
    """Path and query."""
    headers: Mapping[str, str]
    body: bytes | Iterable[bytes] | AsyncIterator[bytes] | None
    idempotent: bool
    """Whether it may be sent again although the peer may have done it."""

    @classmethod
    def made(
        cls,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        data: Data = None,
        json: Any = None,
        idempotent: bool | None = None,
    ) -> Request:
        """Make one of what a caller gives.

        :raises ValueError: when the path does not begin with a slash, or data and json are both given.
        """
        if not path.startswith("/"):
            raise ValueError(
                f"path: {path!r} does not begin with '/': the peer's address is the client's own"
            )
        fields = dict(headers or {})
        body: bytes | Iterable[bytes] | AsyncIterator[bytes] | None
        if json is not None:
            if data is not None:
                raise ValueError("json: give it or data, not both")
            body = json_module.dumps(json, separators=(",", ":")).encode()
            fields.setdefault("Content-Type", "application/json")
        else:
            body = data.encode() if isinstance(data, str) else data
        if params:
            path += ("&" if "?" in path else "?") + urlencode(params)
        method = method.upper()
        again = method in IDEMPOTENT if idempotent is None else idempotent
        once = not (body is None or isinstance(body, bytes | list | tuple))
        return cls(method, path, fields, body, again and not once)

    def producer(self) -> BytesBody | IteratorBody | None:
        """Return what writes the body, anew for every try."""
        if self.body is None:
            return None
        if isinstance(self.body, bytes):
            return BytesBody(self.body)
        return IteratorBody(self.body if isinstance(self.body, AsyncIterator) else iter(self.body))


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer."""

    status: int
    headers: Headers
    """`headers.getRawHeaders(name)`: every value of a header; names ignore case."""
    body: bytes

    @property
    def text(self) -> str:
        """The body as UTF-8, wrong bytes replaced."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """Parse the body.

        :raises ValueError: when it is no JSON.
        """
        return json_module.loads(self.body)

    def header(self, name: str) -> str | None:
        """Return the last value of a header; None without it."""
        values = self.headers.getRawHeaders(name)
        return values[-1] if values else None


@dataclass(frozen=True, slots=True)
class StreamedResponse:
    """An answer whose body is still on its way: `async for piece in response.body`."""

    status: int
    headers: Headers
    body: BodyReader
    raw: Any
    """The `IResponse` of twisted.web, for `relay`."""
