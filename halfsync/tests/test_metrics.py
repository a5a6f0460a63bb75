from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from prometheus_client import REGISTRY, Counter
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from structlog.testing import capture_logs
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.web.resource import Resource

from certificates import make_certificate, write
from children import SOURCES
from halfsync.endpoints.listener import Listener
from halfsync.http.bounds import Bounds
from halfsync.http.part import HttpListener
from halfsync.http.site import Site
from halfsync.life.about import About
from halfsync.life.facts import Exemplar, Metric, Sample
from halfsync.life.process import Process
from halfsync.manhole import Manhole
from halfsync.metrics import Metrics
from halfsync.periodic import Periodic
from halfsync.tasks import Tasks
from halfsync.workers.pool import WorkerPool


class Hello(Resource):
    """Says hello."""

    isLeaf = True

    def render_GET(self, _request):
        """Answer at once."""
        return b"hello"


@pytest.fixture
def process():
    """One part of each kind, on a clock that stands still."""
    clock = Clock()
    process = Process(About(name="hello", package="hello", version="1.2", summary=""), clock)
    process.add(Manhole(process, listen=[], authorized_keys="/nowhere", host_key="/nowhere", user="u"))
    process.add(WorkerPool("workers", threads=3, queue=7, reactor=clock))
    site = Site(Hello(), bounds=Bounds(), access_log=False, reactor=clock)
    process.add(HttpListener("web", flag="web.listen", endpoints=[], site=site, reactor=clock))

    async def fail():
        raise ValueError("no")

    process.add(Tasks(Periodic("tick", 10, fail, reactor=clock)))
    with capture_logs():
        Deferred.fromCoroutine(process.start())
    return process


def samples(process):
    """Parse the exposition as Prometheus would."""
    families = list(text_string_to_metric_families(Metrics(process).text()[1].decode()))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_each_part_is_read_at_the_scrape(process):
    """The figures are those of the parts at that moment."""
    connection = process.part("web").factory.buildProtocol(None)
    connection.makeConnection(StringTransport(peerAddress=IPv4Address("TCP", "127.0.0.1", 1)))
    connection.dataReceived(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2 + b"GET / HTTP/1.1\r\nHo")
    found = samples(process)
    expected = {
        ("service_ready",): 1,
        ("http_requests_total", "web", "GET", "200"): 2,
        ("http_request_seconds_bucket", "+Inf", "web"): 2,
        ("http_request_seconds_bucket", "0.001", "web"): 2,
        ("http_request_seconds_count", "web"): 2,
        ("http_sent_bytes_total", "web"): 10,
        ("http_connections_accepted_total", "web"): 1,
        ("http_connections", "web"): 1,
        ("http_requests_in_flight", "web"): 0,
        ("workers_limit", "workers"): 3,
        ("workers_waiting_limit", "workers"): 7,
        ("workers_busy", "workers"): 0,
        ("task_runs_total", "tick"): 1,
        ("task_failures_total", "tick"): 1,
        ("task_last_duration_seconds", "tick"): 0,
        ("manhole_open",): 0,
        ("manhole_sessions",): 0,
    }
    assert {key: found.get(key) for key in expected} == expected
    _, text = Metrics(process).text("application/openmetrics-text")
    exemplar = (
        rb'http_request_seconds_bucket\{le="0.001",listener="web"\} 2.0 # \{request_id="[^"]+"\} [\d.]+ \d'
    )
    assert re.search(exemplar, text)
    [info] = [key for key in found if key[0] == "service_info"]
    assert set(info) >= {"hello", "1.2"}


def test_readiness_is_the_process_own(process):
    """A process that drains is not ready."""
    process.state = "draining"
    assert samples(process)["service_ready",] == 0


def test_a_service_declares_its_own_as_usual(process):
    """What is in prometheus_client's default registry appears, with the library's own of the process."""
    counter = Counter("halfsync_test_orders", "Orders.", ["kind"])
    try:
        counter.labels("book").inc(3)
        found = samples(process)
    finally:
        REGISTRY.unregister(counter)
    assert found["halfsync_test_orders_total", "book"] == 3
    assert ("process_open_fds",) in found


def test_a_broken_collector_costs_only_the_services_own(process):
    """When a service's collector raises, the halfsync' figures are still there, and the log says why."""

    class Broken(Collector):
        def describe(self):
            return []

        def collect(self):
            raise RuntimeError("bug")

    broken = Broken()
    REGISTRY.register(broken)
    try:
        with capture_logs() as events:
            found = samples(process)
    finally:
        REGISTRY.unregister(broken)
    assert found["service_ready",] == 1
    assert [event["event"] for event in events] == ["metrics.failed"]


def test_the_end_of_each_certificate_in_use(process, tmp_path):
    """By the file that it is in, in seconds since the epoch, as of the last reload."""
    key = "tls_certificate_expires_seconds"
    pairs = [make_certificate("a.test", days=days) for days in (20, 90)]
    path = write(tmp_path / "a.pem", *pairs[0])
    assert [name for name in samples(process) if name[0] == key] == []
    endpoint = f"ssl:0:interface=127.0.0.1:privateKey={path}"
    reactor = MemoryReactorClock()
    listener = process.add(
        Listener("tls", flag="x", endpoints=[endpoint], factory=Factory(), reactor=reactor)
    )
    with capture_logs():
        Deferred.fromCoroutine(listener.bind(process.sockets))
        try:
            for certificate, private in pairs:
                write(path, certificate, private)
                process.reload()
                assert samples(process)[key, str(path)] == certificate.not_valid_after_utc.timestamp()
            path.write_text("broken")
            process.reload()
            assert samples(process)[key, str(path)] == pairs[-1][0].not_valid_after_utc.timestamp()
        finally:
            Deferred.fromCoroutine(listener.unbind())
    assert [name for name in samples(process) if name[0] == key] == []


def test_a_bare_process_has_figures():
    """Nothing is assumed of a process."""
    process = Process(About(name="hello", package="hello", version="1", summary=""), Clock())
    assert samples(process)["service_ready",] == 0


def test_openmetrics_is_for_those_who_ask(process):
    """Whole, with its end marked once; others, and those who ask strangely, get the old format."""
    content_type, text = Metrics(process).text("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert text.count(b"# EOF") == 1
    families = {family.name for family in openmetrics.text_string_to_metric_families(text.decode())}
    assert {"service_ready", "http_requests", "process_open_fds"} <= families
    for accept in ("", "text/html", "application/openmetrics-text;version=x"):
        content_type, text = Metrics(process).text(accept)
        assert content_type == "text/plain; version=0.0.4; charset=utf-8"
        assert b"# EOF" not in text


def test_an_exemplar_leads_from_a_bucket_to_a_request(process):
    """In OpenMetrics; the older format has no place for it."""
    exemplar = Exemplar(0.07, 1e9, {"request_id": "abc"})
    slow = Metric(
        "histogram", "x_seconds", "X.", [Sample(0.08, counts=[1, 1], exemplars=[None, exemplar])], [0.05]
    )
    process.part("workers").metrics = lambda: [slow]
    _, text = Metrics(process).text("application/openmetrics-text;version=1.0.0")
    assert b'x_seconds_bucket{le="+Inf"} 2.0 # {request_id="abc"} 0.07 1000000000.0\n' in text
    assert b"abc" not in Metrics(process).text()[1]


RESERVED = """
from prometheus_client import Counter
from halfsync.life.about import About
from halfsync.life.errors import StartError
from halfsync.life.process import Process
from halfsync.http.bounds import Bounds
from halfsync.http.listener import WebListener
from halfsync.http.site import Site
from halfsync.metrics import Metrics
from twisted.internet.task import Clock
from twisted.web.resource import Resource
from halfsync.testing import flags_set

clock = Clock()
process = Process(About("x"), clock)
with flags_set():
    process.add(WebListener.from_flags(Resource(), clock))
metrics = Metrics(process)
metrics.reserve()
try:
    Counter("http_requests", "Mine.")
except ValueError as error:
    print("http_requests_total" in str(error))
metrics.release()
Counter("http_requests", "Mine.")
try:
    metrics.reserve()
except StartError as error:
    print(error)
"""


def test_a_metric_of_ours_cannot_be_made_again():
    """By the service: it is refused where it is made, or at the start when it has been made before."""
    run = subprocess.run(
        [sys.executable, "-c", RESERVED],
        env={"PYTHONPATH": str(SOURCES), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    first, second = run.stdout.splitlines()
    assert first == "True", run.stderr
    assert "'http_requests' is a metric of halfsync's" in second
