"""The pages behind twisted.web's request: the one place where the admin interface meets HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from halfsync.admin.body import LONGEST
from halfsync.admin.message import AdminRequest
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from halfsync.admin.message import AdminResponse
    from halfsync.admin.pages import Pages
    from halfsync.http.resources import Request

log = get_logger(__name__)


class AdminResource(Resource):
    """Hands every request to the pages, and their answer to the client."""

    isLeaf = True

    def __init__(self, pages: Pages) -> None:
        Resource.__init__(self)
        self._pages = pages

    def render(self, request: Request) -> int:
        """Answer any request."""
        Deferred.fromCoroutine(self._respond(request)).addErrback(_failed)
        return NOT_DONE_YET

    async def _respond(self, request: Request) -> None:
        lost: list[object] = []
        request.notifyFinish().addErrback(lost.append)
        response = await self._pages.respond(_read(request))
        if not lost:
            _write(request, response)


def _read(request: Request) -> AdminRequest:
    raw = request.requestHeaders.getAllRawHeaders()
    return AdminRequest(
        method=request.method.decode("latin-1"),
        path=request.path.decode("latin-1"),
        version=request.clientproto.decode("latin-1"),
        headers=tuple(
            (name.decode("latin-1").lower(), value.decode("latin-1"))
            for name, values in raw
            for value in values
        ),
        body=request.content.read(LONGEST + 1) if request.content else b"",
        client=_host(request.getClientAddress()),
        local=_host(request.getHost()),
        peer=request.peer,
    )


def _host(address: Any) -> str:
    return address.host if isinstance(address, IPv4Address | IPv6Address) else ""


def _write(request: Request, response: AdminResponse) -> None:
    request.setResponseCode(response.status)
    request.responseHeaders.removeHeader(b"Server")
    request.setHeader("Content-Type", response.kind)
    request.setHeader("Content-Length", str(len(response.body)))
    for name, value in response.headers.items():
        request.setHeader(name, value)
    if request.method != b"HEAD":
        request.write(response.body)
    request.finish()


def _failed(failure: Any) -> None:
    log.error("admin.failed", failure=failure)
