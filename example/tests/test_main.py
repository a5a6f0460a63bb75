from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

from hello_service import __version__

from .conftest import COMMAND

if TYPE_CHECKING:
    from halfsync.testing import ServiceProcess


def run(*flags: str) -> subprocess.CompletedProcess[str]:
    """Run the service with flags that make it end by itself."""
    return subprocess.run([*COMMAND, *flags], capture_output=True, text=True, check=False)


def test_defaults_are_good() -> None:
    """With no flags at all there is nothing to complain about."""
    checked = run("--check_config")
    assert (checked.returncode, checked.stdout.strip()) == (0, "ok")


def test_version() -> None:
    """`--version` names the service and its version."""
    told = run("--version")
    assert told.returncode == 0
    assert __version__ in told.stdout


def test_unknown_flag_is_refused() -> None:
    """A misspelt flag is one line that names it, and exit code 2."""
    refused = run("--no_such_flag=1")
    assert refused.returncode == 2
    assert "no_such_flag" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_life(service: ServiceProcess) -> None:
    """The service gets ready, answers, and stops cleanly when told to."""
    service.get("admin", "/health/ready")
    assert json.loads(service.get("admin", "/info"))["version"] == __version__
    assert service.get("web", "/") == "Hello, world!\n"
    service.wait_for("page.checked")
    assert service.stop() == 0
