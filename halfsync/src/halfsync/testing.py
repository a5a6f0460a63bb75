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

import sys
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.resource import IResource

from halfsync.flags.declaring import reading
from halfsync.flags.registry import Registry
from halfsync.http.bounds import Bounds
from halfsync.http.site import Site
from halfsync.http.wsgi.gateway import Gateway
from halfsync.in_memory.exchange import Connection, InlineWorkers, Transport, Unanswered
from halfsync.in_memory.response import Response, StreamedResponse, parse
from halfsync.in_memory.steps import STEPS, Steps
from halfsync.in_memory.websocket import WebSocket
from halfsync.request_body import encode, keep_cookies
from halfsync.service_process import ServiceProcess

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from twisted.internet.defer import Deferred

    from halfsync.flags.registry import Setting
    from halfsync.request_body import File

__all__ = [
    "AsyncClient",
    "Client",
    "InlineWorkers",
    "Response",
    "ServiceProcess",
    "StreamedResponse",
    "Unanswered",
    "WebSocket",
    "flags_set",
]


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
        self.clock = Clock()
        """The time of timeouts, which stands still."""
        self._site = Site(resource, bounds=bounds or Bounds(), access_log=False, reactor=self.clock)

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
        transport = self._sent(
            self._encoded(method, path, query=query, data=data, json=json, files=files, headers=headers)
        )

        def close(_: None) -> Response:
            transport.protocol.connectionLost(Failure(ConnectionDone()))
            if transport.aborted:
                raise ConnectionAbortedError(f"{method}: the response was broken off; the log says why")
            response = parse(method, transport.value())
            keep_cookies(self.cookies, response.headers.get_all("Set-Cookie", []))
            return response

        answered: Deferred[None] = transport.protocol.answered
        return answered.addCallback(close)

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

    def _encoded(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        data: bytes | Mapping[str, str] | Iterable[bytes] | None = None,
        json: Any = None,
        files: Mapping[str, File] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        body, described = encode(data, json, files)
        if not described and method in {"POST", "PUT", "PATCH"}:
            described["Content-Length"] = "0"
        if query:
            path = f"{path}{'&' if '?' in path else '?'}{urlencode(query)}"
        fields = self._fields(described, headers)
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body

    def _fields(self, described: Mapping[str, str], headers: Mapping[str, str] | None) -> dict[str, str]:
        fields = {"Host": "localhost", **described}
        if self.cookies:
            fields["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return {**fields, **(headers or {})}

    def _sent(self, request: bytes = b"") -> Transport:
        """Send a request over a connection of its own."""
        connection = Connection(self._site.context)
        transport = Transport(connection)
        connection.makeConnection(transport)
        if request:
            connection.dataReceived(request)
        return transport


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

    def stream(self, method: str, path: str, **options: Any) -> StreamedResponse:
        """Send a request, and read its response piece by piece; the options are those of `request`.

        A WSGI application makes each piece when it is asked for, in a thread that runs only meanwhile.
        Here the handler may wait: what it sends later can be read later.
        :raises ConnectionAbortedError: when the response is broken off.
        :raises Unanswered: when the handler waits before it has said anything.
        """
        client, steps = self._client, Steps()
        request = client._encoded(method, path, **options)  # noqa: SLF001  its other face
        token = STEPS.set(steps)
        try:
            transport = client._sent(request)  # noqa: SLF001  the same
        finally:
            STEPS.reset(token)
        response = StreamedResponse(method, transport, client.clock, steps)
        keep_cookies(self.cookies, response.headers.get_all("Set-Cookie", []))
        return response

    def websocket(self, path: str, *, headers: Mapping[str, str] | None = None) -> WebSocket:
        """Open a websocket, with the cookies that responses have set; it needs the extra `websocket`.

        :raises ConnectionRefusedError: when it is refused; the message has the status.
        """
        client = self._client
        return WebSocket(path, client._fields({}, headers), client._sent(), client.clock)  # noqa: SLF001  the same

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

    The name is that of the command line: `--keep` of a program that is one file is `keep`.

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
    # A service's own flags have its package before their name, which is left out as on the command line;
    # so has a program that is one file, and is imported by its tests.
    registry = Registry("")
    own = [
        setting.name
        for setting in registry.settings
        if setting.name.partition(".")[2] == name
        and ("." in name or setting.name.partition(".")[0] in sys.modules)
    ]
    return registry.find(own[0] if len(own) == 1 else name)
