"""An existing application adopts the library without the template: from an empty environment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

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
    any_port = "tcp:0:interface=127.0.0.1"
    command = [python, ROOT / "halfsync" / "examples" / "flask_app.py", "--log.format=json"]
    process = subprocess.Popen(
        [*command, f"--web.listen={any_port}", f"--admin.listen={any_port}", f"--manhole.listen={any_port}"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
    )
    with process:
        try:
            assert process.stdout
            ports: dict[str, str] = {}
            for line in process.stdout:
                event = json.loads(line)
                if "address" in event:
                    ports[event["event"]] = event["address"].rpartition(":")[2]
                if event["event"] == "service.started":
                    break
            for listener, path in (("web", "/"), ("admin", "/health/ready")):
                url = f"http://127.0.0.1:{ports[f'{listener}.listening']}{path}"
                with urllib.request.urlopen(url, timeout=30) as response:
                    assert response.status == 200
            process.send_signal(signal.SIGTERM)
            rest, _ = process.communicate(timeout=60)
            assert "service.draining" in rest
            assert process.returncode == 0
        finally:
            process.kill()
