"""A file with a Python of its own: `make scie`.

It is the pex, a CPython of python-build-standalone, and a launcher, put together by `science`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from halfsync.build import pex, targets
from halfsync.build.command import last_words, run
from halfsync.build.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from halfsync.build.project import Project

HELP = (
    "it needs science 0.21 and a CPython of python-build-standalone, both from GitHub. Where that cannot be "
    "reached, put science on the PATH, from https://github.com/a-scie/lift/releases, have its `download` "
    "make a mirror of the rest where GitHub can be reached, and say make scie ARGS=--scie-assets-base-url=URL"
)


def build(project: Project, more: Sequence[str] = ()) -> Path:
    """Build `dist/<slug>`, an executable, of the pex that is built anew, and return its path.

    :param more: further arguments of `pex3 scie create`.
    :raises BuildError: when the pex cannot be built, or what a scie is made of cannot be fetched.
    """
    file = pex.build(project)[0]
    output = file.with_suffix("")
    output.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pex.cli", "scie", "create", "--style", "eager"]
    command += ["--scie-python-version", targets.minor(), "--dest-dir", str(file.parent), *more, str(file)]
    done = run(command, project.root)
    if done.returncode != 0 or not output.is_file():
        raise BuildError(f"scie: {last_words(done)}: {HELP}")
    return output
