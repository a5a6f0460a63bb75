"""`run NAME`: a command of the service, such as a migration, with its flags and its log, and no listener.

A plain function runs in the main thread, and may block; signals do to it what they do to any program.
A coroutine function runs in the reactor that `--service.reactor` names.
What a command prints is its output; the log goes to standard error, or to `--log.file`.
"""

from __future__ import annotations

import inspect
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, cast

from halfsync import logs
from halfsync._later import later
from halfsync.life import reactors, signals
from halfsync.life.errors import StartError
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from twisted.internet import defer
    from twisted.python.failure import Failure

    from halfsync.life.about import About
else:
    defer = later("twisted.internet.defer")

log = get_logger(__name__)

Command = Callable[[list[str]], int | Coroutine[Any, Any, int | None] | None]
"""Gets the arguments after its name, and returns an exit code; None is 0."""

FAILED = 1


def summary(command: Command) -> str:
    """Return the first line of what a command says about itself."""
    return (inspect.getdoc(command) or "").partition("\n")[0]


def run_command(about: About, command: Command, arguments: list[str]) -> int:
    """Run a command once the flags are parsed, and return the exit code: 1 when it raises.

    A `StartError` is one line on standard error, for a person; any other error is logged.
    """
    early = signals.held()
    for number in signals.ALL:
        signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)
    for come in early:
        # Ctrl-C during the imports, or a terminal that was closed: what was not begun need not be.
        if come in (*signals.STOP, signal.SIGHUP):
            signal.raise_signal(come)
    try:
        logs.start(about, command=True)
        code = _in_reactor(command, arguments) if inspect.iscoroutinefunction(command) else command(arguments)
    except (StartError, logs.LogFileError) as error:
        print(f"{about.name}: {error}", file=sys.stderr)  # noqa: T201  for the person who called it
        return error.exit_code if isinstance(error, StartError) else FAILED
    except Exception:
        log.exception("command.failed")
        return FAILED
    finally:
        logs.flush()
    return cast("int | None", code) or 0


def _in_reactor(command: Command, arguments: list[str]) -> int | None:
    reactor = reactors.install()
    results: list[int | Failure | None] = []

    def begin() -> None:
        running = defer.Deferred.fromCoroutine(cast("Coroutine[Any, Any, int | None]", command(arguments)))
        running.addBoth(results.append)
        running.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()
    if not results:
        # A signal has ended the reactor.
        return FAILED
    if isinstance(results[0], (int, type(None))):
        return results[0]
    results[0].raiseException()
    return FAILED
