"""Type checkers, run over code of a service that has the library installed and none of its configuration."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from children import ROOT, SOURCES

if TYPE_CHECKING:
    from pathlib import Path


def mypy(code: str, folder: Path, settings: str = "") -> list[str]:
    """Return what `mypy --strict` has to say, without the places.

    :param settings: what stands below `[mypy]`: for libraries that have no types.
    """
    (folder / "service.py").write_text(code)
    (folder / "mypy.ini").write_text(f"[mypy]\n{settings}\n")
    command = ["mypy", "--strict", "--no-error-summary", f"--cache-dir={ROOT / '.mypy_cache' / 'service'}"]
    # As it does with what is installed: errors inside the library are not the service's.
    done = _run(folder, *command, "--follow-imports=silent", "service.py")
    return [line.rpartition("error: ")[2] for line in done.splitlines() if ": note: " not in line]


def pyright(code: str, folder: Path, mode: str = "strict") -> list[str]:
    """Return what pyright has to say in its strict mode (or another), the first line of each."""
    (folder / "service.py").write_text(code)
    return [each.partition(": ")[2] for each in pyright_project(folder, ["service.py"], mode)]


def pyright_project(folder: Path, paths: list[str], mode: str, *sources: str) -> list[str]:
    """Return what pyright has to say about files and folders of a project, with the file's name.

    Code that Thrift makes is left out: `gen/` has stubs, and the rest is checked against those.
    :param sources: where else imports are found, beside this Python's libraries and ours.
    """
    settings = {
        "typeCheckingMode": mode,
        "extraPaths": [*sources, str(SOURCES)],
        "include": paths,
        "exclude": ["**/gen"],
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    done = _run(folder, "pyright", "--outputjson", "--pythonpath", sys.executable)
    told = json.loads(done)
    assert told["summary"]["filesAnalyzed"], paths
    return [
        each["file"].rpartition("/")[2] + ": " + each["message"].partition("\n")[0]
        for each in told["generalDiagnostics"]
    ]


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
