"""The service as it runs in production: a process of its own, with nothing in it but what is locked."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
PYTHON = ROOT / ".venv" / "bin" / "python"
PACKAGE = "{{ cookiecutter.package_name }}"
COMMAND = [str(PYTHON) if PYTHON.exists() else sys.executable, "-m", PACKAGE]
# Without .venv (under Pants) the service stands where the tests do.
PATHS = {} if PYTHON.exists() else {"PYTHONPATH": os.pathsep.join(sys.path)}

PATIENCE = 30
"""Seconds after which a service that does not do what is awaited has failed."""


class Running:
    """A running service, seen through its log: one JSON object a line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []

    def wait_for(self, event: str) -> dict[str, Any]:
        """Return an event that has been logged, or read the log up to it."""
        for seen in self.events:
            if seen["event"] == event:
                return seen
        assert self.process.stdout
        for line in self.process.stdout:
            self.events.append(json.loads(line))
            if self.events[-1]["event"] == event:
                return self.events[-1]
        raise AssertionError(f"the service ended without {event}: {self.events}")

    def url(self, listener: str) -> str:
        """Return where a listener, such as `admin`, answers."""
        addresses = [event["address"] for event in self.events if event["event"] == f"{listener}.listening"]
        port = re.search(r":(\d+)$", addresses[0])
        assert port
        return f"http://127.0.0.1:{port[1]}"

    def get(self, listener: str, path: str) -> str:
        """Fetch a page; raise `urllib.error.HTTPError` when it answers with an error."""
        with urllib.request.urlopen(self.url(listener) + path, timeout=PATIENCE) as response:
            return str(response.read().decode())

    def stop(self) -> int:
        """Tell the service to stop, wait for its end, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=PATIENCE)
        return self.process.returncode


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Running]:
    """Start the service on ports of its own, and end it with the test."""
    flags = ["--log.format=json", "--admin.listen=tcp:0:interface=127.0.0.1"]
{%- if cookiecutter.web != "none" %}
    flags += ["--web.listen=tcp:0:interface=127.0.0.1"]
{%- endif %}
    process = subprocess.Popen(
        [*COMMAND, *flags],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", **PATHS},
    )
    with process:
        running = Running(process)
        try:
            running.wait_for("service.started")
            yield running
        finally:
            process.kill()
