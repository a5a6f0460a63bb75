"""Call your own handlers in tests: through the real site and gateway, without sockets, ports or threads.

    from halfsync.testing import Client

    def test_hello():
        assert Client(app).get("/").text == "Hello"

`Client` is for plain tests, of a WSGI application or of a klein one whose handlers answer at once.
`AsyncClient` is for handlers that wait for something; its methods return Deferreds,
which an `async def` test of `twisted.trial.unittest.TestCase` awaits.
`ServiceProcess` is the whole service in a process of its own.
"""

from __future__ import annotations

import io
import json as json_module
import re
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlencode

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.resource import IResource

from halfsync.flags.declaring import reading
from halfsync.flags.registry import Registry
from halfsync.http.bounds import Bounds
from halfsync.http.in_memory import Connection, InlineWorkers, Transport
from halfsync.http.site import Site
from halfsync.http.wsgi import Gateway
from halfsync.request_body import encode, keep_cookies
from halfsync.service_process import ServiceProcess

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Iterator, Mapping
    from email.message import Message

    from twisted.internet.defer import Deferred

    from halfsync.flags.registry import Setting
    from halfsync.request_body import File

__all__ = [
    "AsyncClient",
    "Client",
    "InlineWorkers",
    "Response",
    "ServiceProcess",
    "Unanswered",
    "flags_set",
]


class Unanswered(AssertionError):  # noqa: N818  a test's assertion
    """The handler has not answered: it waits for something that the test must make happen."""


@dataclass(frozen=True, slots=True)
class Response:
    """A whole response."""

    status: int
    headers: Message
    """A mapping that ignores case; `get_all(name)` has every value of a repeated header."""
    body: bytes

    @property
    def text(self) -> str:
        """The body in the character set that its Content-Type names, or UTF-8."""
        return self.body.decode(self.headers.get_content_charset() or "utf-8")

    def json(self) -> Any:
        """Parse the body.

        :raises ValueError: when it is no JSON.
        """
        return json_module.loads(self.body)


class AsyncClient:
    """Calls an application; each method returns a Deferred of its Response.

    :param app: a WSGI application, a klein one, any resource of twisted.web, or a `Mount` of several.
    :param bounds: as the service sets them by `--web.max_body` and the like.
    """

    def __init__(self, app: Any, *, bounds: Bounds | None = None) -> None:
        reading.allowed = True  # the application finds the defaults of flags
        resource: Any
        known = IResource.providedBy(app) or hasattr(app, "resource") or hasattr(app, "handle")
        resource = app if known else Gateway(app, InlineWorkers())
        self.cookies: dict[str, str] = {}
        """What responses have set, by name; as they stand in the header."""
        self._site = Site(resource, bounds=bounds or Bounds(), access_log=False, reactor=Clock())

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        data: bytes | Mapping[str, str] | Iterable[bytes] | None = None,
        json: Any = None,
        files: Mapping[str, File] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Deferred[Response]:
        """Send a request, with the cookies that responses have set.

        :param query: what stands behind the `?`.
        :param data: the body; a mapping is sent as a form, pieces are sent chunked.
        :param json: what to send as JSON instead.
        :param files: to upload, by field: name, content and perhaps type; a form in `data` goes along.
        :raises ConnectionAbortedError: when the response is broken off.
        """
        body, described = encode(data, json, files)
        if not described and method in {"POST", "PUT", "PATCH"}:
            described["Content-Length"] = "0"
        fields = {"Host": "localhost", **described}
        if self.cookies:
            fields["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        fields.update(headers or {})
        if query:
            path = f"{path}{'&' if '?' in path else '?'}{urlencode(query)}"
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        request = f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body
        connection = Connection(self._site.context)
        transport = Transport(connection.ended)
        connection.makeConnection(transport)
        connection.dataReceived(request)

        def close(_: None) -> Response:
            connection.connectionLost(Failure(ConnectionDone()))
            if transport.aborted:
                raise ConnectionAbortedError(f"{method}: the response was broken off; the log says why")
            response = _parse(method, transport.value())
            keep_cookies(self.cookies, response.headers.get_all("Set-Cookie", []))
            return response

        return connection.answered.addCallback(close)

    def get(self, path: str, **options: Any) -> Deferred[Response]:
        """Send a GET; the options are those of `request`."""
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> Deferred[Response]:
        """Send a POST; the options are those of `request`."""
        return self.request("POST", path, **options)

    def put(self, path: str, **options: Any) -> Deferred[Response]:
        """Send a PUT; the options are those of `request`."""
        return self.request("PUT", path, **options)

    def patch(self, path: str, **options: Any) -> Deferred[Response]:
        """Send a PATCH; the options are those of `request`."""
        return self.request("PATCH", path, **options)

    def delete(self, path: str, **options: Any) -> Deferred[Response]:
        """Send a DELETE; the options are those of `request`."""
        return self.request("DELETE", path, **options)

    def head(self, path: str, **options: Any) -> Deferred[Response]:
        """Send a HEAD; the options are those of `request`."""
        return self.request("HEAD", path, **options)

    def options(self, path: str, **options: Any) -> Deferred[Response]:
        """Send a OPTIONS; the options are those of `request`."""
        return self.request("OPTIONS", path, **options)


class Client:
    """Calls an application that answers at once; takes what AsyncClient takes."""

    def __init__(self, app: Any, *, bounds: Bounds | None = None) -> None:
        self._client = AsyncClient(app, bounds=bounds)
        self.cookies = self._client.cookies
        """What responses have set, by name."""

    def request(self, method: str, path: str, **options: Any) -> Response:
        """Send a request and return its response; the options are those of `AsyncClient.request`.

        :raises ConnectionAbortedError: when the response is broken off.
        :raises Unanswered: when the handler waits for something.
        """
        results: list[Response | Failure] = []
        self._client.request(method, path, **options).addBoth(results.append)
        if not results:
            raise Unanswered(f"{method} {path} has not been answered; AsyncClient can wait for it")
        result = results[0]
        if isinstance(result, Failure):
            result.raiseException()
        return result

    def get(self, path: str, **options: Any) -> Response:
        """Send a GET; the options are those of `AsyncClient.request`."""
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> Response:
        """Send a POST; the options are those of `AsyncClient.request`."""
        return self.request("POST", path, **options)

    def put(self, path: str, **options: Any) -> Response:
        """Send a PUT; the options are those of `AsyncClient.request`."""
        return self.request("PUT", path, **options)

    def patch(self, path: str, **options: Any) -> Response:
        """Send a PATCH; the options are those of `AsyncClient.request`."""
        return self.request("PATCH", path, **options)

    def delete(self, path: str, **options: Any) -> Response:
        """Send a DELETE; the options are those of `AsyncClient.request`."""
        return self.request("DELETE", path, **options)

    def head(self, path: str, **options: Any) -> Response:
        """Send a HEAD; the options are those of `AsyncClient.request`."""
        return self.request("HEAD", path, **options)

    def options(self, path: str, **options: Any) -> Response:
        """Send a OPTIONS; the options are those of `AsyncClient.request`."""
        return self.request("OPTIONS", path, **options)


@contextmanager
def flags_set(values: Mapping[str, str] = MappingProxyType({})) -> Iterator[None]:
    """Give flags other values, by name and as text, until the block ends.

    Without any, what reads flags finds their defaults.
    :raises FlagError: when there is no such flag, or the text is none that it takes.
    """
    reading.allowed = True
    settings = [(_setting(name), text) for name, text in values.items()]
    before = [(setting.var, setting.var.value) for setting, _ in settings]
    try:
        for setting, text in settings:
            setting.set(text, "test")
        yield
    finally:
        for var, value in before:
            var.value = value


def _setting(name: str) -> Setting:
    # A service's own flags have its package before their name, which is left out as on the command line.
    registry = Registry("")
    own = [setting.name for setting in registry.settings if setting.name.partition(".")[2] == name]
    return registry.find(own[0] if len(own) == 1 and "." in name else name)


def _parse(method: str, data: bytes) -> Response:
    # The standard library's parser reads the file that it makes of a socket, and asks for nothing else.
    # It takes 103 Early Hints for the response.
    while re.match(rb"HTTP/1\.1 1(?!01)[0-9][0-9] ", data):
        data = data.partition(b"\r\n\r\n")[2]
    received = SimpleNamespace(makefile=lambda _mode: io.BytesIO(data))
    response = HTTPResponse(cast("socket.socket", received), method=method)
    try:
        response.begin()
        return Response(response.status, response.headers, response.read())
    except HTTPException as error:
        raise ConnectionAbortedError(f"{method}: the response is not whole: {data[:200]!r}") from error
