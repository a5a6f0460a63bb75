"""What Prometheus reads: the chassis' own figures, taken when it asks, and those of the service.

A request pays nothing for it: parts keep plain numbers, which are read at each scrape.
A service's own metrics are declared as prometheus_client documents it, and appear by themselves:

    ORDERS = prometheus_client.Counter("orders", "Orders taken.", ["kind"])

They live in the library's default registry, with its figures of the process, the collector and the platform.
"""

from __future__ import annotations

import platform
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    REGISTRY,
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.registry import Collector
from twisted import __version__ as twisted_version

from . import stacks, tls
from .http.access_log import BUCKETS
from .http.site import Site
from .logs import get_logger
from .manhole import Manhole
from .workers import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from .lifecycle import Process

log = get_logger(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


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
        yield from self._of_process()
        yield from self._of_http()
        yield from self._of_workers()
        yield from self._of_tasks()
        yield from self._of_manhole()
        yield from self._of_tls()

    def _of_process(self) -> Iterator[Metric]:
        process = self._process
        facts = {
            "name": process.about.name,
            "version": process.about.version,
            "python": platform.python_version(),
            "twisted": twisted_version,
        }
        yield InfoMetricFamily("service", "What runs here.", facts)
        ready = not process.problems()
        yield GaugeMetricFamily("service_ready", "1 while it is ready for work.", value=ready)
        yield GaugeMetricFamily("service_started_seconds", "When it began (epoch).", value=process.started)

    def _of_http(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "http_requests", "Responses sent.", labels=["listener", "method", "status"]
        )
        seconds = HistogramMetricFamily(
            "http_request_seconds", "From a request's first byte to its response's last.", labels=["listener"]
        )
        refused = CounterMetricFamily(
            "http_refused", "Refused before there was a request.", labels=["listener", "status"]
        )
        sent = CounterMetricFamily("http_sent_bytes", "Bytes of bodies sent.", labels=["listener"])
        aborted = CounterMetricFamily(
            "http_aborted", "Connections lost before the response.", labels=["listener"]
        )
        accepted = CounterMetricFamily("http_connections_accepted", "Connections.", labels=["listener"])
        in_flight = GaugeMetricFamily("http_requests_in_flight", "Not yet answered.", labels=["listener"])
        connections = GaugeMetricFamily("http_connections", "Open connections.", labels=["listener"])
        for part in self._process:
            site = getattr(part, "factory", None)
            if not isinstance(site, Site):
                continue
            name, counts = str(part.name), site.counts
            for (method, status), number in counts.requests.items():
                requests.add_metric([name, method, str(status)], number)
            for status, number in counts.refused.items():
                refused.add_metric([name, str(status)], number)
            bounds = [*map(str, BUCKETS), "+Inf"]
            buckets = list(zip(bounds, accumulate(counts.durations), strict=True))
            seconds.add_metric([name], buckets, sum_value=counts.seconds)
            sent.add_metric([name], counts.bytes)
            aborted.add_metric([name], counts.aborted)
            accepted.add_metric([name], counts.connections)
            in_flight.add_metric([name], len(site.in_flight()))
            connections.add_metric([name], site.connections)
        yield from (requests, seconds, refused, sent, aborted, accepted, in_flight, connections)

    def _of_workers(self) -> Iterator[Metric]:
        limit = GaugeMetricFamily("workers_limit", "Threads there may be.", labels=["pool"])
        busy = GaugeMetricFamily("workers_busy", "Threads that hold something.", labels=["pool"])
        waiting = GaugeMetricFamily("workers_waiting", "Calls that wait for a thread.", labels=["pool"])
        room = GaugeMetricFamily("workers_waiting_limit", "Calls that may wait.", labels=["pool"])
        refused = CounterMetricFamily(
            "workers_refused", "Calls for which there was no room.", labels=["pool"]
        )
        for part in self._process:
            if isinstance(part, WorkerPool):
                limit.add_metric([part.label], part.threads)
                busy.add_metric([part.label], part.busy)
                waiting.add_metric([part.label], part.waiting)
                room.add_metric([part.label], part.queue)
                refused.add_metric([part.label], part.refused)
        yield from (limit, busy, waiting, room, refused)

    def _of_tasks(self) -> Iterator[Metric]:
        runs = CounterMetricFamily("task_runs", "Runs that have ended.", labels=["task"])
        failures = CounterMetricFamily("task_failures", "Runs that have failed.", labels=["task"])
        skipped = CounterMetricFamily("task_skipped", "Beats during a run.", labels=["task"])
        busy = GaugeMetricFamily("task_running", "1 during a run.", labels=["task"])
        took = GaugeMetricFamily("task_last_duration_seconds", "Of the last run.", labels=["task"])
        began = GaugeMetricFamily("task_last_started_seconds", "Of the last run (epoch).", labels=["task"])
        for task in stacks.tasks(self._process):
            runs.add_metric([task.label], task.runs)
            failures.add_metric([task.label], task.failures)
            skipped.add_metric([task.label], task.skipped)
            busy.add_metric([task.label], task.busy)
            if task.last_duration is not None:
                took.add_metric([task.label], task.last_duration)
            if task.last_started is not None:
                began.add_metric([task.label], task.last_started)
        yield from (runs, failures, skipped, busy, took, began)

    def _of_manhole(self) -> Iterator[Metric]:
        for part in self._process:
            if isinstance(part, Manhole):
                state = part.state()
                yield GaugeMetricFamily("manhole_open", "1 while it is open.", value=state["open"])
                yield GaugeMetricFamily("manhole_sessions", "People in it.", value=len(state["sessions"]))
                counts = part.counts
                yield CounterMetricFamily("manhole_openings", "Times it was opened.", value=counts.opened)
                yield CounterMetricFamily("manhole_logins", "Times somebody got in.", value=counts.logins)
                yield CounterMetricFamily(
                    "manhole_refusals", "Keys and connections refused.", value=counts.refused
                )

    def _of_tls(self) -> Iterator[Metric]:
        expires = GaugeMetricFamily(
            "tls_certificate_expires_seconds", "When the first certificate expires (epoch).", labels=["path"]
        )
        for path, when in {each.path: each.expires for each in tls.in_use()}.items():
            expires.add_metric([path], when)
        yield expires
