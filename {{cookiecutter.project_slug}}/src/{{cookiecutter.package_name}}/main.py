"""The table of contents of the process: its name, its flags, its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

{% if cookiecutter.web == "wsgi" -%}
from halfsync import About, Admin, Gateway, Manhole, WebListener, run{% if cookiecutter.rpc == "thrift" %}, thrift{% endif %}, workers_from_flags
{%- elif cookiecutter.web == "async" -%}
from halfsync import About, Admin, Manhole, WebListener, run{% if cookiecutter.rpc == "thrift" %}, thrift{% endif %}
{%- else -%}
from halfsync import About, Admin, Manhole, run{% if cookiecutter.rpc == "thrift" %}, thrift{% endif %}
{%- endif %}
{%- if cookiecutter.rpc == "thrift" %}
from halfsync.thrift.rpc_user import rpc_user
{%- endif %}

from . import __version__, tasks
{%- if cookiecutter.rpc == "thrift" %}
from .rpc import make_service
{%- endif %}
{%- if cookiecutter.web != "none" %}
from .web import make_app
{%- endif %}

if TYPE_CHECKING:
    from collections.abc import Sequence

    from halfsync import Process
{%- if cookiecutter.rpc == "thrift" %}
    from halfsync.thrift import Call
{%- endif %}

ABOUT = About(
    name="{{ cookiecutter.project_slug }}",
    package="{{ cookiecutter.package_name }}",
    version=__version__,
    summary={{ cookiecutter.description | python }},
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service until a signal stops it, and return its exit code.

    `commands` are what `[flags] run NAME [arguments]` calls instead of serving; docs/recipes.md has one.
    """
    return run(ABOUT, parts, argv=argv, commands={% if cookiecutter.rpc == "thrift" %}{"rpc-user": rpc_user}{% else %}{}{% endif %})


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
    {%- elif cookiecutter.web == "async" %}
    web = process.add(WebListener.from_flags(make_app().resource(), process.reactor))
    {%- endif %}
    {%- if cookiecutter.rpc == "thrift" %}
    rpc_pool = process.add(thrift.workers_from_flags(process.reactor))
    process.add(thrift.RpcListener.from_flags(make_service(), rpc_pool, process.reactor, authorize=may_call))
    {%- endif %}
    process.add(tasks.schedule(process.reactor, own_page={% if cookiecutter.web == "none" %}admin{% else %}web{% endif %}.url))
{%- if cookiecutter.rpc == "thrift" %}


def may_call(call: Call) -> bool:
    """Say who may call what: whoever was let in every method, but `admin_...` the user `admin` alone."""
    user = call.identity.name if call.identity else None
    return user == "admin" or not call.method.startswith("admin_")
{%- endif %}
