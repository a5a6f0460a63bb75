"""The table of contents of the process: its name, its flags, its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

{% if cookiecutter.web == "wsgi" -%}
from halfsync import About, Admin, Gateway, Manhole, WebListener, run, workers_from_flags
{%- elif cookiecutter.web == "async" -%}
from halfsync import About, Admin, Manhole, WebListener, run
{%- else -%}
from halfsync import About, Admin, Manhole, run
{%- endif %}

from . import __version__, tasks
{%- if cookiecutter.web != "none" %}
from .web import make_app
{%- endif %}

if TYPE_CHECKING:
    from collections.abc import Sequence

    from halfsync import Process

ABOUT = About(
    name="{{ cookiecutter.project_slug }}",
    package="{{ cookiecutter.package_name }}",
    version=__version__,
    summary={{ cookiecutter.description | python }},
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service until a signal stops it, and return its exit code."""
    return run(ABOUT, parts, argv=argv)


def parts(process: Process) -> None:
    """Name the parts in the order in which they start; they stop in reverse."""
    {%- if cookiecutter.web == "none" %}
    admin = process.add(Admin.from_flags(process))
    {%- else %}
    process.add(Admin.from_flags(process))
    {%- endif %}
    process.add(Manhole.from_flags(process))
    {%- if cookiecutter.web == "wsgi" %}
    workers = process.add(workers_from_flags(process.reactor))
    web = process.add(WebListener.from_flags(Gateway(make_app(), workers), process.reactor))
    process.add(tasks.schedule(process.reactor, own_page=web.url))
    {%- elif cookiecutter.web == "async" %}
    web = process.add(WebListener.from_flags(make_app().resource(), process.reactor))
    process.add(tasks.schedule(process.reactor, own_page=web.url))
    {%- else %}
    process.add(tasks.schedule(process.reactor, own_page=admin.url))
    {%- endif %}
