"""The slow attacks of slowhttptest against a process of its own, while another client goes on as ever."""

from __future__ import annotations

import csv
import http.client
import json
import shutil
import signal
import subprocess
import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from children import PATIENCE, child

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    shutil.which("slowhttptest") is None, reason="Debian, Ubuntu: apt install slowhttptest"
)

SERVICE = """
import json
from halfsync.http.listener import WebListener
from halfsync.http.wsgi.gateway import Gateway, workers_from_flags
BODY = bytes(8_000_000)
def app(environ, start_response):
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/large":
        return [BODY]
    if environ["PATH_INFO"] == "/refused":
        return [json.dumps(site.counts.refused).encode()]
    return [b"hello"]
def parts(process):
    global site
    workers = process.add(workers_from_flags(process.reactor))
    listener = process.add(WebListener.from_flags(Gateway(app, workers), process.reactor))
    site = listener.factory
main(parts)
"""
FLAGS = (
    "--web.listen=tcp:0:interface=127.0.0.1",
    "--web.request_timeout=1",
    "--web.write_timeout=1",
    "--web.min_rate=100000",
    "--web.access_log=false",
    # Fewer than attackers: each of them would hold one.
    "--web.threads=4",
)

ATTACKERS = 20


class Client:
    """Asks again and again, on a connection that it keeps and on new ones."""

    def __init__(self, port: int):
        self.port = port
        self.answers = {"kept": 0, "new": 0}
        self.errors: list[str] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._go_on, args=(kind,)) for kind in self.answers]

    @contextmanager
    def running(self) -> Iterator[None]:
        for each in self._threads:
            each.start()
        try:
            yield
        finally:
            self._over.set()
            for each in self._threads:
                each.join()

    def ask(self, path: str = "/") -> bytes:
        with closing(self._connect()) as connection:
            return self._get(connection, path)

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def _get(self, connection: http.client.HTTPConnection, path: str) -> bytes:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200, response.status
        return body

    def _go_on(self, kind: str) -> None:
        connection = self._connect()
        connection.connect()
        # A connection that was closed is not opened again in silence.
        connection.auto_open = 0
        try:
            while not self._over.wait(0.005):
                body = self._get(connection, "/") if kind == "kept" else self.ask()
                assert body == b"hello"
                self.answers[kind] += 1
        except (OSError, AssertionError, http.client.HTTPException) as error:
            self.errors.append(f"{kind}, after {self.answers[kind]}: {error!r}")
        finally:
            connection.close()


@pytest.mark.parametrize(
    ("attack", "refused"),
    [
        pytest.param(["-H", "-i", "1", "-x", "10"], True, id="slowloris"),
        pytest.param(["-B", "-i", "1", "-x", "10", "-s", "8192"], True, id="slow body"),
        pytest.param(["-X", "-w", "512", "-y", "1024", "-n", "1", "-z", "32"], False, id="slow read"),
    ],
)
def test_attack(attack: list[str], refused: bool, tmp_path: Path):  # noqa: FBT001  a parameter of the cases
    """Each attacker is cut by its deadline, and no other client is refused or cut."""
    with child(SERVICE, *FLAGS) as service:
        port = int(service.wait_for("web.listening")["address"].rpartition(":")[2])
        client = Client(port)
        url = f"http://127.0.0.1:{port}/{'' if refused else 'large'}"
        command = ["slowhttptest", *attack, "-c", str(ATTACKERS), "-r", str(ATTACKERS), "-u", url]
        command += ["-l", "5", "-p", "3", "-g", "-o", str(tmp_path / "report")]
        with client.running():
            run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        counts = json.loads(client.ask("/refused"))
        service.signal(signal.SIGTERM)
        code, events, _ = service.end()
    assert client.errors == []
    assert min(client.answers.values()) > 10
    assert code == 0
    report = list(csv.DictReader((tmp_path / "report.csv").read_text().splitlines()))
    assert "0" not in {each["Service Available"] for each in report}
    if refused:
        # It ends by itself when all of them are cut.
        assert "No open connections left" in run.stdout
        assert counts == {"408": ATTACKERS}
    else:
        # It keeps what has come, and does not look whether more will: the service's own word counts.
        assert events.count("http.stalled") == ATTACKERS
        assert counts == {}
