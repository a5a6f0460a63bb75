from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
import treq
from prometheus_client import CollectorRegistry, Gauge
from structlog.contextvars import get_contextvars
from structlog.testing import capture_logs
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from children import child
from halfsync import flags, metrics
from halfsync.admin import Admin, info
from halfsync.admin.body import LONGEST
from halfsync.admin.token import check_token_file
from halfsync.life.about import About
from halfsync.life.errors import StartError
from halfsync.life.facts import RunningRequest, WorkerThread
from halfsync.life.parts import Part
from halfsync.life.process import Process
from halfsync.periodic import Periodic
from halfsync.tasks import Tasks
from halfsync.workers.pool import WorkerPool

ABOUT = About(name="hello", package="hello", version="1.2", summary="Says hello.")

HERE = IPv4Address("TCP", "127.0.0.1", 8081)
LOCAL = IPv4Address("TCP", "127.0.0.1", 40000)


class FakeManhole(Part):
    """Opens and closes as it is told, or says why not."""

    def __init__(self):
        super().__init__("manhole")
        self.said: list[tuple[object, ...]] = []
        self.fault: Exception | None = None

    async def open(self, ttl=None):
        """Open, or raise the fault."""
        if self.fault:
            raise self.fault
        self.said.append(("open", ttl))

    async def close(self, reason):
        """Close."""
        self.said.append(("close", reason))

    def state(self):
        """Tell."""
        return {"open": bool(self.said), "addresses": [], "closes_at": 1000.5, "sessions": [{"since": 0.0}]}


class Service:
    """A process with an admin interface that is spoken to in memory."""

    def __init__(self, **settings):
        self.clock = Clock()
        self.process = Process(ABOUT, self.clock)
        self.admin = self.process.add(Admin(self.process, listen=[], **settings))
        self.manhole = self.process.add(FakeManhole())
        self.answers: list[Deferred[object]] = []
        self.process.add(Tasks(Periodic("tick", 60, self._tick, reactor=self.clock, now=False)))
        Deferred.fromCoroutine(self.process.start())

    async def _tick(self):
        self.answers.append(Deferred())
        await self.answers[-1]

    def send(self, raw, peer=LOCAL, local=HERE):
        """Send bytes on a new connection; return the transport."""
        transport = StringTransport(peerAddress=peer, hostAddress=local)
        connection = self.admin.factory.buildProtocol(None)
        connection.makeConnection(transport)
        connection.dataReceived(raw)
        self.connection = connection
        return transport

    def ask(self, method, path, body=None, *, peer=LOCAL, local=HERE, version="1.1", **headers):
        """Make a request; return what `read` does."""
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        fields = {"Host": "localhost:8081", "Content-Type": "application/json", "Content-Length": len(data)}
        fields.update({name.replace("_", "-"): value for name, value in headers.items()})
        head = "".join(
            f"{name}: {each}\r\n"
            for name, value in fields.items()
            if value is not None
            for each in (value if isinstance(value, list) else [value])
        )
        request = f"{method} {path} HTTP/{version}\r\n{head}\r\n".encode() + data
        return read(self.send(request, peer, local))


def read(transport):
    """Return an answer's status, headers and body, which is parsed when it is JSON."""
    head, _, data = transport.value().partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    if data and headers["content-type"] == "application/json":
        data = json.loads(data)
    return int(first.split()[1]), headers, data


@pytest.fixture
def service():
    """A started service; the log's level is what it was afterwards."""
    root = logging.getLogger()
    before = root.level
    yield Service()
    root.setLevel(before)


def test_live_and_ready(service):
    """Live always; ready only while the process is, with the reasons."""
    assert service.ask("GET", "/health/live")[0] == 200
    assert service.ask("GET", "/health/ready")[::2] == (200, {"ready": True, "problems": []})
    service.process.state = "draining"
    assert service.ask("GET", "/health/live")[0] == 200
    answer = {"ready": False, "problems": ["the process is draining"]}
    assert service.ask("GET", "/health/ready")[::2] == (503, answer)
    service.process.state = "running"
    service.manhole.problems = lambda: ["unwell"]
    assert service.ask("GET", "/health/ready")[2]["problems"] == ["manhole: unwell"]


@pytest.mark.parametrize(
    "path",
    ["/", "/health/live", "/metrics", "/info", "/flags", "/threads", "/tasks", "/log-level", "/manhole"],
)
def test_every_page(service, path):
    """Each is answered to GET and, without its body, to HEAD, never stored, and names no server."""
    status, headers, body = service.ask("GET", path)
    assert status == 200
    assert int(headers["content-length"]) > 0
    assert body != b""
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers
    status, head, body = service.ask("HEAD", path)
    assert (status, body, head["content-type"]) == (200, b"", headers["content-type"])


def test_index_lists_the_paths(service):
    """The front page says what there is."""
    paths = service.ask("GET", "/")[2]["paths"]
    assert paths["/tasks/<name>/run"]["methods"] == ["POST"]
    assert paths["/manhole"]["methods"] == ["GET", "PUT"]


def test_a_metric_is_refused_when_it_is_made_while_one_of_ours_is_called_so(monkeypatch):
    """From the start of the process to its end; then the name is free."""
    registry = CollectorRegistry()
    monkeypatch.setattr(metrics, "REGISTRY", registry)
    service = Service()
    with pytest.raises(ValueError, match="Duplicated"):
        Gauge("service_ready", "Mine.", registry=registry)
    Deferred.fromCoroutine(service.process.close())
    Gauge("service_ready", "Mine.", registry=registry)


def test_info(service):
    """What runs here, since when, with which versions."""
    info = service.ask("GET", "/info")[2]
    assert (info["name"], info["version"], info["pid"], info["state"]) == (
        "hello",
        "1.2",
        os.getpid(),
        "running",
    )
    assert info["dependencies"]["Twisted"] >= "26.10"
    assert info["started"].endswith("Z")
    assert list(info["dependencies"]) == sorted(info["dependencies"], key=str.lower)
    assert info["build"] is None
    service.process.started = time.time() - 90
    assert 90 <= service.ask("GET", "/info")[2]["uptime_seconds"] < 3600


def test_info_of_a_build(tmp_path, monkeypatch):
    """A process in a pex says in which, and from what that was made."""
    (tmp_path / "PEX-INFO").write_text(
        json.dumps({"code_hash": "abc", "build_properties": {"pex_version": "2.1"}, "more": 1})
    )
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setenv("PEX", "/srv/built.pex")
    found = {"pex": "/srv/built.pex", "code_hash": "abc", "pex_version": "2.1"}
    # One that another tool has made has no more.
    assert info.build("built_by_another") == found
    facts = {"commit": "c0ffee", "changed": False, "locks": {"a": "b"}, "library": "0.2.0", "name": "built"}
    folder = tmp_path / "built_by_us" / "_build"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    (folder / "build.json").write_text(json.dumps(facts))
    monkeypatch.syspath_prepend(tmp_path)
    del facts["name"]
    assert info.build("built_by_us") == {**found, **facts}
    (tmp_path / "PEX-INFO").write_text("[]")
    assert info.build("built_by_nobody") is None


@pytest.mark.parametrize("path", ["/info/sbom", "/info/licenses"])
def test_what_no_pex_has_is_not_found(service, path):
    """From its source a service has no bill of materials, and says why."""
    status, _, body = service.ask("GET", path)
    assert (status, body) == (404, {"error": "this process does not run from a file that make pex has built"})


def test_flags_are_masked(service, monkeypatch):
    """Values and sources are shown, secrets are not."""
    from halfsync import flag
    from halfsync.flags.registry import Setting

    secret = Setting(
        "db.password", "db.password", "HELLO_DB_PASSWORD", flag.String("Secret.", "", secure=True)
    )
    secret.set("hunter1", "file x.ini")
    secret.set("hunter2", "command line")
    monkeypatch.setattr(flags, "states", lambda: [secret])
    status, _, shown = service.ask("GET", "/flags")
    assert status == 200
    assert shown["db.password"]["source"] == "command line"
    assert shown["db.password"]["overrode"][0]["source"] == "file x.ini"
    assert "hunter" not in json.dumps(shown)


def test_tasks_run_on_demand(service):
    """The answer comes when the run has ended; a second request joins it."""
    first = service.send(request("POST", "/tasks/tick/run"))
    second = service.send(request("POST", "/tasks/tick/run"))
    assert first.value() == second.value() == b""
    assert service.ask("GET", "/tasks")[2]["tasks"]["tick"]["running"] is True
    service.clock.advance(2)
    service.answers[0].callback(None)
    assert len(service.answers) == 1
    assert [read(each)[0] for each in (first, second)] == [200, 200]
    assert [read(each)[2]["joined"] for each in (first, second)] == [False, True]
    assert read(first)[2]["last_duration"] == 2
    assert read(first)[2]["last_started"].endswith("Z")


def test_tasks_that_fail_or_have_stopped_or_are_unknown(service):
    """Each has its status, and says why."""
    answer = service.send(request("POST", "/tasks/tick/run", b"{}"))
    service.answers[0].errback(ValueError("no luck"))
    status, _, body = read(answer)
    assert (status, body["error"], body["failures"]) == (500, "ValueError: no luck", 1)
    status, _, body = service.ask("POST", "/tasks/%27tock%0a/run")
    assert (status, body["error"]) == (404, '"\'tock\\n": no such task; GET /tasks lists them')
    Deferred.fromCoroutine(service.process.drain())
    assert service.ask("POST", "/tasks/tick/run")[0] == 409


def test_client_that_leaves_does_not_stop_a_run(service):
    """Nothing is written to who is gone, and the run goes on."""
    transport = service.send(request("POST", "/tasks/tick/run"))
    from twisted.internet.error import ConnectionLost
    from twisted.python.failure import Failure

    service.connection.connectionLost(Failure(ConnectionLost()))
    with capture_logs() as events:
        service.answers[0].callback(None)
    assert transport.value() == b""
    assert [event["log_level"] for event in events] == ["debug", "debug"]


def test_log_level_changes_and_returns(service):
    """The level is set, for a time if asked, and what is asked for is in the log."""
    logging.getLogger().setLevel(logging.WARNING)
    with capture_logs() as events:
        # The reactor's clock is no clock on the wall.
        service.clock.advance(5000)
        status, _, state = service.ask("PUT", "/log-level", {"level": "debug", "duration": 60})
    assert (status, state["level"]) == (200, "debug")
    assert abs(datetime.fromisoformat(state["reverts_at"]).timestamp() - time.time() - 60) < 30
    [changed] = [event for event in events if event["event"] == "admin.changed"]
    assert (changed["log_level"], changed["what"], changed["to"]) == ("info", "log level", "debug")
    service.clock.advance(60)
    assert service.ask("GET", "/log-level")[2] == {"level": "warning", "reverts_at": None, "loggers": {}}
    service.ask("PUT", "/log-level", {"level": "error", "logger": "shop", "duration": 5})
    assert list(service.ask("GET", "/log-level")[2]["loggers"]) == ["shop"]
    service.clock.advance(5)


def test_what_comes_of_a_change_names_who_wanted_it(service, monkeypatch):
    """Every event that it causes has the client's address, and the name that the request was answered by."""
    seen = []
    opened = service.manhole.open

    async def open_and_log(ttl=None):
        seen.append((get_contextvars()["peer"], get_contextvars()["request_id"]))
        await opened(ttl)

    monkeypatch.setattr(service.manhole, "open", open_and_log)
    status, headers, _ = service.ask("PUT", "/manhole", {"open": True})
    assert status == 200
    assert seen == [("127.0.0.1:40000", headers["x-request-id"])]
    assert "peer" not in get_contextvars()


def test_a_process_without_a_manhole_says_so():
    """To who looks, and to who opens it."""
    process = Process(ABOUT, Clock())
    service = Service()
    service.admin = Admin(process, listen=[])
    for change in (("GET", "/manhole"), ("PUT", "/manhole", {"open": True})):
        status, _, answer = service.ask(*change)
        assert (status, answer) == (404, {"error": "this process has no manhole"})


def test_manhole_is_opened_and_closed(service):
    """PUT opens, for a time if asked, and closes; times are dates."""
    assert service.ask("GET", "/manhole")[2]["open"] is False
    status, _, state = service.ask("PUT", "/manhole", {"open": True, "ttl": 600})
    assert (status, state["open"], state["closes_at"]) == (200, True, "1970-01-01T00:16:40.500000Z")
    assert state["sessions"][0]["since"] == "1970-01-01T00:00:00.000000Z"
    service.ask("PUT", "/manhole", {"open": True})
    service.ask("PUT", "/manhole", {"open": False})
    assert service.manhole.said == [("open", 600), ("open", None), ("close", "closed by the admin interface")]


def test_manhole_that_cannot_open_says_why(service):
    """What prevents it is told in its own line; a bug is not."""
    service.manhole.fault = StartError("--manhole.listen: 'tcp:1': taken")
    assert service.ask("PUT", "/manhole", {"open": True})[::2] == (
        409,
        {"error": "--manhole.listen: 'tcp:1': taken"},
    )
    service.manhole.fault = RuntimeError("secret")
    with capture_logs() as events:
        status, _, body = service.ask("PUT", "/manhole", {"open": True})
    assert status == 500
    assert "secret" not in str(body)
    assert [event["event"] for event in events if event["log_level"] == "error"] == ["admin.failed"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "body: no JSON"),
        (b"\xff{}", "body: no JSON"),
        (b"[" * 60_000, "body: no JSON: maximum recursion depth exceeded"),
        (b"[]", "body: must be a JSON object"),
        (b'{"open": true, "ttl": NaN}', "ttl: NaN is not a number of seconds above 0, 604800 at most"),
        ({}, "open: missing; give true or false"),
        ({"open": "yes"}, 'open: "yes" is not true or false'),
        ({"open": None}, "open: null is not true or false"),
        ({"open": 1}, "open: 1 is not true or false"),
        ({"open": True, "ttl": "600"}, 'ttl: "600" is not a number of seconds'),
        ({"open": True, "ttl": True}, "ttl: true is not a number of seconds"),
        ({"open": True, "ttl": 0}, "ttl: 0 is not a number of seconds above 0, 604800 at most"),
        ({"open": True, "ttl": -5}, "ttl: -5 is not a number"),
        (b'{"open": true, "ttl": 1e999}', "ttl: Infinity is not a number"),
        (b'{"open": true, "ttl": 1' + b"0" * 4000 + b"}", "is not a number"),
        ({"open": False, "ttl": 5}, "ttl: only what is opened has one"),
        ({"open": True, "key": "x"}, '"key": no such field; there is open, ttl'),
    ],
)
def test_bad_bodies_are_named(service, body, said):
    """One line names the field and what would be right, and nothing is done."""
    status, _, answer = service.ask("PUT", "/manhole", body)
    assert (status, list(answer)) == (400, ["error"])
    assert said in answer["error"]
    assert len(answer["error"]) < 300
    assert "\n" not in answer["error"]
    assert service.manhole.said == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"level": "loud"}, "level: 'loud' is none of debug, info, warning, error"),
        ({"level": "debug", "logger": 5}, "logger: 5 is not printable text of up to 200 characters"),
        ({"level": "debug", "logger": "a\nb"}, "is not printable text"),
        ({"level": "debug", "logger": "x" * 201}, "is not printable text"),
    ],
)
def test_bad_levels_are_named(service, body, said):
    """The same for the log's level."""
    status, _, answer = service.ask("PUT", "/log-level", body)
    assert status == 400
    assert said in answer["error"]


CHANGE = ("PUT", "/manhole", {"open": True})


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "localhost.evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "10.0.0.1:8081"}, 403),
        ({"Host": ""}, 403),
        ({"Host": "[::2]"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost.evil.example"}, 403),
        ({"Origin": "http://localhost:1@evil.example"}, 403),
        ({"Origin": ["http://localhost", "http://evil.example"]}, 403),
        ({"X_Forwarded_For": "10.0.0.1"}, 403),
        ({"Forwarded": "for=10.0.0.1"}, 403),
        ({"X_Forwarded_Proto": "https"}, 403),
        ({"X_Forwarded_Port": "80"}, 403),
        ({"X_Real_IP": "10.0.0.1"}, 403),
        ({"X_Client_IP": "10.0.0.1"}, 403),
        ({"Via": "1.1 proxy"}, 403),
        ({"version": "1.0"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Sec_Fetch_Site": ["none", "none"]}, 403),
        ({"Content_Type": None}, 415),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content_Type": "application/jsonp"}, 415),
        ({"Content_Type": "text/plain; application/json"}, 415),
        ({"peer": IPv4Address("TCP", "10.0.0.1", 1)}, 403),
        ({"peer": IPv6Address("TCP", "fe80::1%eth0", 1)}, 403),
    ],
)
def test_changes_from_elsewhere_are_refused(service, headers, status):
    """No page of another site, no rebound name, no proxy and no other machine changes anything."""
    headers = {name.replace("Content_Type", "Content-Type"): value for name, value in headers.items()}
    answer = service.ask(*CHANGE, **headers)
    assert answer[0] == status
    assert list(answer[2]) == ["error"]
    assert service.manhole.said == []


@pytest.mark.parametrize("header", ["Via", "Forwarded", "X_Forwarded_For", "CF_Connecting_IP"])
def test_a_refusal_names_the_header_of_the_proxy(service, header):
    """Of a dozen that proxies add, the operator hears which one was there."""
    answer = service.ask(*CHANGE, **{header: "1.1 proxy"})
    assert answer[2]["error"] == f"{header.lower().replace('_', '-')}: changes are not made by way of a proxy"


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "LOCALHOST"},
        {"Host": "127.1.2.3:80"},
        {"Host": "[::1]:8081", "peer": IPv6Address("TCP", "::1", 1)},
        {"peer": IPv6Address("TCP", "::ffff:127.0.0.1", 1)},
        {"Host": "anything", "peer": UNIXAddress(b"/run/admin")},
        {"Origin": "http://localhost:8081"},
        {"Sec_Fetch_Site": "same-origin"},
        {"Sec_Fetch_Site": "none"},
        {"Content-Type": "Application/JSON; charset=UTF-8"},
    ],
)
def test_changes_from_here_are_made(service, headers):
    """Every way to this machine by its own names, and a unix socket."""
    assert service.ask(*CHANGE, **headers)[0] == 200
    assert service.manhole.said == [("open", None)]


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics"])
def test_probes_may_come_by_any_name(service, path):
    """Health and metrics ask for no name: a kubelet's probe comes by the pod's address, also by HTTP/1.0."""
    peer = IPv4Address("TCP", "10.0.0.1", 1)
    for version in ("1.0", "1.1"):
        assert service.ask("GET", path, Host="10.0.0.7:8081", peer=peer, version=version)[0] == 200
    assert service.ask("GET", path, Host="evil.example", Sec_Fetch_Site="cross-site", Via="x")[0] == 200


READ = ["/", "/info", "/flags", "/threads", "/tasks", "/log-level", "/manhole", "/none"]


@pytest.mark.parametrize("path", READ)
def test_everything_else_asks_by_what_name_it_was_called(service, path):
    """A site whose name points here reads nothing, nor does a page of another site; a local proxy may."""
    expected = 404 if path == "/none" else 200
    assert service.ask("GET", path)[0] == expected
    assert service.ask("GET", path, X_Forwarded_For="10.0.0.1", Via="1.1 x")[0] == expected
    for headers in (
        {"Host": "evil.example"},
        {"Host": "10.0.0.7:8081", "local": IPv4Address("TCP", "10.0.0.7", 8081)},
        {"Sec_Fetch_Site": "cross-site"},
    ):
        status, _, answer = service.ask("GET", path, **headers)
        assert (status, list(answer)) == (403, ["error"])


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/manhole", "GET, HEAD, PUT"),
        ("DELETE", "/info", "GET, HEAD"),
        ("OPTIONS", "/log-level", "GET, HEAD, PUT"),
        ("GET", "/tasks/tick/run", "POST"),
        ("HEAD", "/tasks/tick/run", "POST"),
    ],
)
def test_wrong_methods_are_told_the_right_ones(service, method, path, allow):
    """405 with Allow; a preflight gets nothing else."""
    status, headers, _ = service.ask(method, path)
    assert (status, headers["allow"]) == (405, allow)
    assert not [name for name in headers if name.startswith("access-control")]


def test_unknown_paths_and_large_bodies(service):
    """404 for what there is not, 413 for what is too much."""
    for path in ("/nothing", "//", "/info/", "/tasks//run", "/tasks/a/b/run", "/%00"):
        assert service.ask("GET", path)[0] == 404
    assert service.ask("PUT", "/manhole", b" " * (LONGEST + 1))[0] == 413


def test_requests_are_logged_for_debugging(service):
    """Reading is logged at debug, once."""
    with capture_logs() as events:
        service.ask("GET", "/health/live")
    assert [(event["event"], event["log_level"], event["status"]) for event in events] == [
        ("admin.request", "debug", 200)
    ]


def request(method, path, body=b""):
    """Return a changing request in bytes."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.fixture
def token(tmp_path):
    """A file with a token."""
    path = tmp_path / "token"
    path.write_text("s3cret\nmore\n")
    path.chmod(0o600)
    return path


PUBLIC = {"local": IPv4Address("TCP", "10.0.0.7", 8081), "peer": IPv4Address("TCP", "10.0.0.1", 1)}


def test_with_a_token_every_change_needs_it(token):
    """From loopback too; it is read at each use, and being local is no substitute."""
    service = Service(token_file=str(token))
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic s3cret"}):
        status, head, answer = service.ask(*CHANGE, **headers)
        assert (status, head["www-authenticate"], list(answer)) == (401, "Bearer", ["error"])
        assert "s3cret" not in answer["error"]
    assert service.ask(*CHANGE, Authorization=["Bearer s3cret", "Bearer s3cret"])[0] == 401
    assert service.manhole.said == []
    assert service.ask(*CHANGE, Authorization="bearer s3cret")[0] == 200
    token.write_text("another")
    assert service.ask(*CHANGE, Authorization="Bearer s3cret")[0] == 401
    right = {"Authorization": "Bearer another"}
    assert service.ask(*CHANGE, **right)[0] == 200
    # What would be refused without a token is refused with it.
    for headers in (
        {"Host": "evil.example"},
        {"Via": "1.1 x"},
        {"version": "1.0"},
        {"Origin": "http://evil.example"},
    ):
        assert service.ask(*CHANGE, **right, **headers)[0] == 403


def test_with_a_token_reads_from_elsewhere_need_it(token):
    """On loopback they do not; health and metrics never."""
    service = Service(token_file=str(token))
    assert service.ask("GET", "/info")[0] == 200
    assert service.ask("GET", "/info", Host="10.0.0.7", **PUBLIC)[0] == 401
    assert service.ask("GET", "/info", Host="10.0.0.7", Authorization="Bearer s3cret", **PUBLIC)[0] == 200
    assert service.ask(*CHANGE, Host="10.0.0.7", Authorization="Bearer s3cret", **PUBLIC)[0] == 200
    for path in ("/health/live", "/health/ready", "/metrics"):
        assert service.ask("GET", path, Host="10.0.0.7", **PUBLIC)[0] == 200


@pytest.mark.parametrize(("mode", "status"), [("", 200), (":mode=660", 401)])
def test_a_unix_socket_is_private_by_its_mode(token, tmp_path, mode, status):
    """With a token, one that others can use is as public as any."""
    service = Service(token_file=str(token))
    service.admin = Admin(service.process, listen=[f"unix:{tmp_path}/a{mode}"], token_file=str(token))
    unix = {"peer": UNIXAddress(None), "local": UNIXAddress(b"/run/a")}
    assert service.ask("GET", "/info", **unix)[0] == status


def test_a_token_that_has_become_unusable_lets_nobody_in(token):
    """The client learns that, the log why."""
    service = Service(token_file=str(token))
    token.chmod(0o666)
    with capture_logs() as events:
        assert service.ask(*CHANGE, Authorization="Bearer s3cret")[0] == 503
    [event] = [event for event in events if event["event"] == "admin.token_unusable"]
    assert "chmod 600" in event["problem"]
    assert service.manhole.said == []


def test_a_file_that_is_no_token_is_named(token):
    """Its mode, its kind, or that it is not there; one line. Others may read it."""
    assert check_token_file(str(token)) is None
    token.chmod(0o755)
    assert check_token_file(str(token)) is None
    for mode in (0o620, 0o602):
        token.chmod(mode)
        assert f"can write it (mode {mode:04o}): chmod 600 {token}" in check_token_file(str(token))
    folder = token.parent
    assert check_token_file(str(folder)) == (
        f"{str(folder)!r}: not a file; wanted is one whose first line is the token"
    )
    fifo = folder / "fifo"
    os.mkfifo(fifo, 0o600)
    assert "not a file" in check_token_file(str(fifo))
    assert check_token_file(f"{folder}/none") == f"'{folder}/none': no such file or directory"
    assert "input/output error" in check_token_file("/proc/self/mem")


def test_looking_at_a_token_leaves_no_file_open(token):
    """It is read at each request."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        check_token_file(str(token))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize(
    ("listen", "content", "said"),
    [
        (["tcp:0"], None, "--admin.listen: 'tcp:0': other machines can connect to 0.0.0.0, and could open"),
        (["tcp:0:interface=127.0.0.1"], "", "its first line is empty; wanted is the token"),
        (["tcp:0:interface=127.0.0.1"], "\nx", "its first line is empty; wanted is the token"),
    ],
)
def test_what_would_be_unsafe_does_not_start(tmp_path, listen, content, said):
    """A public address without a token, and a token that is none; one line says what would be right."""
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)
    admin = Admin(Service().process, listen=listen, token_file="" if content is None else str(path))
    results = []
    Deferred.fromCoroutine(admin.start()).addErrback(results.append)
    assert results[0].check(StartError)
    assert said in str(results[0].value)
    assert "\n" not in str(results[0].value)


SERVE = """
from halfsync.admin.listener import Admin
main(lambda process: process.add(Admin.from_flags(process)))
"""


@pytest.mark.parametrize("more", [(), ("--check_config",)])
def test_a_public_address_without_a_token_is_not_tried_again(more):
    """The flags are wrong together, and no other try would end better: exit code 2, and one line."""
    with child(SERVE, "--admin.listen=tcp:0:interface=0.0.0.0", *more) as process:
        code, _, err = process.end()
    assert code == 2
    assert err.startswith("child: --admin.listen: 'tcp:0:interface=0.0.0.0': other machines can connect")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html; charset=utf-8"),
        ("application/json;q=0.5, TEXT/HTML;q=0.9", "text/html; charset=utf-8"),
        ("text/html;q=0.1, application/json", "application/json"),
        ("text/html;q=0", "application/json"),
        ("text/html;q=nonsense", "application/json"),
        (";;;,,,", "application/json"),
    ],
)
def test_the_front_page_is_for_people_and_machines(service, accept, kind):
    """As the client prefers; JSON for those who do not say."""
    status, headers, _ = service.ask("GET", "/", Accept=accept)
    assert (status, headers["content-type"]) == (200, kind)


def test_the_page_for_people_shows_how_it_is_and_runs_nothing(service):
    """State, problems, requests, tasks and paths; what comes from outside is text; nothing is loaded."""
    request = RunningRequest("web", "GET", "/<script>alert(1)</script>", "10.0.0.1:5", 0.0, "web-1")
    service.manhole.requests = lambda: [request]
    service.manhole.problems = lambda: ["<b>unwell</b>"]
    _, headers, page = service.ask("GET", "/", Accept="text/html")
    text = page.decode()
    assert "hello 1.2" in text
    assert "manhole: &lt;b&gt;unwell&lt;/b&gt;" in text
    assert "/&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script" not in text
    assert '<a href="/threads">' in text
    assert "<td>tick</td>" in text
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["vary"] == "Accept"


def test_the_page_for_people_shows_what_is_at_work(service):
    """Where the process listens, which threads are busy, which request has one, what a task failed by."""

    def page():
        return service.ask("GET", "/", Accept="text/html")[2].decode()

    idle = page()
    assert '<p class="good">ready</p>' in idle
    assert "<td>listening</td><td>nothing</td>" in idle
    assert "<td>worker threads</td><td>none started</td>" in idle
    service.process.sockets.open += [SimpleNamespace(address=each) for each in ("tcp:10.0.0.1:80", "unix:/x")]
    service.manhole.workers = lambda: [
        WorkerThread("web-1", 1, "GET /slow", 5.0),
        WorkerThread("web-2", 2, None, None),
        WorkerThread("web-3", 3, None, None),
    ]
    service.manhole.requests = lambda: [
        RunningRequest("web", "GET", "/late", "10.0.0.1:6", 2.0),
        RunningRequest("web", "GET", "/slow", "10.0.0.1:5", 1.0, "web-1"),
    ]
    service.clock.advance(3 - service.clock.seconds())
    with capture_logs():
        service.process.tasks()["tick"].run_now().addErrback(lambda _: None)
        service.answers[-1].errback(ValueError("<broken>"))
    busy = page()
    assert "<td>listening</td><td>tcp:10.0.0.1:80, unix:/x</td>" in busy
    assert "<td>worker threads</td><td>3 started, 1 busy</td>" in busy
    slow = "<td>2.000 s</td><td>web</td><td>GET /slow</td><td>10.0.0.1:5</td><td>web-1</td>"
    late = "<td>1.000 s</td><td>web</td><td>GET /late</td><td>10.0.0.1:6</td><td></td>"
    assert f"<tr>{slow}</tr><tr>{late}</tr>" in busy
    assert "<td>tick</td><td>1</td><td>1</td><td>ValueError: &lt;broken&gt;</td>" in busy


LONG_TYPES = ["a/b" + ";" * 7_000, "multipart/form-data; boundary=x", "text/plain" + "; a=b" * 1_400]


@pytest.mark.parametrize("kind", LONG_TYPES)
def test_a_content_type_is_not_worked_at(service, kind):
    """Whatever it is, it is looked at once: a parser of mail took seconds for the first one."""
    headers = {"Host": "localhost", "Content-Type": kind, "Content-Length": "1"}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    began = time.process_time()
    status = read(service.send(f"POST /tasks/tick/run HTTP/1.1\r\n{head}\r\nx".encode()))[0]
    assert status == 415
    assert time.process_time() - began < 1


class SocketTests(TestCase):
    """The interface on a real port."""

    async def test_it_answers_while_every_worker_is_blocked(self):
        """Health, threads and metrics come from the reactor, and say what holds the workers."""
        process = Process(ABOUT, reactor)
        admin = process.add(Admin(process, listen=["tcp:0:interface=127.0.0.1"]))
        pool = process.add(WorkerPool("workers", threads=2, queue=1, reactor=reactor))
        await process.start()
        release = threading.Event()
        inside = [threading.Event(), threading.Event()]

        def block(event):
            event.set()
            release.wait(30)

        for number, event in enumerate(inside):
            pool.submit(lambda event=event: block(event), f"GET /slow/{number}")
            assert await deferToThread(event.wait, 10)
        pool.submit(lambda: None, "GET /waits")
        try:
            for path in ("/health/ready", "/threads", "/metrics"):
                response = await treq.get(admin.url().rstrip("/") + path, persistent=False, reactor=reactor)
                assert response.code == 200
                text = await response.text()
                if path == "/threads":
                    held = {each["name"]: each["holds"] for each in json.loads(text)["threads"]}
                    assert held["workers-1"] == "GET /slow/0"
                    assert held["workers-2"] == "GET /slow/1"
                if path == "/metrics":
                    assert 'workers_busy{pool="workers"} 2.0' in text
                    assert 'workers_waiting{pool="workers"} 1.0' in text
        finally:
            release.set()
            await pool.drain()
            await process.close()

    async def test_a_taken_port_is_named(self):
        """The start fails in one line that names the flag."""
        process = Process(ABOUT, reactor)
        first = Admin(process, listen=["tcp:0:interface=127.0.0.1"])
        await first.start()
        port = first.url().rstrip("/").rpartition(":")[2]
        second = Admin(process, listen=[f"tcp:{port}:interface=127.0.0.1"])
        try:
            await second.start()
        except StartError as error:
            said = str(error)
        else:
            self.fail("it started")
        finally:
            await first.stop()
        assert said.startswith("--admin.listen: ")
        assert port in said
