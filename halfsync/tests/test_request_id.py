"""Request ids: taken when they can be, made when not, and on every line that belongs to the request."""

from __future__ import annotations

import logging
import os

import pytest
import structlog
from klein import Klein
from structlog.contextvars import get_contextvars
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from halfsync.http import request_id
from halfsync.logs import events, get_logger, sources
from http_tools import Connection, ServerCase, parse


def named(headers):
    """Return the name of a request with these headers, each a list of values."""
    special = {name.lower(): ", ".join(values) for name, values in headers.items()}
    return request_id.named(special) or request_id.made()


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X-Request-Id": ["abc-1.2_3"]}, "abc-1.2_3"),
        ({"X-Request-Id": ["x" * 128]}, "x" * 128),
        ({"X-Request-Id": ["mine"], "traceparent": [PARENT]}, "mine"),
        ({"X-Request-Id": ["two words"], "traceparent": [PARENT]}, TRACE),
        ({"traceparent": [PARENT]}, TRACE),
        ({"traceparent": [f"01-{TRACE}-00f067aa0ba902b7-01-more"]}, TRACE),
    ],
)
def test_taken(headers, expected):
    """The client's own comes first, then its trace."""
    assert named(headers) == expected


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Request-Id": [""]},
        {"X-Request-Id": ["x" * 129]},
        {"X-Request-Id": ["a", "b"]},
        {"X-Request-Id": ["a\tb"]},
        {"X-Request-Id": ["\u00e9"]},
        {"X-Request-Id": ['"}{"']},
        {"traceparent": [PARENT.upper()]},
        {"traceparent": [PARENT + "-more"]},
        {"traceparent": [PARENT[:-1]]},
        {"traceparent": ["ff" + PARENT[2:]]},
        {"traceparent": [f"00-{'0' * 32}-00f067aa0ba902b7-01"]},
        {"traceparent": [f"00-{TRACE}-{'0' * 16}-01"]},
        {"traceparent": [PARENT, PARENT]},
    ],
)
def test_replaced(headers):
    """What is long, doubtful or not valid is replaced; no two are the same."""
    first, second = (named(headers) for _ in range(2))
    assert first != second
    assert len(first) == len(second) == 24
    assert first.isalnum()


def test_a_fork_makes_others():
    """Two processes that were one never make the same."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, request_id.made().encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(read, 100).decode()
    os.close(read)
    os.close(write)
    assert theirs[:16] != request_id.made()[:16]


@pytest.fixture
def lines():
    """Every event that is written, as it is written."""
    written = []
    before = structlog.get_config()
    events.configure(events.Completion(lambda event, **_: written.append(event)))
    yield written
    structlog.configure(**before)


REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: r1\r\n\r\n"


def test_wsgi(lines):
    """It is in the environ, the response, the access log, and the application's own lines."""
    app_log = get_logger("application")
    foreign = logging.getLogger("foreign")
    handler = sources._FromLogging(sources.Sources(structlog.get_config()["processors"]))
    foreign.addHandler(handler)
    foreign.propagate = False
    seen = []

    def app(environ, start_response):
        app_log.warning("from.structlog")
        foreign.warning("from logging")
        seen.append(environ["HTTP_X_REQUEST_ID"])
        start_response("200 OK", [])
        return []

    try:
        reply = parse(Connection(app, access_log=True).send(REQUEST))
    finally:
        foreign.removeHandler(handler)
    assert reply.headers.get_all("X-Request-Id") == ["r1"]
    assert seen == ["r1"]
    ours = [each for each in lines if each["event"] in {"from.structlog", "from logging"}]
    assert [each.get("request_id") for each in ours] == ["r1", "r1"]
    assert "request_id" not in get_contextvars()


def test_the_application_may_name_it_itself():
    """There is one such header in the response, the application's."""

    def app(_environ, start_response):
        start_response("200 OK", [("X-Request-ID", "its-own")])
        return []

    assert parse(Connection(app).send(REQUEST)).headers.get_all("X-Request-Id") == ["its-own"]


def test_klein(lines):
    """A coroutine has it after each wait too, though another request was served meanwhile."""
    app_log = get_logger("application")
    app = Klein()
    waits = {b"r1": Deferred(), b"r2": Deferred()}

    @app.route("/")
    async def handler(request):
        await waits[request.getHeader("X-Request-Id").encode()]
        app_log.warning("after.wait", own=request.request_id)
        return b""

    one = Connection(resource=app.resource())
    two = Connection(resource=app.resource())
    one.send(REQUEST)
    two.send(REQUEST.replace(b"r1", b"r2"))
    waits[b"r2"].callback(None)
    waits[b"r1"].callback(None)
    told = [(each["own"], each["request_id"]) for each in lines if each["event"] == "after.wait"]
    assert told == [("r2", "r2"), ("r1", "r1")]
    assert parse(one.transport.value()).headers["X-Request-Id"] == "r1"
    assert "request_id" not in get_contextvars()


class TestThreads(ServerCase):
    """Worker threads serve one request after the other."""

    async def test_each_request_has_its_own(self):
        """What one request has in its context never reaches the next on the same thread."""
        seen = []

        def app(environ, start_response):
            seen.append((environ["HTTP_X_REQUEST_ID"], get_contextvars()))
            start_response("200 OK", [])
            return []

        self.serve(app, threads=1)
        client = await self.connect(REQUEST + REQUEST.replace(b"r1", b"r2"))
        await client.bytes(b"HTTP/1.1 200", 2)
        assert seen == [("r1", {"request_id": "r1"}), ("r2", {"request_id": "r2"})]
        assert reactor.running
