"""A listener that speaks HTTP, as a part of the process: what it says of its requests and connections."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from halfsync._later import later
from halfsync.endpoints.listener import Listener
from halfsync.life.facts import Exemplar, Metric, OpenConnection, RunningRequest, Sample, counter, gauge
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from halfsync.endpoints import addresses, connections
    from halfsync.endpoints.endpoint import Endpoint
    from halfsync.http import access_log, rate
    from halfsync.http import context as contexts
    from halfsync.http.site import Site
else:
    access_log = later("halfsync.http.access_log")
    addresses = later("halfsync.endpoints.addresses")
    connections = later("halfsync.endpoints.connections")
    contexts = later("halfsync.http.context")
    rate = later("halfsync.http.rate")

log = get_logger(__name__)

LONGEST_ID = 100
"""Characters of an id that an exemplar has room for: OpenMetrics allows 128, names of labels included."""


class HttpListener(Listener):
    """Endpoint strings that serve a site."""

    def __init__(
        self, name: str, *, flag: str, endpoints: Sequence[Endpoint | str], site: Site, reactor: Any
    ) -> None:
        super().__init__(name, flag=flag, endpoints=endpoints, factory=site, reactor=reactor)
        self.site = site

    def open_files(self) -> int:
        """Return how many files there may be at most: connections, and requests and responses on the disk."""
        bounds = self.site.bounds
        return super().open_files() + bounds.connections + 2 * bounds.most_files

    def allow_open_files(self, most: int) -> None:
        """Have fewer connections, and fewer files for what they hold."""
        super().allow_open_files(most)
        context = self.site.context
        asked = context.bounds
        files = max(1, min(asked.most_files, most // 16))
        left = most - super().open_files() - 2 * files
        # Those that are turned away are an eighth of the others, and 64.
        fewer = max(1, min(asked.max_connections, (left - 64) * 8 // 9))
        context.lower(replace(asked, max_connections=fewer, most_files=files))
        event = f"{self.label}.max_connections_lowered"
        log.warning(event, asked=asked.max_connections, used=fewer, open_files=most)

    def requests(self) -> list[RunningRequest]:
        """Return the requests that are not answered to their end."""
        return self.site.in_flight(self.label)

    def connections(self) -> list[OpenConnection]:
        """Return the open connections."""
        context = self.site.context
        now = context.seconds()
        return [
            OpenConnection(
                self.label,
                addresses.address_text(connection.client),
                age=now - connection.since,
                asked=connection.asked,
                # Of one that became a websocket there are no requests.
                at=getattr(connection, "at", "") or ", ".join(map(contexts.describe, connection.streams())),
                idle=connections.idle(connection.transport),
                unsent=rate.unsent(connection.transport),
                memory=context.memory.held_by(connection),
                disk=context.disk.held_by(connection) + context.upload_disk.held_by(connection),
            )
            for connection in context.connections
        ]

    def problems(self) -> list[str]:
        """Say which endpoint no longer accepts, and when there is no memory left for a request."""
        memory = self.site.context.memory
        taken = [f"all {memory.limit} bytes for requests and responses are taken"] if memory.full else []
        return super().problems() + taken

    def metrics(self) -> Iterator[Metric]:
        """Return counts of requests and connections, and a histogram of durations."""
        yield from super().metrics()
        site, counts, name = self.site, self.site.counts, {"listener": self.label}
        yield Metric(
            "counter",
            "http_requests",
            "Responses sent.",
            [
                Sample(number, {**name, "method": method, "status": str(status)})
                for (method, status), number in counts.requests.items()
            ],
        )
        yield Metric(
            "histogram",
            "http_request_seconds",
            "From a request's first byte to its response's last.",
            [Sample(counts.seconds, name, counts.durations, [_exemplar(each) for each in counts.latest])],
            access_log.BUCKETS,
        )
        yield Metric(
            "counter",
            "http_refused",
            "Refused before there was a request.",
            [Sample(number, {**name, "status": str(status)}) for status, number in counts.refused.items()],
        )
        accounts = (
            ("memory", site.context.memory),
            ("responses_on_disk", site.context.disk),
            ("requests_on_disk", site.context.upload_disk),
        )
        labels = [{**name, "account": account} for account, _ in accounts]
        yield Metric(
            "gauge",
            "http_held_bytes",
            "What clients hold.",
            [Sample(each.taken, label) for (_, each), label in zip(accounts, labels, strict=True)],
        )
        yield Metric(
            "gauge",
            "http_held_limit_bytes",
            "What clients may hold.",
            [Sample(each.limit, label) for (_, each), label in zip(accounts, labels, strict=True)],
        )
        yield Metric(
            "counter",
            "http_holders_cut",
            "Connections cut, as they held most of what was all taken.",
            [Sample(counts.cut[each], {**name, "account": each}) for each in ("memory", "disk")],
        )
        yield counter("http_sent_bytes", "Bytes of bodies sent.", counts.bytes, **name)
        yield counter("http_aborted", "Clients gone before their whole response.", counts.aborted, **name)
        yield counter("http_connections_accepted", "Connections.", site.context.connections.accepted, **name)
        yield gauge("http_requests_in_flight", "Not yet answered.", len(self.requests()), **name)
        yield gauge("http_connections", "Open connections.", site.connections, **name)


def _exemplar(request: tuple[float, float, str] | None) -> Exemplar | None:
    """Return what leads from a bucket to a request in the log; an id may be longer than the format allows."""
    if request is None or not 0 < len(request[2]) <= LONGEST_ID:
        return None
    seconds, at, request_id = request
    return Exemplar(seconds, at, {"request_id": request_id})
