"""What Prometheus reads: the halfsync' own figures, taken when it asks, and those of the service.

A request pays nothing for it: parts keep plain numbers, which are read at each scrape.
A service's own metrics are declared as prometheus_client documents it, and appear by themselves:

    ORDERS = prometheus_client.Counter("orders", "Orders taken.", ["kind"])

They live in the library's default registry, with its figures of the process, the collector and the platform.
"""

from __future__ import annotations

import platform
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import REGISTRY, InfoMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from twisted import __version__ as twisted_version

from halfsync.endpoints import tls
from halfsync.life.facts import gauge
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from halfsync.life import facts
    from halfsync.life.parts import Process

log = get_logger(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_CERTIFICATE = "When the first certificate expires (epoch)."


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
        about = {
            "name": process.about.name,
            "version": process.about.version,
            "python": platform.python_version(),
            "twisted": twisted_version,
        }
        yield InfoMetricFamily("service", "What runs here.", about)
        ready = gauge("service_ready", "1 while it is ready for work.", not process.problems())
        began = gauge("service_started_seconds", "When it began (epoch).", process.started)
        expiries = [
            gauge("tls_certificate_expires_seconds", _CERTIFICATE, each.expires, path=each.path)
            for each in tls.in_use()
        ]
        yield from _families([ready, began, *expiries, *process.metrics()])


def _families(metrics: Iterable[facts.Metric]) -> Iterable[Metric]:
    """Make of what parts say one family for each name, as the format wants it."""
    families: dict[str, Metric] = {}
    for metric in metrics:
        family = families.setdefault(metric.name, Metric(metric.name, metric.about, metric.kind))
        for sample in metric.samples:
            labels = dict(sample.labels)
            if metric.kind == "histogram":
                bounds = [*map(floatToGoString, metric.bounds), "+Inf"]
                for bound, count in zip(bounds, accumulate(sample.counts), strict=True):
                    family.add_sample(f"{metric.name}_bucket", {**labels, "le": bound}, count)
                family.add_sample(f"{metric.name}_count", labels, sum(sample.counts))
                family.add_sample(f"{metric.name}_sum", labels, sample.value)
            else:
                suffix = "_total" if metric.kind == "counter" else ""
                family.add_sample(metric.name + suffix, labels, sample.value)
    return families.values()
