"""What the connections and requests of one listener share: bounds, room, time, counts, the handler."""

from __future__ import annotations

from http import HTTPStatus
from time import time
from typing import IO, TYPE_CHECKING, Any

from twisted.web.http import datetimeToString

from halfsync.http import request_id
from halfsync.http.access_log import Counts, log_answer, log_refusal
from halfsync.http.connections import Connections
from halfsync.http.spool import Space
from halfsync.http.stream import ResponseHead
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from halfsync.http.bounds import Bounds
    from halfsync.http.proxies import Proxies
    from halfsync.http.stream import Address, Handler, Stream

log = get_logger(__name__)

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
    ) -> None:
        self.handler = handler
        self.bounds = bounds
        self.access_log = access_log
        self.reactor = reactor
        self.seconds = reactor.seconds
        """The reactor's clock."""
        self.proxies = proxies
        """Whose word is taken on where a request comes from; None for nobody's."""
        self.connections = Connections(bounds, reactor)
        self.counts = Counts()
        self.memory = Space(bounds.memory)
        """For whatever requests and responses hold in memory."""
        self.disk = Space(bounds.spool)
        """For responses that wait for slow clients."""
        self.upload_disk = Space(bounds.spool)
        """For request bodies."""
        self._date = (0, "")

    def date(self) -> str:
        """Return the present date as HTTP writes it."""
        now = int(time())
        if self._date[0] != now:
            self._date = (now, datetimeToString(now).decode("ascii"))
        return self._date[1]

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

    def handle(self, stream: Stream, body: IO[bytes]) -> None:
        """Have a request answered that has arrived to its last byte."""
        head = stream.head
        special = head.special
        stream.request_id = request_id.named(special) or request_id.made()
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
                stream.abort()
            else:
                stream.refuse(500)

    def answered(self, stream: Stream, *, aborted: bool = False) -> None:
        """Account for a request that has been answered, or whose client left before that."""
        seconds = self.seconds() - stream.since
        if aborted:
            self.counts.aborted += 1
        else:
            self.counts.add(stream.head.method, stream.code, seconds, stream.sent)
        if self.access_log:
            log_answer(stream, seconds, aborted=aborted)

    def refused(self, client: Address, code: int) -> None:
        """Account for what was refused before there was a whole request."""
        self.counts.refused[code] = self.counts.refused.get(code, 0) + 1
        if self.access_log:
            log_refusal(str(client), code)


def describe(stream: Stream) -> str:
    """Say what a request asks for, for people; without its query, where tokens travel."""
    return f"{stream.head.method} {stream.head.target.partition('?')[0]}"
