"""The recipes in examples/, beside the real servers that they lean on."""

from __future__ import annotations

import ast
import http.server
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from importlib.metadata import packages_distributions
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import redis

import halfsync
from children import ROOT, Child, running
from halfsync import recipes
from servers import postgres, redis_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Ask = Callable[..., tuple[str, str]]

EXAMPLES = ROOT / "halfsync" / "examples"
PATIENCE = 60


@contextmanager
def example(name: str, *flags: str) -> Iterator[Child]:
    """Run an example on ports of its own."""
    command = [sys.executable, str(EXAMPLES / name), "--log.format=json", "--admin.listen=", *flags]
    with running(command) as service:
        yield service


def port(event: dict[str, Any]) -> int:
    return int(event["address"].rpartition(":")[2].rpartition(" ")[2])


def stop(service: Child) -> None:
    """Tell a service to stop, and see that it does so well."""
    service.signal(signal.SIGTERM)
    code, _, errors = service.end()
    assert (code, errors) == (0, "")


def test_every_recipe_is_small():
    """None has more than 120 lines, and none reaches into names that are not public."""
    for path in EXAMPLES.glob("*.py"):
        text = path.read_text()
        assert len(text.splitlines()) <= 120, path
        lines = [line for line in text.splitlines() if line.startswith(("from halfsync", "import halfsync"))]
        assert all(
            line.split()[1] in {"halfsync", "halfsync.client", "halfsync.testing"} for line in lines
        ), path


def test_no_recipe_uses_a_private_name():
    """Of anything: what begins with an underscore is only its own, by `self`; of halfsync, what is listed."""
    for path in EXAMPLES.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
                own = isinstance(node.value, ast.Name) and node.value.id == "self"
                assert own or node.attr.startswith("__"), (path, node.attr)
            elif isinstance(node, ast.ImportFrom) and node.module == "halfsync":
                assert {each.name for each in node.names} <= set(halfsync.__all__), path


OWN = {"halfsync", "twisted", "zope", "structlog", "prometheus_client", "treq"}
"""What is there wherever halfsync is."""


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_a_recipe_says_what_to_install_for_it(path):
    """Who prints one and runs it meets no ImportError: its text names what halfsync does not bring."""
    tree = ast.parse(path.read_text())
    modules = {each.module for each in ast.walk(tree) if isinstance(each, ast.ImportFrom) and each.module}
    modules |= {name.name for each in ast.walk(tree) if isinstance(each, ast.Import) for name in each.names}
    tops = {each.partition(".")[0] for each in modules} - OWN - sys.stdlib_module_names
    if "twisted.web.websocket" in modules:
        tops.add("wsproto")
    names = {packages_distributions()[each][0].lower() for each in tops}
    line = next(
        (each for each in ast.get_docstring(tree).splitlines() if each.startswith("pip install ")), ""
    )
    told = {each.strip('"').partition("[")[0] for each in line.partition("#")[0].split()[2:]}
    # The driver of a database is named in its address, and imported by SQLAlchemy.
    assert told - {"psycopg"} == names - {"psycopg"}
    assert ("psycopg" in told) == ("psycopg" in path.read_text().partition(line or "#")[2])


def test_the_recipes_are_listed_and_printed(capsys):
    """Each by a short name and its first line; what there is not is told in one line, with exit code 2."""
    assert recipes.main([]) == 0
    listed = capsys.readouterr().out.partition("\n\n")[0].splitlines()
    assert len(listed) == len(list(EXAMPLES.glob("*.py")))
    assert any(re.match(r"shop +A Flask shop on PostgreSQL", line) for line in listed)
    assert recipes.main(["shop"]) == 0
    assert capsys.readouterr().out == (EXAMPLES / "shop_app.py").read_text()
    assert recipes.main(["ship"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("halfsync.recipes: 'ship' is none of django, django_admin, ")


def test_a_copy_of_the_source_alone_has_no_recipes(tmp_path):
    """As a monorepo may have it: it says so in one line, with exit code 1."""
    for name in ("__init__.py", "recipes.py"):
        (tmp_path / "src" / "halfsync").mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "halfsync" / "src" / "halfsync" / name, tmp_path / "src" / "halfsync")
    done = subprocess.run(
        [sys.executable, "-m", "halfsync.recipes"],
        env={"PYTHONPATH": str(tmp_path / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "halfsync.recipes: the programs are not here, only in the wheel\n"


def test_fastapi():
    """FastAPI answers through a2wsgi, and the process stops well."""
    with example("fastapi_app.py", "--web.listen=tcp:0:interface=127.0.0.1") as service:
        at = port(service.wait_for("web.listening"))
        with urllib.request.urlopen(f"http://127.0.0.1:{at}/?name=Ada", timeout=PATIENCE) as response:
            assert json.load(response) == {"message": "Hello from Ada"}
        stop(service)


def test_lines():
    """A client is answered line by line; at the stop it is let go, and the process ends."""
    with example("lines_app.py", "--lines.listen=tcp:0:interface=127.0.0.1") as service:
        at = port(service.wait_for("lines.listening"))
        service.wait_for("service.started")
        with (
            socket.create_connection(("127.0.0.1", at), timeout=PATIENCE) as client,
            client.makefile("rb") as read,
        ):
            client.sendall(b"stressed\nabc\r\n")
            assert [read.readline(), read.readline()] == [b"desserts\n", b"cba\n"]
            service.signal(signal.SIGTERM)
            assert read.read() == b""
        assert service.end()[0] == 0


class _Upstream(http.server.BaseHTTPRequestHandler):
    """What stands behind the proxy."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/missing":
            self.send_error(404)
        elif self.path == "/range":
            self.send_response(206)
            self.send_header("Content-Range", self.headers["Range"])
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"part")
        elif self.path == "/broken":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"half")
            self.close_connection = True
        else:
            self.send_response(200)
            self.send_header("Content-Length", "50000000")
            self.send_header("Keep-Alive", "timeout=5")
            self.end_headers()
            try:
                for _ in range(50):
                    self.wfile.write(b"x" * 1_000_000)
            except OSError:
                self.server.cut.set()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.upper())

    def log_message(self, *arguments):
        pass


def test_every_recipe_is_in_the_index_with_its_test():
    """And the index names no program, test or page that is not there."""
    text = (EXAMPLES / "README.md").read_text()
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert all((EXAMPLES / each).resolve().exists() for each in links)
    assert {each for each in links if each.endswith(".py")} == {path.name for path in EXAMPLES.glob("*.py")}
    rows = re.findall(r"(?m)^\| .* \| .*\.py\).* \| `(\w+\.py)::(\w+)` \|$", text)
    assert len(rows) == text.count("_app.py) |") + text.count("fleet_task.py) |")
    for file, test in rows:
        assert f"def {test}(" in (Path(__file__).parent / file).read_text(), test


@pytest.fixture
def upstream() -> Iterator[http.server.ThreadingHTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Upstream)
    server.cut = threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_proxy(upstream):
    """Status, headers, ranges, bodies, errors go through; what breaks off behind it breaks off before it."""
    flags = ["--web.listen=tcp:0:interface=127.0.0.1", f"--upstream=http://127.0.0.1:{upstream.server_port}"]
    with example("proxy_app.py", *flags) as service:
        url = f"http://127.0.0.1:{port(service.wait_for('web.listening'))}"
        with urllib.request.urlopen(f"{url}/large", timeout=PATIENCE) as response:
            assert response.headers["Keep-Alive"] is None
            assert len(response.read()) == 50_000_000
        asked = urllib.request.Request(f"{url}/range", headers={"Range": "bytes=1-4"})
        with urllib.request.urlopen(asked, timeout=PATIENCE) as response:
            assert (response.status, response.headers["Content-Range"]) == (206, "bytes=1-4")
            assert response.read() == b"part"
        with urllib.request.urlopen(f"{url}/shout", data=b"hello", timeout=PATIENCE) as response:
            assert (response.status, response.read()) == (201, b"HELLO")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{url}/missing", timeout=PATIENCE)
        with (
            urllib.request.urlopen(f"{url}/broken", timeout=PATIENCE) as response,
            pytest.raises(http.client.IncompleteRead),
        ):
            response.read()
        # A client that leaves ends the call behind the proxy.
        with urllib.request.urlopen(f"{url}/large", timeout=PATIENCE) as response:
            response.read(1)
        assert upstream.cut.wait(PATIENCE)
        stop(service)


def test_proxy_without_an_upstream():
    """The client hears 502, and why."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        flags = ["--web.listen=tcp:0:interface=127.0.0.1"]
        flags.append(f"--upstream=http://127.0.0.1:{unused.getsockname()[1]}")
        with example("proxy_app.py", *flags) as service:
            url = f"http://127.0.0.1:{port(service.wait_for('web.listening'))}/"
            with pytest.raises(urllib.error.HTTPError, match="502"):
                urllib.request.urlopen(url, timeout=PATIENCE)
            stop(service)


def test_worker(tmp_path):
    """Messages are done in order and acknowledged; those of a consumer that died are done by another one."""
    with redis_server(tmp_path) as url, redis.Redis.from_url(url) as client:
        flags = [f"--redis_url={url}", "--claim_after=0.1"]
        with example("worker_app.py", *flags) as first:
            first.wait_for("service.started")
            for number in range(3):
                client.xadd("orders", {"data": json.dumps({"order": number})})
            assert [first.wait_for("order.shipped")["order"] for _ in range(3)] == [0, 1, 2]
            stop(first)
        assert client.xpending("orders", "workers")["pending"] == 0
        # Read by one that dies before it has worked on it.
        client.xadd("orders", {"data": json.dumps({"order": 3})})
        client.xreadgroup("workers", "dead", {"orders": ">"})
        with example("worker_app.py", *flags) as second:
            assert second.wait_for("order.shipped")["order"] == 3
            stop(second)
        assert client.xpending("orders", "workers")["pending"] == 0


def test_fleet_task():
    """One of two processes runs the task; when it is killed the other does; the old number may not write."""
    with postgres() as url:
        flags = [f"--database={url}", "--interval=0.2"]
        with example("fleet_task.py", *flags) as one, example("fleet_task.py", *flags) as other:
            one.wait_for("service.started")
            other.wait_for("service.started")
            # Each says so when it has done the task: the leader first, the other one when that is gone.
            reported: SimpleQueue[tuple[Child, dict[str, Any]]] = SimpleQueue()
            for service in (one, other):
                Thread(
                    target=lambda each: reported.put((each, each.wait_for("fleet.reported"))),
                    args=(service,),
                    daemon=True,
                ).start()
            leader, first = reported.get(timeout=PATIENCE)
            leader.process.kill()
            follower, second = reported.get(timeout=PATIENCE)
            assert follower is not leader
            assert (first["number"], second["number"]) == (1, 2)
            assert second["written"]
            with psycopg.connect(url, autocommit=True) as connection:
                fences = [row[0] for row in connection.execute("SELECT fence FROM fleet ORDER BY ctid")]
                assert fences == sorted(fences)
                refused = (
                    "INSERT INTO fleet SELECT 1, 'late' WHERE NOT EXISTS (SELECT FROM fleet WHERE fence > 1)"
                )
                assert connection.execute(refused).rowcount == 0
            stop(follower)


def browser(at: int) -> Ask:
    """Return a function that asks a service on a port, with a cookie; it returns body and new cookie."""

    def ask(method: str, path: str, cookie: str = "") -> tuple[str, str]:
        request = urllib.request.Request(f"http://127.0.0.1:{at}{path}", method=method)
        if cookie:
            request.add_header("Cookie", cookie)
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return response.read().decode(), (response.headers["Set-Cookie"] or "").partition(";")[0]

    return ask


@contextmanager
def two_processes(*flags: str) -> Iterator[list[Ask]]:
    """Run two processes of the example with sessions; yield a browser for each."""
    local = ["--web.listen=tcp:0:interface=127.0.0.1", *flags]
    with example("sessions_app.py", *local) as one, example("sessions_app.py", *local) as other:
        yield [browser(port(each.wait_for("web.listening"))) for each in (one, other)]
        stop(one)
        stop(other)


def test_sessions_in_cookies():
    """Who logged in at one process is known by the other; what another key has signed is nobody's."""
    with two_processes("--secret_key=the same") as (one, other):
        cookie = one("POST", "/login/Ada")[1]
        assert other("GET", "/", cookie)[0] == "Hello, Ada\n"
        assert other("GET", "/", cookie[:-1] + "!")[0] == "Hello, stranger\n"
    local = "--web.listen=tcp:0:interface=127.0.0.1"
    with example("sessions_app.py", local, "--secret_key=another") as service:
        ask = browser(port(service.wait_for("web.listening")))
        assert ask("GET", "/", cookie)[0] == "Hello, stranger\n"
        stop(service)


def test_sessions_in_redis(tmp_path):
    """The same; an id that a client made up is not taken, and a logout holds for all."""
    with (
        redis_server(tmp_path) as url,
        redis.Redis.from_url(url) as client,
        two_processes(f"--redis_url={url}", "--lifetime=600") as (one, other),
    ):
        cookie = one("POST", "/login/Ada", "session=made-up")[1]
        assert "made-up" not in cookie
        assert other("GET", "/", cookie)[0] == "Hello, Ada\n"
        (key,) = client.keys("session:*")
        assert 0 < client.ttl(key) <= 600
        other("POST", "/logout", cookie)
        assert one("GET", "/", cookie)[0] == "Hello, stranger\n"
        assert client.keys("session:*") == []


def test_a_second_web_listener():
    """Each listener has its own application; metrics and log name it; both end in a drain."""
    local = [f"--{name}.listen=tcp:0:interface=127.0.0.1" for name in ("web", "internal", "admin")]
    with example("internal_app.py", *local) as service:
        service.wait_for("service.started")
        at = {event["event"]: port(event) for event in service.events if "address" in event}
        web, internal, admin = (at[f"{name}.listening"] for name in ("web", "internal", "admin"))
        assert browser(web)("GET", "/")[0] == "Hello, world!\n"
        assert json.loads(browser(internal)("GET", "/stock/tea")[0]) == {"product": "tea", "stock": 7}
        with pytest.raises(urllib.error.HTTPError, match="404"):
            browser(web)("GET", "/stock/tea")
        metrics = browser(admin)("GET", "/metrics")[0]
        assert 'http_requests_total{listener="internal",method="GET",status="200"} 1' in metrics
        stop(service)


def test_events(tmp_path):
    """Who listens hears of each price; who comes back gets what was missed; a file has its type and a tag."""
    (tmp_path / "prices.css").write_text("dl { color: green }")
    local = ["--web.listen=tcp:0:interface=127.0.0.1", f"--static={tmp_path}"]
    with example("events_app.py", *local) as service:
        number = port(service.wait_for("web.listening"))
        at = f"http://127.0.0.1:{number}"
        service.wait_for("service.started")

        def change(price: bytes) -> None:
            with urllib.request.urlopen(f"{at}/prices/tea", price, PATIENCE) as response:
                assert response.status == 204

        def next_price(listening: Any) -> tuple[str, str]:
            lines = list(iter(lambda: listening.readline().decode().rstrip(), ""))
            while not any(line.startswith("data:") for line in lines):
                lines = list(iter(lambda: listening.readline().decode().rstrip(), ""))
            found = dict(line.split(": ", 1) for line in lines)
            return found["id"], found["data"]

        with urllib.request.urlopen(f"{at}/events", timeout=PATIENCE) as listening:
            change(b"42.17")
            name, data = next_price(listening)
            assert json.loads(data) == ["tea", 42.17]
        change(b"43")
        again = urllib.request.Request(f"{at}/events", headers={"Last-Event-ID": name})
        with urllib.request.urlopen(again, timeout=PATIENCE) as listening:
            assert json.loads(next_price(listening)[1]) == ["tea", 43.0]
        with urllib.request.urlopen(f"{at}/static/prices.css", timeout=PATIENCE) as response:
            assert response.headers["Content-Type"] == "text/css; charset=utf-8"
            assert response.headers["ETag"]
        assert "EventSource" in browser(number)("GET", "/")[0]
        stop(service)
