"""The service as it runs in production: a process of its own, with nothing in it but what is locked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from halfsync.testing import ServiceProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

PYTHON = Path(__file__).parent.parent / ".venv" / "bin" / "python"
PACKAGE = "{{ cookiecutter.package_name }}"
COMMAND = [str(PYTHON) if PYTHON.exists() else sys.executable, "-m", PACKAGE]
# Without .venv (under Pants) the service stands where the tests do.
PATHS = {} if PYTHON.exists() else {"PYTHONPATH": ":".join(sys.path)}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceProcess]:
    """Start the service on ports of its own, and end it with the test."""
    listeners = ["admin"{% if cookiecutter.web != "none" %}, "web"{% endif %}{% if cookiecutter.rpc == "thrift" %}, "rpc"{% endif %}]
    flags = [f"--{each}.listen=tcp:0:interface=127.0.0.1" for each in listeners]
    environ = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", **PATHS}
    with ServiceProcess([*COMMAND, *flags], environ=environ) as running:
        running.wait_for("service.started")
        yield running
