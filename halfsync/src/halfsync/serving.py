"""From an application to a service, in one call: flags, reactor, log, admin, manhole, threads, listener.

    sys.exit(serve_wsgi(app, About("shop", version="1.4")))

`serve_wsgi` and `serve_resource` add the usual parts; `run` takes a function that adds each by its name.
All three parse the flags first: `--help`, `--check_config` and what is wrong with a flag end there.
What a program does not use is not imported here, so that it has no flags of it.
Exit codes: 0 a clean stop, 1 failed to start, 2 bad flags, 3 a forced stop.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast, overload, runtime_checkable

from halfsync import flags
from halfsync.commands import run_command, summary
from halfsync.handover import Handover
from halfsync.life import run as life

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from wsgiref.types import WSGIApplication

    from halfsync.commands import Command
    from halfsync.http.listener import WebResource
    from halfsync.life.about import About
    from halfsync.life.process import Process

    Parts = Callable[[Process], None]
    Beside = Callable[[Process], Mapping[str, Any]]


@runtime_checkable
class KleinLike(Protocol):
    """An application that makes a resource of itself, as klein's do."""

    def resource(self) -> Any:
        """Return the resource that answers for the application."""


def run(
    about: About,
    parts: Parts,
    *,
    commands: Mapping[str, Command] = MappingProxyType({}),
    argv: Sequence[str] | None = None,
) -> int:
    """Parse the flags, run the service until a signal stops it, and return its exit code.

    With `run NAME` after the flags, run that command instead: with flags and log, and without a listener.

    :param parts: adds the parts to the process, in the order in which they start; they stop in reverse.
        It is called after the flags are parsed and the reactor is installed, and before that runs.
    :param commands: functions by the names that may follow `run`; each gets the arguments after its name,
        and returns an exit code or None. A plain one may block; a coroutine function runs in the reactor.
    :param argv: the arguments without the program's name; None for those of the process.
    :raises SystemExit: 0 when all that was asked for is printed (`--help` and its like);
        2 when a flag is wrong, each told in a line on standard error.
    """
    told = {name: summary(command) for name, command in commands.items()}
    words = flags.parse(about, argv, commands=told)
    if words:
        return run_command(about, commands[words[0]], words[1:])

    def every(process: Process) -> None:
        process.add(Handover.from_flags(process))
        parts(process)

    return life.run(about, every)


@overload
def serve_wsgi(
    app: WSGIApplication,
    about: About,
    *,
    factory: Literal[False] = False,
    parts: Parts | None = None,
    beside: Beside | None = None,
    commands: Mapping[str, Command] = MappingProxyType({}),
    argv: Sequence[str] | None = None,
) -> int: ...


@overload
def serve_wsgi(
    app: Callable[[], WSGIApplication],
    about: About,
    *,
    factory: Literal[True],
    parts: Parts | None = None,
    beside: Beside | None = None,
    commands: Mapping[str, Command] = MappingProxyType({}),
    argv: Sequence[str] | None = None,
) -> int: ...


def serve_wsgi(
    app: WSGIApplication | Callable[[], WSGIApplication],
    about: About,
    *,
    factory: bool = False,
    parts: Parts | None = None,
    beside: Beside | None = None,
    commands: Mapping[str, Command] = MappingProxyType({}),
    argv: Sequence[str] | None = None,
) -> int:
    """Serve a WSGI application (Flask, Django, ...) from worker threads, and return the exit code.

    The process has the parts `admin`, `manhole`, `workers` and `web`, as their flags describe them.

    :param app: the application; its threads may block.
    :param factory: whether `app` makes the application, once the flags are parsed.
    :param parts: adds parts of the service's own. They start before `web` does, so that no request finds one
        that has not started, and stop after it.
    :param beside: returns, by path, what else answers on the same listener: in the reactor what a `Mount`
        takes, `lambda process: {"/events": process.add(EventStream(...)).resource}`; in the same threads
        other WSGI applications, `StaticFiles` among them.
    :param commands: as for `run`.
    :param argv: the arguments without the program's name; None for those of the process.
    :raises SystemExit: as `run` does.
    """
    from halfsync.http.handlers import answers  # noqa: PLC0415  see above
    from halfsync.http.listener import WebListener  # noqa: PLC0415  see above
    from halfsync.http.mount import Mount  # noqa: PLC0415  see above
    from halfsync.http.wsgi.gateway import Gateway, workers_from_flags  # noqa: PLC0415  see above

    add_tools = _tools()

    def every(process: Process) -> None:
        add_tools(process)
        made = cast("Callable[[], WSGIApplication]", app)() if factory else cast("WSGIApplication", app)
        workers = process.add(workers_from_flags(process.reactor))
        root: Gateway | Mount = Gateway(made, workers)
        if beside is not None:
            below = {
                path: given if answers(given) else Gateway(given, workers)
                for path, given in beside(process).items()
            }
            root = Mount({"/": root, **below})
        if parts is not None:
            parts(process)
        process.add(WebListener.from_flags(root, process.reactor))

    return run(about, every, commands=commands, argv=argv)


@overload
def serve_resource(
    resource: WebResource | KleinLike,
    about: About,
    *,
    factory: Literal[False] = False,
    parts: Parts | None = None,
    commands: Mapping[str, Command] = MappingProxyType({}),
    argv: Sequence[str] | None = None,
) -> int: ...


@overload
def serve_resource(
    resource: Callable[[], WebResource | KleinLike],
    about: About,
    *,
    factory: Literal[True],
    parts: Parts | None = None,
    commands: Mapping[str, Command] = MappingProxyType({}),
    argv: Sequence[str] | None = None,
) -> int: ...


def serve_resource(
    resource: WebResource | KleinLike | Callable[[], WebResource | KleinLike],
    about: About,
    *,
    factory: bool = False,
    parts: Parts | None = None,
    commands: Mapping[str, Command] = MappingProxyType({}),
    argv: Sequence[str] | None = None,
) -> int:
    """Serve a klein application, or a resource of twisted.web, in the reactor; return the exit code.

    The process has the parts `admin`, `manhole` and `web`, as their flags describe them.

    :param resource: a resource, or a klein application; it must not block.
    :param factory: whether `resource` makes it, once the flags are parsed.
    :param parts: adds parts of the service's own. They start before `web` does, so that no request finds one
        that has not started, and stop after it.
    :param commands: as for `run`.
    :param argv: the arguments without the program's name; None for those of the process.
    :raises SystemExit: as `run` does.
    """
    from halfsync.http.listener import WebListener  # noqa: PLC0415  see above

    add_tools = _tools()

    def every(process: Process) -> None:
        add_tools(process)
        made = cast("Callable[[], Any]", resource)() if factory else resource
        root = made.resource() if isinstance(made, KleinLike) else made
        if parts is not None:
            parts(process)
        process.add(WebListener.from_flags(cast("WebResource", root), process.reactor))

    return run(about, every, commands=commands, argv=argv)


def _tools() -> Parts:
    """Return what adds the parts that every service has."""
    from halfsync.admin import Admin  # noqa: PLC0415  see above
    from halfsync.manhole import Manhole  # noqa: PLC0415  see above

    def add(process: Process) -> None:
        process.add(Admin.from_flags(process))
        process.add(Manhole.from_flags(process))

    return add
