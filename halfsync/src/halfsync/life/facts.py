"""What parts say of themselves, as plain values: for log, admin interface, metrics and manhole."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twisted.internet.defer import Deferred


@dataclass(frozen=True, slots=True)
class RunningRequest:
    """A request that has arrived and is not answered to its end."""

    part: str
    """The name of the part that it came to."""
    method: str
    """`GET`; of RPC, how it is called: `call`."""
    path: str
    """Without its query; of RPC, the name of the function."""
    peer: str
    """The client's address."""
    since: float
    """When its first byte arrived, in the reactor's seconds."""
    thread: str | None = None
    """The name of the worker thread that runs it; None while it waits, or when it runs in the reactor."""
    request_id: str = ""
    """What it is called in the logs, here and elsewhere."""


@dataclass(frozen=True, slots=True)
class OpenConnection:
    """A connection that a client has made."""

    part: str
    """The name of the part that accepted it."""
    peer: str
    """The client's address."""
    age: float | None = None
    """Seconds since it was opened; None where the protocol does not note it."""
    asked: int | None = None
    """How many requests it has had; None where there are none."""
    at: str = ""
    """The requests that it waits for now, or what it has become: `websocket: GET /chat`."""
    idle: float | None = None
    """Seconds since data came from the client or went to it; None where the kernel does not know."""
    unsent: int = 0
    """Bytes that neither the client nor the kernel has taken."""
    memory: int = 0
    """Bytes that it counts for in the memory of its listener."""
    disk: int = 0
    """Bytes that it counts for on the disk."""


@dataclass(frozen=True, slots=True)
class WorkerThread:
    """A thread of a pool and what it runs."""

    thread: str
    ident: int
    label: str | None
    """What it runs; None when it is idle."""
    since: float | None
    """When it began that, in seconds since the epoch."""


class PeriodicTask(Protocol):
    """A task that runs again and again, as the admin interface and the manhole show and run it."""

    @property
    def label(self) -> str:
        """Its name."""

    @property
    def busy(self) -> bool:
        """Whether a run goes on."""

    @property
    def last_error(self) -> str | None:
        """The error of the last run; None when that succeeded."""

    def run_now(self) -> Deferred[object]:
        """Run at once, or join the run that goes on."""

    def snapshot(self) -> dict[str, Any]:
        """Return the state for people and machines; times in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Exemplar:
    """An observation that stands for others in the same bucket of a histogram."""

    value: float
    at: float
    """In seconds since the epoch."""
    labels: Mapping[str, str]
    """What leads to it: `{"request_id": ...}`."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One figure of a metric."""

    value: float
    """Of a histogram, the sum of what was observed."""
    labels: Mapping[str, str] = field(default_factory=dict)
    counts: Sequence[int] = ()
    """Of a histogram: how many observations fell into each of its buckets, and one more beyond the last."""
    exemplars: Sequence[Exemplar | None] = ()
    """Of a histogram: the latest observation of each bucket, as far as it is known."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A family of figures under one name; parts that use the same name share it."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    """As Prometheus spells it, without `_total`."""
    about: str
    """One sentence."""
    samples: Sequence[Sample] = field(default=())
    bounds: Sequence[float] = ()
    """Of a histogram: the upper bounds of its buckets, without infinity."""


def counter(name: str, about: str, value: float, **labels: str) -> Metric:
    """Return a counter with one sample."""
    return Metric("counter", name, about, (Sample(value, labels),))


def gauge(name: str, about: str, value: float | None, **labels: str) -> Metric:
    """Return a gauge with one sample, or with none when there is no value."""
    return Metric("gauge", name, about, () if value is None else (Sample(value, labels),))
