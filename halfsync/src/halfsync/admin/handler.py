"""The pages as a handler of requests: the one place where the admin interface meets HTTP."""

from __future__ import annotations

from http import HTTPStatus
from typing import IO, TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred

from halfsync.admin.message import AdminRequest
from halfsync.endpoints.addresses import address_text
from halfsync.http import request_id
from halfsync.http.stream import ResponseHead
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from halfsync.admin.message import AdminResponse
    from halfsync.admin.pages import Pages
    from halfsync.http.stream import RequestHead, Stream

log = get_logger(__name__)


class AdminHandler:
    """Hands every request to the pages, and their answer to the client."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def handle(self, stream: Stream, head: RequestHead, body: IO[bytes]) -> None:
        """Answer any request."""
        with body:
            request = _read(stream, head, body.read())
        client = _Client()
        stream.responder = client
        Deferred.fromCoroutine(self._respond(stream, request, client)).addErrback(_failed)

    async def _respond(self, stream: Stream, request: AdminRequest, client: _Client) -> None:
        # A coroutine has a context of its own.
        request_id.bind(stream.request_id)
        response = await self._pages.respond(request)
        if not client.left:
            _write(stream, response)


class _Client:
    """Notes whether the client has left; what it is sent is short, and waits in memory."""

    left = False

    def gone(self) -> None:
        """Give up."""
        self.left = True

    def pause(self) -> None:
        """Go on."""

    def resume(self) -> None:
        """Go on."""


def _read(stream: Stream, head: RequestHead, body: bytes) -> AdminRequest:
    return AdminRequest(
        method=head.method,
        path=head.target.partition("?")[0],
        version=head.version,
        headers=tuple((name.lower(), value) for name, value in head.fields()),
        body=body,
        client=_host(stream.client),
        local=_host(stream.local),
        peer=address_text(stream.client),
    )


def _host(address: Any) -> str:
    return address.host if isinstance(address, IPv4Address | IPv6Address) else ""


def _write(stream: Stream, response: AdminResponse) -> None:
    fields = [("Content-Type", response.kind), *response.headers.items()]
    head = ResponseHead(
        response.status, HTTPStatus(response.status).phrase, fields, length=len(response.body)
    )
    stream.answer(head, response.body if stream.has_body(response.status) else b"")


def _failed(failure: Any) -> None:
    log.error("admin.failed", failure=failure)
