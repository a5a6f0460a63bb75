"""An existing application adopts the library without the template: from an empty environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from halfsync.testing import ServiceProcess

from .conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def test_a_wheel_and_flask_are_all_it_takes(tmp_path: Path) -> None:
    """A virtual environment with nothing but the built wheel and Flask serves the example, and drains."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    code = "import build_wheel, sys; build_wheel.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT / "halfsync", check=True)
    (wheel,) = tmp_path.glob("halfsync-*.whl")
    subprocess.run([python, "-m", "pip", "install", "-q", wheel, "flask"], check=True)
    listeners = [f"--{name}.listen=tcp:0:interface=127.0.0.1" for name in ("web", "admin", "manhole")]
    command = [str(python), str(ROOT / "halfsync" / "examples" / "flask_app.py"), *listeners]
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    with ServiceProcess(command, environ=environ, patience=60) as service:
        service.wait_for("service.started")
        service.get("web", "/")
        service.get("admin", "/health/ready")
        service.process.send_signal(signal.SIGTERM)
        service.wait_for("service.draining")
        assert service.process.wait(60) == 0
