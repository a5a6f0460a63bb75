"""What the connections and requests of one listener share: bounds, room, time, counts, the handler."""

from __future__ import annotations

from http import HTTPStatus
from time import time
from typing import IO, TYPE_CHECKING, Any

from twisted.web.http import datetimeToString

from halfsync.endpoints.addresses import address_text
from halfsync.http import request_id
from halfsync.http.access_log import FAILED, Asked, Counts, log_answer, log_refusal
from halfsync.http.account import Account
from halfsync.http.connections import Connections, client_key
from halfsync.http.disk import Disk
from halfsync.http.reading_on import ReadingOn
from halfsync.http.relief import Relief
from halfsync.http.stream import ResponseHead
from halfsync.http.upload import Segments
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from halfsync.endpoints.addresses import Address
    from halfsync.http.bounds import Bounds
    from halfsync.http.connections import Connection
    from halfsync.http.proxies import Proxies
    from halfsync.http.stream import Handler, RequestHead, Stream

log = get_logger(__name__)

KNOWN_ADDRESSES = 100
"""Addresses of ours that are remembered; on IPv6 they may be many."""

REASONS: dict[int, str] = {each.value: each.phrase for each in HTTPStatus}
"""By status."""


class Context:
    """One for each listener; whatever serves its clients is given it."""

    def __init__(
        self,
        handler: Handler,
        *,
        bounds: Bounds,
        access_log: bool,
        reactor: Any,
        proxies: Proxies | None = None,
        make_h2: Callable[[Context], Any],
    ) -> None:
        """Begin with nothing.

        :param make_h2: makes a connection of HTTP/2, when one is wanted.
        """
        self.handler = handler
        self.bounds = bounds
        self.access_log = access_log
        self.reactor = reactor
        self.seconds = reactor.seconds
        """The reactor's clock."""
        self.proxies = proxies
        """Whose word is taken on where a request comes from; None for nobody's."""
        self.memory = Account(bounds.memory)
        """For whatever requests and responses hold in memory."""
        self.connections = Connections(bounds, reactor, self.memory)
        self.counts = Counts()
        self.disk = Account(bounds.spool, most_files=bounds.most_files)
        """For responses that wait for slow clients."""
        self.upload_disk = Account(bounds.spool, most_files=bounds.most_files)
        """For request bodies."""
        for account, kind in ((self.memory, "memory"), (self.disk, "disk"), (self.upload_disk, "disk")):
            account.relief = Relief(
                account, kind, connections=self.connections, reactor=reactor, counts=self.counts.cut
            )
        self.segments = Segments(self.memory)
        """Memory that request bodies are read into."""
        self.make_h2 = make_h2
        self.reading_on = ReadingOn(reactor, self.connections.client_of)
        self.disk_thread = Disk(reactor)
        """For what may have to wait for the disk."""
        self.file_thread = Disk(reactor, "files")
        """The same for files that responses are made of, which may be on another one."""
        self._date = (0, "", b"")
        self._own_addresses: dict[Address, Address] = {}

    @property
    def draining(self) -> bool:
        """Whether the listener is being stopped."""
        return self.connections.draining

    def lower(self, bounds: Bounds) -> None:
        """Have other bounds, before there is any connection."""
        self.bounds = self.connections.bounds = bounds
        self.disk.most_files = self.upload_disk.most_files = bounds.most_files

    def date(self) -> str:
        """Return the present date as HTTP writes it."""
        now = int(time())
        if self._date[0] != now:
            date = datetimeToString(now)
            self._date = (now, date.decode("ascii"), b"Date: %b\r\n" % date)
        return self._date[1]

    def date_line(self) -> bytes:
        """Return the header Date with its end of line."""
        if self._date[0] != int(time()):
            self.date()
        return self._date[2]

    def own_address(self, address: Address) -> Address:
        """Return the one object there is for an address of ours: thousands of connections share it."""
        known = self._own_addresses.get(address)
        if known is None:
            if len(self._own_addresses) >= KNOWN_ADDRESSES:
                return address
            known = self._own_addresses[address] = address
        return known

    def limited_client(self, peer: Address) -> bytes | None:
        """Return by what a client is counted; None for a trusted proxy or a UNIX socket."""
        if self.proxies is not None and self.proxies.trusts(peer):
            return None
        return client_key(peer)

    def speak_h2(self, connection: Connection) -> Any:
        """Go on with a connection that turns out to speak HTTP/2."""
        other = self.make_h2(self)
        other.since = connection.since
        self.connections.replaced(connection, other)
        other.take_over(connection.transport)
        return other

    def plain(self, code: int, fields: Iterable[tuple[str, str]] = ()) -> tuple[ResponseHead, bytes]:
        """Return head and body of a short answer of our own."""
        reason = REASONS[code]
        body = reason.encode("ascii") + b"\n"
        head = ResponseHead(code, reason, [("Content-Type", "text/plain"), *fields], length=len(body))
        if code == HTTPStatus.SERVICE_UNAVAILABLE and not any(
            name == "Retry-After" for name, _ in head.fields
        ):
            head.fields.append(("Retry-After", "1"))
        return head, body

    def refusal(self, head: RequestHead, client: Address) -> int | None:
        """Return the status for a client that asks whether to send its body; None: it may.

        It asks by `Expect: 100-continue` (RFC 9110 section 10.1.1); the handler's method `refusal` decides.
        """
        ask = getattr(self.handler, "refusal", None)
        if ask is None:
            return None
        if self.proxies is not None and (host := self.proxies.origin(client, head.variables).host):
            head.variables = {**head.variables, "HTTP_HOST": host}
        try:
            code = ask(head)
            return None if code is None else _refusing(code)
        except Exception:
            log.exception("http.handler_failed", request=f"{head.method} {head.target.partition('?')[0]}")
            return HTTPStatus.INTERNAL_SERVER_ERROR

    def handle(self, stream: Stream, body: IO[bytes]) -> None:
        """Have a request answered that has arrived to its last byte."""
        head = stream.head
        special = head.special
        if self.proxies is not None:
            self._ask_proxies(self.proxies, stream)
        given = "x-request-id" in special or "traceparent" in special
        stream.request_id = (request_id.named(special) if given else None) or request_id.made()
        if head.target == "*":
            # It asks about the server, not a resource (RFC 9110 section 9.3.7).
            body.close()
            stream.answer(ResponseHead(200, "OK", length=0))
            return
        try:
            self.handler.handle(stream, head, body)
        except Exception:
            # A bug of a handler must not take the connection's parser with it.
            log.exception("http.handler_failed", request=describe(stream))
            body.close()
            if stream.code:
                stream.fail()
            else:
                stream.refuse(500)

    def answered(self, stream: Stream, *, aborted: bool = False) -> float:
        """Account for a request that is answered, or whose response is not completed; return the time."""
        now: float = self.seconds()
        seconds = now - stream.since
        if aborted and not stream.failed:
            self.counts.aborted += 1
        else:
            code = FAILED if aborted else stream.code
            self.counts.add(stream.head.method, code, seconds, stream.sent, stream.request_id)
        if self.access_log:
            log_answer(stream, seconds, aborted=aborted)
        return now

    def refused(self, client: Address, code: int, asked: Asked, reason: str = "") -> str:
        """Account for what was refused before there was a whole request; return what it is called.

        :param reason: for the log, where the status does not tell it.
        """
        self.counts.refused[code] = self.counts.refused.get(code, 0) + 1
        name = request_id.made()
        if self.access_log:
            log_refusal(address_text(client), code, name, asked, reason)
        return name

    def _ask_proxies(self, proxies: Proxies, stream: Stream) -> None:
        origin = proxies.origin(stream.client, stream.head.variables)
        if origin.client is not None:
            stream.client = origin.client
        if origin.host is not None:
            # Requests with the same headers share them.
            stream.head.variables = {**stream.head.variables, "HTTP_HOST": origin.host}
        if origin.secure is not None:
            stream.secure = origin.secure
        if origin.prefix:
            stream.prefix = origin.prefix


def _refusing(code: Any) -> int:
    if code not in REASONS or code < HTTPStatus.BAD_REQUEST:
        raise ValueError(f"{code!r} refuses no request; right are statuses from 400 on, and None")
    return int(code)


def describe(stream: Stream) -> str:
    """Say what a request asks for, for people; without its query, where tokens travel."""
    return f"{stream.head.method} {stream.head.target.partition('?')[0]}"
