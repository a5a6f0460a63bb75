"""A request to the admin interface and its answer, as the pages know them: apart from how HTTP is spoken."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class AdminRequest:
    """A whole request."""

    method: str
    path: str
    """Without the query, as it was sent: `/tasks/a%20b/run`."""
    version: str
    """`HTTP/1.0`, `HTTP/1.1` or `HTTP/2`."""
    headers: tuple[tuple[str, str], ...]
    """Names in lower case."""
    body: bytes
    client: str
    """The client's IP address; empty on a UNIX socket."""
    local: str
    """The address that it came to; empty on a UNIX socket."""
    peer: str
    """The client as the log names it."""

    def values(self, name: str) -> list[str]:
        """Return every value of a header."""
        return [value.strip() for each, value in self.headers if each == name]

    def one(self, name: str) -> str | None:
        """Return a header's only value; the empty text, which nothing accepts, when there are several."""
        values = self.values(name)
        return (values[0] if len(values) == 1 else "") if values else None


@dataclass(frozen=True, slots=True)
class AdminResponse:
    """A whole response."""

    status: int
    kind: str
    """Its Content-Type."""
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def json_response(status: int, content: object, headers: Mapping[str, str] | None = None) -> AdminResponse:
    """Return a response in JSON."""
    data = json.dumps(content, indent=1, default=str).encode() + b"\n"
    return AdminResponse(status, "application/json", data, headers or {})


class RefusedError(Exception):
    """A request that is not carried out: its status, and why in one line."""

    def __init__(self, status: int, why: str, **headers: str) -> None:
        super().__init__(why)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def prefers_html(accept: list[str]) -> bool:
    """Say whether a client would rather have HTML than JSON, by its Accept headers (RFC 9110 section 12.5.1).

    Without a word of `text/html` it would not: `*/*` is what programs send.
    """
    quality = {"text/html": 0.0, "application/json": 0.0}
    for each in ",".join(accept).split(","):
        kind, *parameters = (part.strip().lower() for part in each.split(";"))
        if kind in quality:
            weights = [part[2:] for part in parameters if part.startswith("q=")]
            try:
                quality[kind] = float(weights[0]) if weights else 1.0
            except ValueError:
                quality[kind] = 0.0
    return quality["text/html"] > quality["application/json"]
