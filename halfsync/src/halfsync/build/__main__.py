"""The commands of the build: `python -m halfsync.build COMMAND --slug SLUG --package PACKAGE`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from halfsync.build import audit, everywhere, pex, scie, targets, verify
from halfsync.build.errors import BuildError
from halfsync.build.project import Project

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit code; what is wrong is one line on standard error."""
    parser = argparse.ArgumentParser(
        prog="halfsync.build", description="Build a service; its Makefile calls this."
    )
    parser.add_argument("command", choices=("pex", "pex-all", "scie", "verify", "audit"))
    parser.add_argument("--slug", required=True, help="what the file is called")
    parser.add_argument("--package", required=True, help="the package below src/ that has __main__.py")
    parser.add_argument("--file", default="", help="verify: the file to compare")
    parser.add_argument("--python", default=sys.executable, help="verify: the interpreter to build with")
    parser.add_argument("--fresh", action="store_true", help="verify: fetch tools and wheels again")
    parser.add_argument(
        "--machine", action="append", choices=tuple(targets.MACHINES), help="pex-all: for these"
    )
    options, more = parser.parse_known_args(argv)
    project = Project(Path.cwd(), options.slug, options.package)
    try:
        return _run(project, options, more)
    except BuildError as error:
        print(f"{options.slug}: {error}", file=sys.stderr)  # noqa: T201  for the person who called it
        return 1


def _run(project: Project, options: argparse.Namespace, more: list[str]) -> int:
    if options.command == "verify":
        _say(verify.verify(project, Path(options.file), options.python, fresh=options.fresh))
    elif options.command == "audit":
        *advisories, summary = audit.audit(project, more)
        _say(*advisories, summary)
        return 1 if advisories else 0
    elif options.command == "scie":
        path = scie.build(project, more)
        _say(f"dist/{path.name} is ready; it has a CPython {targets.minor()} of its own")
    elif options.command == "pex-all":
        machines = options.machine or targets.MACHINES
        chosen = [each for each in targets.everywhere(project.oldest_python()) if each.machine in machines]
        path, *beside = everywhere.build(project, chosen, more)
        aim = targets.aim(chosen).wanted()
        _say(f"dist/{path.name} is ready, for {aim}; beside it {', '.join(each.name for each in beside)}")
    else:
        path, *beside = pex.build(project, more)
        names = ", ".join(each.name for each in beside)
        _say(f"dist/{path.name} is ready, for CPython {targets.minor()}; beside it {names}")
    return 0


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    sys.exit(main())
