"""Programs that the build runs, and what they say when they fail."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from halfsync.build.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

LAST = 3
"""Lines of a program that failed, in a message."""


def run(
    command: Sequence[str], folder: Path, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder, and return how it went.

    :raises BuildError: when there is no such program.
    """
    try:
        return subprocess.run(  # noqa: S603  each caller's own words
            command, cwd=folder, env=environ, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise BuildError(f"{command[0]}: {error.strerror}") from None


def last_words(done: subprocess.CompletedProcess[str]) -> str:
    """Return the end of what a program said, in a line."""
    said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return " / ".join(said[-LAST:]) or f"exit code {done.returncode}"
