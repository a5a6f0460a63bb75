"""What Prometheus reads: the halfsync' own figures, taken when it asks, and those of the service.

A request pays nothing for it: parts keep plain numbers, which are read at each scrape.
A service's own metrics are declared as prometheus_client documents it, and appear by themselves:

    ORDERS = prometheus_client.Counter("orders", "Orders taken.", ["kind"])

They live in the library's default registry, with its figures of the process, the collector and the platform.
"""

from __future__ import annotations

import platform
from itertools import accumulate, zip_longest
from typing import TYPE_CHECKING

from prometheus_client import Metric
from prometheus_client.core import REGISTRY, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString
from twisted import __version__ as twisted_version

from halfsync.life.errors import StartError
from halfsync.life.facts import gauge
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from halfsync.life import facts
    from halfsync.life.process import Process

log = get_logger(__name__)


class Metrics:
    """The figures of a process; see the module's text."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._reserved: _Reserved | None = None

    def text(self, accept: str = "") -> tuple[str, bytes]:
        """Return a content type and everything in it; what a service's own collector breaks is left out.

        :param accept: the header of the request: OpenMetrics for those who ask for it, which has exemplars.
        """
        found = list(self.collect())
        try:
            found += REGISTRY.collect()
        except Exception:
            log.exception("metrics.failed")
        try:
            encode, content_type = choose_encoder(accept)
        except (ValueError, TypeError):
            # A version that is no number.
            encode, content_type = choose_encoder("")
        return content_type, encode(_Found(found))

    def reserve(self) -> None:
        """Have a metric of the service's own that is called as one of ours refused when it is made.

        :raises StartError: when there is one already.
        """
        names = list(self.collect())
        self._reserved = _Reserved(names)
        try:
            REGISTRY.register(self._reserved)
        except ValueError:
            self._reserved = None
            clash = sorted({each.name for each in names} & {each.name for each in REGISTRY.collect()})
            # Without one, the names are reserved by another process object of this interpreter.
            if clash:
                raise StartError(
                    f"metrics: {clash[0]!r} is a metric of halfsync's, and of the service's own; rename that"
                ) from None

    def release(self) -> None:
        """Reserve the names no more."""
        if self._reserved is not None:
            REGISTRY.unregister(self._reserved)
            self._reserved = None

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
        yield from _families([ready, began, *process.metrics()])


class _Found(Collector):
    """What was collected already."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics


class _Reserved(Collector):
    """Names without figures."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def describe(self) -> list[Metric]:
        return self._metrics

    def collect(self) -> list[Metric]:
        return []


def _families(metrics: Iterable[facts.Metric]) -> Iterable[Metric]:
    """Make of what parts say one family for each name, as the format wants it."""
    families: dict[str, Metric] = {}
    for metric in metrics:
        family = families.setdefault(metric.name, Metric(metric.name, metric.about, metric.kind))
        for sample in metric.samples:
            labels = dict(sample.labels)
            if metric.kind == "histogram":
                bounds = [*map(floatToGoString, metric.bounds), "+Inf"]
                counted = zip_longest(bounds, accumulate(sample.counts), sample.exemplars)
                for bound, count, exemplar in counted:
                    family.add_sample(
                        f"{metric.name}_bucket", {**labels, "le": bound}, count, exemplar=_exemplar(exemplar)
                    )
                family.add_sample(f"{metric.name}_count", labels, sum(sample.counts))
                family.add_sample(f"{metric.name}_sum", labels, sample.value)
            else:
                suffix = "_total" if metric.kind == "counter" else ""
                family.add_sample(metric.name + suffix, labels, sample.value)
    return families.values()


def _exemplar(exemplar: facts.Exemplar | None) -> Exemplar | None:
    return Exemplar(dict(exemplar.labels), exemplar.value, exemplar.at) if exemplar else None
