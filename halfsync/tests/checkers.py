"""Type checkers, run over code of a service that has the library installed and none of its configuration."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from children import ROOT, SOURCES

if TYPE_CHECKING:
    from pathlib import Path


def mypy(code: str, folder: Path) -> list[str]:
    """Return what `mypy --strict` has to say, without the places."""
    (folder / "service.py").write_text(code)
    command = ["mypy", "--strict", "--no-error-summary", f"--cache-dir={ROOT / '.mypy_cache' / 'service'}"]
    # As it does with what is installed: errors inside the library are not the service's.
    done = _run(folder, *command, "--follow-imports=silent", "service.py")
    return [line.rpartition("error: ")[2] for line in done.splitlines() if ": note: " not in line]


def pyright(code: str, folder: Path) -> list[str]:
    """Return what pyright has to say in its strict mode, the first line of each."""
    (folder / "service.py").write_text(code)
    settings = {"typeCheckingMode": "strict", "extraPaths": [str(SOURCES)]}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    done = _run(folder, "pyright", "--outputjson", "--pythonpath", sys.executable, "service.py")
    return [each["message"].partition("\n")[0] for each in json.loads(done)["generalDiagnostics"]]


def _run(folder: Path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={"MYPYPATH": str(SOURCES), "PATH": "/usr/bin:/bin", "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout
