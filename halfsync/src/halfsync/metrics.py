"""What Prometheus reads: the halfsync' own figures, taken when it asks, and those of the service.

A request pays nothing for it: parts keep plain numbers, which are read at each scrape.
A service's own metrics are declared as prometheus_client documents it, and appear by themselves:

    ORDERS = prometheus_client.Counter("orders", "Orders taken.", ["kind"])

They live in the library's default registry, with its figures of the process, the collector and the platform.
"""

from __future__ import annotations

import platform
from itertools import accumulate
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import REGISTRY, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.core import CounterMetricFamily as Counter
from prometheus_client.core import GaugeMetricFamily as Gauge
from prometheus_client.registry import Collector
from twisted import __version__ as twisted_version

from halfsync import stacks
from halfsync.endpoints import tls
from halfsync.http.access_log import BUCKETS
from halfsync.http.site import Site
from halfsync.logs import get_logger
from halfsync.manhole import Manhole
from halfsync.workers import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prometheus_client import Metric

    from halfsync.life.parts import Process

    Row = tuple[type[Counter | Gauge], str, str, Callable[[Any], float | None]]
    """A family: its kind, name and meaning, and how it is read off a thing; None leaves the thing out."""

log = get_logger(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_PROCESS: tuple[Row, ...] = (
    (Gauge, "service_ready", "1 while it is ready for work.", lambda process: not process.problems()),
    (Gauge, "service_started_seconds", "When it began (epoch).", attrgetter("started")),
)

_SITE: tuple[Row, ...] = (
    (Counter, "http_sent_bytes", "Bytes of bodies sent.", attrgetter("counts.bytes")),
    (Counter, "http_aborted", "Connections lost before the response.", attrgetter("counts.aborted")),
    (Counter, "http_connections_accepted", "Connections.", attrgetter("counts.connections")),
    (Gauge, "http_requests_in_flight", "Not yet answered.", lambda site: len(site.in_flight())),
    (Gauge, "http_connections", "Open connections.", attrgetter("connections")),
)

_POOL: tuple[Row, ...] = (
    (Gauge, "workers_limit", "Threads there may be.", attrgetter("threads")),
    (Gauge, "workers_busy", "Threads that hold something.", attrgetter("busy")),
    (Gauge, "workers_waiting", "Calls that wait for a thread.", attrgetter("waiting")),
    (Gauge, "workers_waiting_limit", "Calls that may wait.", attrgetter("queue")),
    (Counter, "workers_refused", "Calls for which there was no room.", attrgetter("refused")),
)

_TASK: tuple[Row, ...] = (
    (Counter, "task_runs", "Runs that have ended.", attrgetter("runs")),
    (Counter, "task_failures", "Runs that have failed.", attrgetter("failures")),
    (Counter, "task_skipped", "Beats during a run.", attrgetter("skipped")),
    (Gauge, "task_running", "1 during a run.", attrgetter("busy")),
    (Gauge, "task_last_duration_seconds", "Of the last run.", attrgetter("last_duration")),
    (Gauge, "task_last_started_seconds", "Of the last run (epoch).", attrgetter("last_started")),
)

_MANHOLE: tuple[Row, ...] = (
    (Gauge, "manhole_open", "1 while it is open.", lambda manhole: manhole.state()["open"]),
    (Gauge, "manhole_sessions", "People in it.", lambda manhole: len(manhole.state()["sessions"])),
    (Counter, "manhole_openings", "Times it was opened.", attrgetter("counts.opened")),
    (Counter, "manhole_logins", "Times somebody got in.", attrgetter("counts.logins")),
    (Counter, "manhole_refusals", "Keys and connections refused.", attrgetter("counts.refused")),
)

_CERTIFICATE: tuple[Row, ...] = (
    (
        Gauge,
        "tls_certificate_expires_seconds",
        "When the first certificate expires (epoch).",
        attrgetter("expires"),
    ),
)


class Metrics(Collector):
    """The figures of a process; see the module's text."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self) -> bytes:
        """Return everything in Prometheus' text format; what a service's own collector breaks is left out."""
        own = generate_latest(self._registry)
        try:
            return own + generate_latest(REGISTRY)
        except Exception:
            log.exception("metrics.failed")
            return own

    def describe(self) -> list[Metric]:
        """Declare no names in advance: there may be no parts yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read every part."""
        process = self._process
        facts = {
            "name": process.about.name,
            "version": process.about.version,
            "python": platform.python_version(),
            "twisted": twisted_version,
        }
        yield InfoMetricFamily("service", "What runs here.", facts)
        yield from _families(_PROCESS, None, {"": process})
        factories = {str(part.name): getattr(part, "factory", None) for part in process}
        sites = {name: factory for name, factory in factories.items() if isinstance(factory, Site)}
        yield from _by_status(sites)
        yield from _families(_SITE, "listener", sites)
        pools = {part.label: part for part in process if isinstance(part, WorkerPool)}
        yield from _families(_POOL, "pool", pools)
        yield from _families(_TASK, "task", {task.label: task for task in stacks.tasks(process)})
        manholes = {str(part.name): part for part in process if isinstance(part, Manhole)}
        yield from _families(_MANHOLE, None, manholes)
        yield from _families(_CERTIFICATE, "path", {each.path: each for each in tls.in_use()})


def _families(rows: Iterable[Row], label: str | None, things: Mapping[str, object]) -> Iterator[Metric]:
    """Read each row off every thing; the things are named by the label's values, and one needs no label."""
    for kind, name, meaning, read in rows:
        family = kind(name, meaning, labels=[label] if label else [])
        for value, thing in things.items():
            number = read(thing)
            if number is not None:
                family.add_metric([value] if label else [], number)
        yield family


def _by_status(sites: dict[str, Site]) -> Iterator[Metric]:
    requests = Counter("http_requests", "Responses sent.", labels=["listener", "method", "status"])
    refused = Counter("http_refused", "Refused before there was a request.", labels=["listener", "status"])
    seconds = HistogramMetricFamily(
        "http_request_seconds", "From a request's first byte to its response's last.", labels=["listener"]
    )
    for name, site in sites.items():
        counts = site.counts
        for (method, status), number in counts.requests.items():
            requests.add_metric([name, method, str(status)], number)
        for status, number in counts.refused.items():
            refused.add_metric([name, str(status)], number)
        bounds = [*map(str, BUCKETS), "+Inf"]
        buckets = list(zip(bounds, accumulate(counts.durations), strict=True))
        seconds.add_metric([name], buckets, sum_value=counts.seconds)
    yield from (requests, seconds, refused)
