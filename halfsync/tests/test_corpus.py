"""Conformance by cases that no one here wrote: the requests of gunicorn's own tests, raw over a socket.

They are in its source distribution, which is fetched once, by hash, into `.cache/corpus`;
none of it is kept here.
Each is a `.http` file, in a notation of its own, with what is expected of it in a `.py` file beside it.
"""

from __future__ import annotations

import ast
import json
import os
import re
import socket
import subprocess
import sys
import tarfile
import tempfile
from contextlib import closing
from itertools import product
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

import pytest

from children import PATIENCE, SOURCES
from sdists import fetch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

VERSION = "27.0.1"
SHA256 = "b1514965361c8b7e8107a80aa2a92636878df1ccfac6dd204a676426e04d9e3e"

PLAIN = "plain"
SERVERS: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "behind a proxy": {"endpoint": "haproxy:tcp:0:interface=127.0.0.1"},
    # What gunicorn bounds line by line we bound as a whole, and more generously.
    "head of 24": {"max_head": 24},
    "head of 98": {"max_head": 98},
    "head of 4094": {"max_head": 4094},
    "head of 8190": {"max_head": 8190},
    "head of 20000": {"max_head": 20000},
    "2 headers": {"max_headers": 2},
}
"""What the child serves: names and how they differ from the defaults."""

OPTIONS = {
    "valid/024": "head of 20000",
    "valid/026": "head of 20000",
    "valid/pp_01": "behind a proxy",
    "valid/pp_02": "behind a proxy",
    "valid/pp_03": "behind a proxy",
    "valid/pp_04": "behind a proxy",
    "valid/pp_05": "behind a proxy",
    "invalid/006": "head of 4094",
    "invalid/007": "head of 8190",
    "invalid/008": "head of 8190",
    "invalid/010": "head of 24",
    "invalid/011": "2 headers",
    "invalid/012": "head of 98",
    "invalid/017": "head of 8190",
    "invalid/limit_header_default_01": "head of 8190",
    "invalid/pp_01": "behind a proxy",
    "invalid/pp_02": "behind a proxy",
    "invalid/pp_03": "behind a proxy",
}
"""Cases that are about an option of gunicorn's, and what comes nearest to it here."""

CODINGS = "only `chunked` is undone here, so a body with another coding would reach the application coded"
FOLDED = "folded lines are refused (RFC 9112 section 5.2); gunicorn needs an option to take them"
IN_DISGUISE = "Transfer_Encoding and Content_Length could pass for what frames the body; gunicorn drops them"
METHODS = "methods with lower-case letters are refused; gunicorn needs an option to take them"
CONNECT = "we are no proxy (RFC 9110 section 9.3.6)"

STRICTER: dict[str, tuple[int | None, str]] = {
    "005": (400, "no fragment in a target (RFC 9112 section 3.2): readers differ about its path"),
    "025": (400, CODINGS),
    "025_line": (501, CODINGS),
    "028": (400, "no space before a colon (RFC 9112 section 5.1); gunicorn needs an option to take it"),
    "029": (400, CODINGS),
    "030": (400, CODINGS),
    "031compat": (400, METHODS),
    "031compat2": (400, METHODS),
    "040": (400, IN_DISGUISE),
    "040_compat": (400, IN_DISGUISE),
    "099": (400, "it announces a longer body than it sends: gunicorn's test never reads to the end"),
    "compat_obs_fold": (400, FOLDED),
    "compat_obs_fold_huge": (400, FOLDED),
    "pp_03": (None, "behind `haproxy:` nothing is read without the proxy's line"),
    "rfc9112_smuggle_gzip_chunked_01": (501, CODINGS),
    "rfc9112_smuggle_te_identity_chunked_01": (501, CODINGS),
    "rfc9112_target_absolute_userinfo_01": (400, "no user in a target (RFC 9110 section 4.2.4)"),
    "rfc9112_target_authority_connect_01": (501, CONNECT),
    "rfc9112_target_authority_ipv6_01": (501, CONNECT),
}
"""Valid ones that are refused here: with which status (None: closed without one), and why."""

LAXER: dict[str, str] = {
    "019": "its point is what to believe of a trusted proxy; without one the headers mean nothing",
}
"""Invalid ones that are served here, and why."""

SERVER = """
import json, sys
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from halfsync.http.bounds import Bounds
from halfsync.http.site import Site
from halfsync.http.wsgi.gateway import Gateway
from halfsync.endpoints.listener import Listener
from halfsync.workers.pool import WorkerPool

def echo(environ, start_response):
    said = {name: value for name, value in environ.items() if isinstance(value, str)}
    said["body"] = environ["wsgi.input"].read().decode("latin-1")
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(said).encode()]

async def serve(servers):
    pool = WorkerPool("workers", threads=4, queue=64, reactor=reactor)
    await pool.start()
    ports = {}
    for name, bounds in servers.items():
        endpoint = bounds.pop("endpoint", "tcp:0:interface=127.0.0.1")
        # Short, as some cases are about requests that never end.
        bounds = Bounds(request_timeout=1, idle_timeout=1, write_timeout=1, **bounds)
        site = Site(Gateway(echo, pool), bounds=bounds, access_log=False, reactor=reactor)
        listener = Listener(name, flag="web.listen", endpoints=[endpoint], factory=site, reactor=reactor)
        await listener.start()
        ports[name] = listener.addresses()[0]
    print(json.dumps(ports), flush=True)

reactor.callWhenRunning(lambda: Deferred.fromCoroutine(serve(json.loads(sys.argv[1]))))
reactor.run()
"""


class Case(NamedTuple):
    """A request, or several, and what its `.py` file says of it."""

    data: bytes
    expected: Mapping[str, Any]


class Said(NamedTuple):
    """A response."""

    status: int
    body: bytes


def decode(text: bytes) -> bytes:
    r"""Return what a `.http` file stands for: `\r\n` is spelled out, real line ends mean nothing."""
    known = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"0": b"\0"}

    def spelled(match: re.Match[bytes]) -> bytes:
        return bytes([int(match[1], 16)]) if match[1] else known[match[2]]

    return re.sub(rb"\\(?:x([0-9A-Fa-f]{2})|(.))", spelled, text.replace(b"\n", b""))


class _Names(dict[str, Any]):
    """The names that an expectation uses; those that it imports stand for themselves."""

    def __missing__(self, name: str) -> Any:
        return name


def expectation(source: str) -> _Names:
    """Run a `.py` file without what it imports."""

    class Config:
        set = staticmethod(lambda *_: None)

    tree = ast.parse(source)
    tree.body = [node for node in tree.body if not isinstance(node, (ast.Import, ast.ImportFrom))]
    names = _Names(Config=Config, uri=str)
    exec(compile(tree, "expectation", "exec"), {}, names)
    return names


@pytest.fixture(scope="module")
def corpus() -> dict[str, Case]:
    """The cases by names such as `valid/001`."""
    cases = {}
    with tarfile.open(fetch("gunicorn", VERSION, SHA256)) as archive:
        texts = {
            PurePosixPath(member.name): archive.extractfile(member).read()
            for member in archive
            if member.isfile() and "/tests/requests/" in member.name
        }
    for path, text in texts.items():
        if path.suffix == ".http":
            expected = expectation(texts[path.with_suffix(".py")].decode())
            cases[f"{path.parent.name}/{path.stem}"] = Case(decode(text), expected)
    return cases


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, int]]:
    """A child that serves each of SERVERS; their ports by name."""
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCES)}
    command = [sys.executable, "-c", SERVER, json.dumps(SERVERS)]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environ) as child,
    ):
        try:
            line = child.stdout.readline()
            errors.seek(0)
            assert line, errors.read()
            yield {
                name: int(re.search(r"127\.0\.0\.1:(\d+)", address)[1])
                for name, address in json.loads(line).items()
            }
            assert child.poll() is None
        finally:
            child.kill()
        errors.seek(0)
        # Twisted logs one for a proxy's line without addresses or ports, and closes.
        tracebacks = errors.read().split("Unhandled Error")[1:]
        assert [each for each in tracebacks if "haproxy/_v1parser.py" not in each] == []


def exchange(port: int, data: bytes, *, pieces: int = 1 << 20, half_close: bool = False) -> bytes:
    """Send bytes on a connection of their own, and return all that comes back until the server closes it.

    :raises TimeoutError: when it never does.
    """
    with closing(socket.create_connection(("127.0.0.1", port), PATIENCE)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = b""
        try:
            for at in range(0, len(data), pieces):
                client.sendall(data[at : at + pieces])
            if half_close:
                client.shutdown(socket.SHUT_WR)
            while piece := client.recv(1 << 16):
                received += piece
        except (ConnectionResetError, BrokenPipeError):
            pass
        return received


def responses(received: bytes) -> list[Said]:
    """Take apart what came back; anything that is no whole response is an error.

    An interim one is left out (RFC 9110 section 15.2): a client that has closed its side while its request
    waits for a thread is asked by it whether it is there, and whether it waits depends on the machine.
    """
    said = []
    while received:
        head, _, received = received.partition(b"\r\n\r\n")
        status = int(re.match(rb"HTTP/1\.[01] (\d{3}) ", head)[1])
        length = int(re.search(rb"(?i)\r\nContent-Length: (\d+)", head + b"\r\nContent-Length: 0")[1])
        assert len(received) >= length
        if status != 100:
            said.append(Said(status, received[:length]))
        received = received[length:]
    return said


def with_host(data: bytes) -> bytes:
    """Add a Host to requests of HTTP/1.1 that have none, which alone would have them refused."""
    body_is_a_request = re.match(rb"[^\r]* HTTP/1\.0\r\nContent-Length:", data)
    if body_is_a_request or re.search(rb"(?i)\nHost ?:", data):
        return data
    return re.sub(rb"(^|\n)([^\r\n]* HTTP/1\.1\r\n)", rb"\1\2Host: corpus\r\n", data)


def fine(server: str) -> bytes:
    """Return a request that the server answers, for the next connection."""
    return b"PROXY UNKNOWN x\r\nGET / HTTP/1.0\r\n\r\n" if "proxy" in server else b"GET / HTTP/1.0\r\n\r\n"


def variables(headers: list[tuple[str, str]]) -> dict[str, str]:
    """Return the variables that headers become (RFC 3875 section 4.1.18)."""
    found: dict[str, str] = {}
    for name, value in headers:
        variable = name.upper().replace("-", "_")
        if variable not in {"CONTENT_TYPE", "CONTENT_LENGTH"}:
            variable = f"HTTP_{variable}"
        found[variable] = f"{found[variable]}, {value}" if variable in found else value
    # It frames the body, which is without its frame by now.
    found.pop("HTTP_TRANSFER_ENCODING", None)
    return found


def differences(said: Said, expected: Mapping[str, Any]) -> list[str]:
    """Say where a response of the application's shows another request than the expected one."""
    if said.status != 200:
        return [f"status {said.status}"]
    if expected["uri"] == "*":
        # The server's own to answer.
        return []
    target = re.sub(r"^https?://[^/?]*", "", expected["uri"])
    path, _, query = target.partition("?")
    body = expected["body"]
    wanted = {
        "REQUEST_METHOD": expected["method"],
        "PATH_INFO": unquote(path, "latin-1"),
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": "HTTP/" + ".".join(map(str, expected["version"])),
        "body": body if isinstance(body, str) else body.decode("latin-1"),
        **variables(expected["headers"]),
    }
    seen = json.loads(said.body)
    # Without a Host of its own a request was given one, and every request has an id.
    headers = {name for name in seen if name.startswith("HTTP_")} - {"HTTP_HOST", "HTTP_X_REQUEST_ID"}
    found = [
        f"{name} {seen.get(name)!r}, not {value!r}"
        for name, value in wanted.items()
        if seen.get(name) != value
    ]
    return found + [f"{name}: unexpected" for name in headers - set(wanted)]


def test_decoding():
    """The notation is read as its authors read it."""
    assert decode(b"GET /\\t\\0 HTTP/1.1\\r\\n\n\\r\\n\na\\x0Db\\n\n") == b"GET /\t\0 HTTP/1.1\r\n\r\na\rb\n"


def test_valid(corpus, servers):
    """Every valid request is answered rightly, or refused for a reason listed above."""
    failed = {}
    names = [name for name in corpus if name.startswith("valid/")]
    assert len(names) == 62
    for name in names:
        case, server = corpus[name], OPTIONS.get(name, PLAIN)
        expected = case.expected["request"]
        expected = expected if isinstance(expected, list) else [expected]
        # Twisted's reader of the proxy's line wants the first 16 bytes at once.
        for pieces in (1 << 20, 16):
            # Behind the wrapper for proxies a half-closed connection is a closed one.
            half_close = server == PLAIN
            said = responses(
                exchange(servers[server], with_host(case.data), pieces=pieces, half_close=half_close)
            )
            status, _ = STRICTER.get(name.partition("/")[2], (200, ""))
            if status == 200:
                found = [each for pair in zip(said, expected, strict=False) for each in differences(*pair)]
                if len(said) != len(expected):
                    found.append(f"{len(said)} responses, not {len(expected)}")
            else:
                statuses = [each.status for each in said]
                found = (
                    [] if statuses == ([status] if status else []) else [f"statuses {statuses}, not {status}"]
                )
            if found:
                failed[name] = found
        assert b"200 OK" in exchange(servers[server], fine(server), half_close=server == PLAIN), name
    assert failed == {}


def test_invalid(corpus, servers):
    """Every invalid request is refused or its connection closed, never served, and the next one is fine."""
    failed = {}
    names = [name for name in corpus if name.startswith("invalid/")]
    assert len(names) == 81
    for name in names:
        data, server = corpus[name].data, OPTIONS.get(name, PLAIN)
        # Once more with a Host, whose want must not be all that they are refused for.
        for each, half_close in product({data, with_host(data)}, (False, True)):
            try:
                said = responses(exchange(servers[server], each, half_close=half_close))
            except TimeoutError:
                failed[name] = "hangs"
                continue
            served = any(response.status < 400 for response in said)
            if served != (name.partition("/")[2] in LAXER and each == with_host(data)):
                failed[name] = f"{said} for {each[:200]!r}"
        assert b"200 OK" in exchange(servers[server], fine(server), half_close=server == PLAIN), name
    assert failed == {}


def test_lists(corpus):
    """What is listed exists."""
    assert set(OPTIONS) <= set(corpus)
    assert {f"valid/{name}" for name in STRICTER} | {f"invalid/{name}" for name in LAXER} <= set(corpus)
