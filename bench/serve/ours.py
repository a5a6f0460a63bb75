"""Ours: the main of a generated service around the benchmark's application, on the halfsync in place.

The arguments are the service's own flags.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "halfsync" / "src"))

from app import application  # noqa: E402

from halfsync import About, Admin, Gateway, Manhole, WebListener, run, workers_from_flags  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Mapping

    from halfsync import Process

ABOUT = About(name="bench", package="bench", version="0", summary="The benchmark's application.")


def is_critical(headers: Mapping[str, str], _target: str) -> bool:
    """Believe a request that says so, as a service behind a gateway of its own may."""
    return headers.get("HTTP_X_PRIORITY") == "critical"


def parts(process: Process) -> None:
    """Have what a generated service has: admin and manhole cost something too."""
    process.add(Admin.from_flags(process))
    process.add(Manhole.from_flags(process))
    workers = process.add(workers_from_flags(process.reactor))
    gateway = Gateway(application, workers, is_critical=is_critical)
    process.add(WebListener.from_flags(gateway, process.reactor))


if __name__ == "__main__":
    sys.exit(run(ABOUT, parts))
