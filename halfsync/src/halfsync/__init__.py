"""halfsync: a chassis for Python services on Twisted; all IO in the reactor, blocking work in threads.

The names below are the library's public face: `docs/library.md` says what each is for and what is promised.
`halfsync.testing` is public too; all else is not, and may change in any version.

From the top of the house to its ground; nothing below knows what stands above:

- `serving`    from an application to a running service in one call
- `testing`    for the tests of what stands on the library
- `admin`      the process seen and changed over HTTP; `metrics` for Prometheus, `stacks` of every thread
- `manhole`    the process looked into over SSH, while it is open
- `tasks`      periodic work
- `http`       requests and responses, bounded; WSGI through threads
- `workers`    the threads that may block
- `endpoints`  where it listens: from a flag's strings to connections, TLS among them
- `life`       parts that start in order and stop in reverse; run, signals, drain, systemd, handover
- `logs`       one stream of structured events
- `flags`      default < file < environment < command line; `flags.types` are strict
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from halfsync import flag, flags
    from halfsync.admin import Admin
    from halfsync.background import Background, BackgroundFull
    from halfsync.deadline import DeadlineExceeded
    from halfsync.endpoints.listener import Endpoints, Listener
    from halfsync.http.listener import WebListener
    from halfsync.http.mount import Mount
    from halfsync.http.websocket.resource import WebSockets
    from halfsync.http.wsgi.gateway import Gateway, workers_from_flags
    from halfsync.life.about import About
    from halfsync.life.errors import StartError
    from halfsync.life.parts import Part
    from halfsync.life.process import Process
    from halfsync.life.reactors import arrange_reactor
    from halfsync.life.signals import hold_signals
    from halfsync.logs import get_logger
    from halfsync.manhole import Manhole
    from halfsync.periodic import Periodic
    from halfsync.reactor_calls import from_thread
    from halfsync.serving import run, serve_resource, serve_wsgi
    from halfsync.tasks import Tasks
    from halfsync.web.sse import EventStream
    from halfsync.web.static_files import StaticFiles
    from halfsync.workers.pool import Busy, WorkerPool

__all__ = [
    "About",
    "Admin",
    "Background",
    "BackgroundFull",
    "Busy",
    "DeadlineExceeded",
    "Endpoints",
    "EventStream",
    "Gateway",
    "Listener",
    "Manhole",
    "Mount",
    "Part",
    "Periodic",
    "Process",
    "StartError",
    "StaticFiles",
    "Tasks",
    "WebListener",
    "WebSockets",
    "WorkerPool",
    "arrange_reactor",
    "flag",
    "flags",
    "from_thread",
    "get_logger",
    "hold_signals",
    "run",
    "serve_resource",
    "serve_wsgi",
    "workers_from_flags",
]

__version__ = "0.2.0"

_HOMES = {
    "About": "life.about",
    "Admin": "admin",
    "Background": "background",
    "BackgroundFull": "background",
    "Busy": "workers.pool",
    "DeadlineExceeded": "deadline",
    "Endpoints": "endpoints.listener",
    "EventStream": "web.sse",
    "Gateway": "http.wsgi.gateway",
    "Listener": "endpoints.listener",
    "Manhole": "manhole",
    "Mount": "http.mount",
    "Part": "life.parts",
    "Periodic": "periodic",
    "Process": "life.process",
    "StartError": "life.errors",
    "StaticFiles": "web.static_files",
    "Tasks": "tasks",
    "WebListener": "http.listener",
    "WebSockets": "http.websocket.resource",
    "WorkerPool": "workers.pool",
    "arrange_reactor": "life.reactors",
    "from_thread": "reactor_calls",
    "get_logger": "logs",
    "hold_signals": "life.signals",
    "run": "serving",
    "serve_resource": "serving",
    "serve_wsgi": "serving",
    "workers_from_flags": "http.wsgi.gateway",
}


_MODULES = frozenset({"flag", "flags"})

if not TYPE_CHECKING:  # to a type checker, a module with this function has every name

    def __getattr__(name: str) -> Any:
        """Import a public name when it is first asked for.

        A module's flags exist once it is imported: what a program does not use must not be imported for it.
        """
        if name in _MODULES:
            return import_module(f"{__name__}.{name}")
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """Name what is public, imported or not."""
    return sorted({*globals(), *__all__})
