"""What runs here: versions and the build, read once."""

from __future__ import annotations

import functools
import json
import os
import platform
import sys
import time
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfsync.logs import timestamp

if TYPE_CHECKING:
    from halfsync.life.parts import Process


def info(process: Process) -> dict[str, Any]:
    """Return what a person wants to know first about a process."""
    about = process.about
    return {
        "name": about.name,
        "version": about.version,
        "summary": about.summary,
        "state": process.state,
        "pid": os.getpid(),
        "started": timestamp(process.started),
        "uptime_seconds": round(time.time() - process.started, 3),
        "reactor": type(process.reactor).__name__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "build": build(),
        "dependencies": dependencies(),
    }


@functools.cache
def dependencies() -> dict[str, str]:
    """Return the version of every distribution that can be imported, by name."""
    found = {each.name: each.version for each in distributions() if each.name}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


@functools.cache
def build() -> dict[str, str] | None:
    """Return the pex that this process came in, and the hash of what is in it; None when it came in none.

    In venv mode a pex leaves its PEX-INFO in the venv that it unpacks itself to, and its path in `PEX`.
    """
    try:
        facts = json.loads((Path(sys.prefix) / "PEX-INFO").read_text(encoding="utf-8"))
        properties = facts.get("build_properties", {})
        return {
            "pex": os.environ.get("PEX", ""),
            "code_hash": str(facts.get("code_hash", "")),
            "pex_version": str(properties.get("pex_version", "")),
        }
    except (OSError, ValueError, AttributeError):
        return None
