"""Several handlers on one listener, chosen by host and path.

    Mount({"/": Gateway(app, workers), "/events": prices.resource, "/api": klein_app})

The same over HTTP/1.1 and HTTP/2, as it stands between a connection and its handlers.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any, cast
from urllib.parse import unquote_to_bytes

from halfsync.http.handlers import as_handler

if TYPE_CHECKING:
    from collections.abc import Mapping

    from halfsync.http.stream import Handler, RequestHead, Stream


class Mount:
    """A handler that gives each request to the one below the longest path that it begins with."""

    def __init__(self, paths: Mapping[str, Any], *, hosts: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Name handlers by where they answer.

        A path is one of whole segments: `/events` has `/events` and `/events/7`, and not `/eventsource`.
        What is mounted at `/` has all others; without it they are answered 404.
        A WSGI application finds its path in SCRIPT_NAME, a resource in `request.prepath`.

        :param paths: a `Gateway`, a resource of twisted.web, a klein application or a `Mount`, by path.
        :param hosts: the same, by host without port; `*.example.com` has the hosts below that name.
            What is asked for at another host goes by `paths`.
        :raises ValueError: for a path that does not begin with a slash, or ends with one.
        :raises TypeError: for what cannot answer requests.
        """
        self._paths: dict[tuple[bytes, ...], Handler] = {}
        for path, given in paths.items():
            if not path.startswith("/") or (path != "/" and path.endswith("/")) or "//" in path:
                raise ValueError(f"{path!r} is no path to mount at; right are '/', '/events', '/a/b'")
            self._paths[_segments(path) if path != "/" else ()] = as_handler(given)
        self._hosts = {host.lower(): as_handler(given) for host, given in hosts.items()}
        self._longest = max(map(len, self._paths), default=0)

    def handle(self, stream: Stream, head: RequestHead, body: IO[bytes], depth: int = 0) -> None:
        """Hand a request on, or answer that there is nothing.

        :param depth: how many segments of the path are this mount's own place.
        """
        found = self._find(head, depth)
        if found is None:
            body.close()
            stream.refuse(404)
        else:
            found[0].handle(stream, head, body, found[1])

    def refusal(self, head: RequestHead, depth: int = 0) -> int | None:
        """Return the status for a client that asks whether to send its body; None: it may."""
        found = self._find(head, depth)
        if found is None:
            return 404
        ask = getattr(found[0], "refusal", None)
        return None if ask is None else cast("int | None", ask(head, found[1]))

    def _find(self, head: RequestHead, depth: int) -> tuple[Handler, int] | None:
        """Return who answers a request, and its place."""
        if self._hosts:
            handler = self._by_host(head.variables.get("HTTP_HOST", ""))
            if handler is not None:
                return handler, depth
        segments = _segments(head.target.partition("?")[0], depth + self._longest)[depth:]
        for length in range(min(len(segments), self._longest), -1, -1):
            handler = self._paths.get(segments[:length])
            if handler is not None:
                return handler, depth + length
        return None

    def _by_host(self, asked: str) -> Handler | None:
        host = (asked if asked.endswith("]") else asked.rpartition(":")[0] or asked).lower().rstrip(".")
        found = self._hosts.get(host)
        while found is None and "." in host:
            host = host.partition(".")[2]
            found = self._hosts.get(f"*.{host}")
        return found


def _segments(path: str, most: int = -1) -> tuple[bytes, ...]:
    """Return the decoded segments of a path, as resources and applications see them."""
    parts = path.split("/", most + 1 if most >= 0 else -1)[1:]
    return tuple([unquote_to_bytes(each) if "%" in each else each.encode() for each in parts])
