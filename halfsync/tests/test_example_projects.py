"""The larger examples, each as its process: a shop on PostgreSQL, and Django with its admin."""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.cookiejar import CookieJar
from queue import SimpleQueue
from threading import Thread
from typing import Any
from urllib.parse import urlencode

import pytest

from children import ROOT, SOURCES, running
from servers import postgres

EXAMPLES = ROOT / "halfsync" / "examples"
PATIENCE = 60


def command(name: str, *flags: str) -> list[str]:
    return [sys.executable, str(EXAMPLES / name), "--log.format=json", *flags]


def run_command(name: str, *words: str, **environ: str) -> str:
    """Run a command of an example; return what it prints."""
    done = subprocess.run(
        command(name, *words),
        env={**os.environ, "PYTHONPATH": str(SOURCES), **environ},
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def serving(name: str, *flags: str):
    local = ("--web.listen=tcp:0:interface=127.0.0.1", "--admin.listen=tcp:0:interface=127.0.0.1")
    return running(command(name, *local, *flags))


def pages(service) -> tuple[str, str]:
    """Wait until a service has started; return the URLs of its listener and of its admin interface."""
    service.wait_for("service.started")
    at = {event["event"]: event["address"] for event in service.events if "address" in event}
    found = [re.search(r"[0-9]+$", at[each])[0] for each in ("web.listening", "admin.listening")]
    web, admin = [f"http://127.0.0.1:{port}" for port in found]
    return web, admin


def stop(service) -> None:
    service.signal(signal.SIGTERM)
    code, _, errors = service.end()
    assert (code, errors) == (0, "")


def test_a_shop_sells_what_it_has():
    """Migrations may run at once; of 20 buyers of 5 pieces 5 get one; readiness asks the database."""
    with postgres() as url:
        database = f"--database={url.replace('postgresql:', 'postgresql+psycopg:')}"
        with ThreadPoolExecutor(2) as both:
            list(both.map(lambda _: run_command("shop_app.py", database, "run", "migrate"), range(2)))
        with serving("shop_app.py", database, "--web.threads=4") as service:
            web, admin = pages(service)

            def post(path: str, **form: str) -> int:
                try:
                    with urllib.request.urlopen(f"{web}{path}", urlencode(form).encode(), PATIENCE) as answer:
                        return answer.status
                except urllib.error.HTTPError as error:
                    error.close()
                    # Who waits for long behind others is asked to come again.
                    return post(path, **form) if error.code == 503 else error.code

            assert post("/products/tea", stock="5") == 201
            with ThreadPoolExecutor(20) as buyers:
                answers = list(buyers.map(lambda _: post("/products/tea/buy"), range(20)))
            assert sorted(answers) == [200] * 5 + [409] * 15
            with urllib.request.urlopen(f"{web}/products", timeout=PATIENCE) as answer:
                assert answer.read() == b'{"tea":0}\n'
            with urllib.request.urlopen(f"{admin}/health/ready", timeout=PATIENCE) as answer:
                assert answer.status == 200
            stop(service)


def test_django_with_its_admin(tmp_path):
    """Its commands run with the flags; a user logs in; the style sheet comes from Django's own package."""
    database = f"--database={tmp_path / 'admin.sqlite3'}"
    name = "django_admin_app.py"
    assert "Applying auth" in run_command(name, database, "run", "manage", "migrate")
    user = {
        f"DJANGO_SUPERUSER_{key}": value for key, value in (("USERNAME", "ada"), ("EMAIL", "ada@example.com"))
    }
    words = ("run", "manage", "createsuperuser", "--noinput")
    run_command(name, database, *words, DJANGO_SUPERUSER_PASSWORD="correct horse", **user)
    with serving(name, database) as service:
        web, _ = pages(service)
        jar = CookieJar()
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
        with browser.open(f"{web}/admin/login/", timeout=PATIENCE) as answer:
            token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', answer.read().decode())[1]
        form = {
            "csrfmiddlewaretoken": token,
            "username": "ada",
            "password": "correct horse",
            "next": "/admin/",
        }
        with browser.open(f"{web}/admin/login/", urlencode(form).encode(), PATIENCE) as answer:
            page = answer.read().decode()
        assert "Site administration" in page
        style = re.search(r'href="(/static/admin/css/base\.css)"', page)[1]
        with browser.open(f"{web}{style}", timeout=PATIENCE) as answer:
            assert answer.headers["Content-Type"] == "text/css; charset=utf-8"
            assert answer.headers["Cache-Control"] == "public, max-age=3600"
            assert answer.read()
        stop(service)


class Reports(http.server.BaseHTTPRequestHandler):
    """A service that takes reports of errors."""

    protocol_version = "HTTP/1.1"
    taken: SimpleQueue[dict[str, Any]] = SimpleQueue()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.taken.put({"path": self.path, **json.loads(body)})
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        """Say nothing."""


def test_what_is_watched_is_seen():
    """An error is a 500 and a report with the request's id; the metric counts; a full disk is not ready."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Reports) as peer:
        Thread(target=peer.serve_forever, daemon=True).start()
        flags = (f"--reports=http://127.0.0.1:{peer.server_port}", "--disk=/proc/self/no-such")
        with serving("observed_app.py", *flags) as service:
            web, admin = pages(service)
            for kind, status in (("coffee", 200), ("tea", 500)):
                try:
                    with urllib.request.urlopen(f"{web}/orders/{kind}", b"", PATIENCE) as answer:
                        got = answer.status
                except urllib.error.HTTPError as error:
                    got, name = error.code, error.headers["X-Request-Id"]
                    error.close()
                assert got == status
            report = Reports.taken.get(timeout=PATIENCE)
            assert (report["path"], report["request_id"]) == ("/orders/tea", name)
            assert report["error"] == "LookupError('there is no tea')"
            assert "order" in report["stack"][-2]
            with urllib.request.urlopen(f"{admin}/metrics", timeout=PATIENCE) as answer:
                assert b'orders_total{kind="coffee"} 1.0' in answer.read()
            service.wait_for("task.failed")
            with pytest.raises(urllib.error.HTTPError) as unready:
                urllib.request.urlopen(f"{admin}/health/ready", timeout=PATIENCE)
            with unready.value:
                assert "disk" in unready.value.read().decode()
            stop(service)
        peer.shutdown()
