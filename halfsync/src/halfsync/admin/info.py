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

from halfsync import built
from halfsync.logs import timestamp

if TYPE_CHECKING:
    from halfsync.life.process import Process


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
        "build": build(about.package),
        "dependencies": dependencies(),
    }


FACTS = frozenset(["commit", "changed", "locks", "library", "pythons", "platforms"])
"""Those of `make pex` that nothing else here tells."""


@functools.cache
def dependencies() -> dict[str, str]:
    """Return the version of every distribution that can be imported, by name."""
    found = {each.name: each.version for each in distributions() if each.name}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


@functools.cache
def build(package: str) -> dict[str, Any] | None:
    """Return the pex that this process came in, and what it was built from; None when it came in none.

    The facts are those of `make pex`; a pex that another tool has built has none of them.
    In venv mode a pex leaves its PEX-INFO in the venv that it unpacks itself to, and its path in `PEX`.
    """
    try:
        facts = json.loads((Path(sys.prefix) / "PEX-INFO").read_text(encoding="utf-8"))
        properties = facts.get("build_properties", {})
        return {
            "pex": os.environ.get("PEX", ""),
            "code_hash": str(facts.get("code_hash", "")),
            "pex_version": str(properties.get("pex_version", "")),
            **{name: value for name, value in (built.facts(package) or {}).items() if name in FACTS},
        }
    except (OSError, ValueError, AttributeError):
        return None
