"""The table of contents of the process: its name, its flags, its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from halfsync import About, Admin, Gateway, Manhole, WebListener, run, workers_from_flags

from . import __version__, tasks
from .web import make_app

if TYPE_CHECKING:
    from collections.abc import Sequence

    from halfsync import Process

ABOUT = About(
    name="hello-service",
    package="hello_service",
    version=__version__,
    summary="A Twisted service that is deployed as one file and can be looked into while it runs.",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service until a signal stops it, and return its exit code.

    `commands` are what `[flags] run NAME [arguments]` calls instead of serving; docs/recipes.md has one.
    """
    return run(ABOUT, parts, argv=argv, commands={})


def parts(process: Process) -> None:
    """Name the parts in the order in which they start; they stop in reverse."""
    process.add(Admin.from_flags(process))
    process.add(Manhole.from_flags(process))
    workers = process.add(workers_from_flags(process.reactor))
    web = process.add(WebListener.from_flags(Gateway(make_app(), workers), process.reactor))
    process.add(tasks.schedule(process.reactor, own_page=web.url))
