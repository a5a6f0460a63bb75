"""Say whether the library works with the newest releases of what it stands on, above its caps, too.

It installs them into .cache/newest, without a lock, and runs the library's quick tests.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PLACE = ROOT / ".cache" / "newest"

FOR_TESTS = ("flask", "h2", "h11", "hypothesis", "klein", "orjson", "pytest", "pytest-timeout")

QUICK = (
    "test_private_names",
    "test_lifecycle",
    "test_workers",
    "test_periodic",
    "test_parser",
    "test_listener",
    "test_metrics",
    "test_h2",
    "test_wsgi",
    "test_flags",
    "test_run",
)


def main() -> int:
    """Install, show what came, and run the tests; return pytest's exit code."""
    project = tomllib.loads((ROOT / "halfsync" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [re.sub(r"[<>=~!].*", "", each) for each in (*project["dependencies"], *FOR_TESTS)]
    python = str(PLACE / "bin" / "python")
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(PLACE)],
        [python, "-m", "pip", "install", "--quiet", "--upgrade", *wanted],
        [python, "-m", "pip", "list", "--format=freeze"],
    ):
        subprocess.run(command, check=True)  # noqa: S603  nothing of it comes from elsewhere
    tests = [f"tests/{each}.py" for each in QUICK]
    command = [python, "-m", "pytest", "-q", "--timeout", "120", *tests]
    return subprocess.run(command, cwd=ROOT / "halfsync", check=False).returncode  # noqa: S603  the same


if __name__ == "__main__":
    sys.exit(main())
