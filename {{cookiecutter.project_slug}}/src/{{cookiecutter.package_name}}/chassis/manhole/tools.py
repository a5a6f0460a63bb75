"""The names at hand in a session: the process to look into, and what to look with."""

from __future__ import annotations

import contextvars
import os
import pydoc
import threading
import time
from typing import TYPE_CHECKING, Any, NoReturn

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from .. import flags, logs, stacks
from . import routes

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..lifecycle import Process

log = logs.get_logger(__name__)

HELP = """\
  await …             waits for a Deferred or a coroutine, and shows the result; Ctrl-C cancels
  service             the process and its parts, each also by its name: {parts}
  flags               flags.web.threads shows one, flags.web.threads = 8 sets it; flags lists all
  threads()           every thread's stack, and what it works on
  requests()          the requests in flight
  log(level, for_=s)  sets the level of the log, for so many seconds
  in_thread(f, *args) runs f aside, to be awaited; what blocks here stalls the whole service
  reactor             Twisted's event loop
  help(x)             documentation
  exit()              or Ctrl-D leaves this session; the service runs on
"""


class Text(str):
    """Text that a prompt shows as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class Flags:
    """The process's flags as attributes: read, or set while it runs, validated as at the start."""

    def __init__(self, prefix: str = "") -> None:
        vars(self)["_prefix"] = prefix

    def __getattr__(self, name: str) -> Any:
        full = f"{self._prefix}{name}"
        found = self._settings()
        if full in found:
            setting = found[full]
            return setting.text if setting.var.secure else setting.var.get()
        if any(each.startswith(f"{full}.") for each in found):
            return Flags(f"{full}.")
        raise AttributeError(f"no flag is called {full}")

    def __setattr__(self, name: str, value: object) -> None:
        full = f"{self._prefix}{name}"
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if isinstance(value, (list, tuple)):
            text = " ".join(map(str, value))
        flags.set_live(full, text, "manhole")
        log.info("flags.set", flag=full, value=self._settings()[full].text, source="manhole")

    def __dir__(self) -> list[str]:
        return sorted({each.removeprefix(self._prefix).partition(".")[0] for each in self._settings()})

    def __repr__(self) -> str:
        rows = [f"{name} = {setting.text}  ({setting.source})" for name, setting in self._settings().items()]
        return "\n".join(rows) or "no flags"

    def _settings(self) -> dict[str, flags.Setting]:
        return {each.name: each for each in flags.states() if each.name.startswith(self._prefix)}


class Leave:
    """Leaves a session; the builtin one would close the service's standard input."""

    def __call__(self, code: object = None) -> NoReturn:
        """Leave with an exit code."""
        raise SystemExit(code)

    def __repr__(self) -> str:
        return "exit() or Ctrl-D leaves this session; the service runs on"


class Tools:
    """What every session of a manhole finds."""

    def __init__(self, process: Process, state: Callable[[], dict[str, Any]]) -> None:
        """Take what to look into.

        :param state: returns the manhole's own.
        """
        self._process = process
        self._reactor = process.reactor
        self._state = state

    def namespace(self) -> dict[str, Any]:
        """Return the names for one session; it may change its own."""
        # The builtin help, input and breakpoint would wait in the reactor for the service's own terminal.
        return {
            **{name.replace("-", "_"): part for name, part in self._parts().items()},
            "service": self._process,
            "flags": Flags(),
            "reactor": self._reactor,
            "threads": self.threads,
            "requests": self.requests,
            "log": self.log,
            "in_thread": self.in_thread,
            "help": self.help,
            "exit": Leave(),
            "quit": Leave(),
            "input": _no_terminal,
            "breakpoint": _no_terminal,
        }

    def welcome(self) -> str:
        """Return what a person sees at login."""
        about = self._process.about
        closes_at = self._state()["closes_at"]
        closes = time.strftime("%H:%M:%S UTC", time.gmtime(closes_at)) if closes_at else "when told"
        up = time.time() - self._process.started
        return (
            f"{about.name} {about.version}, process {os.getpid()}, up {up:.0f} s."
            f" Every line is logged. The manhole closes at {closes}.\n{self._help()}"
        )

    def help(self, subject: object = None) -> None:
        """Show the names at hand, or the documentation of anything."""
        print(self._help() if subject is None else pydoc.plain(pydoc.render_doc(subject)))  # noqa: T201  to the session

    def threads(self) -> Text:
        """Show every thread's stack, innermost call last, and what a worker works on."""
        holders = stacks.holders(self._process)
        lines = []
        for thread in stacks.thread_stacks():
            holder = holders.get(thread.ident)
            work = f", at work on {holder.label}" if holder and holder.label else ""
            lines += [f"{thread.name} ({thread.ident}){work}", *(f"    {frame}" for frame in thread.frames)]
        return Text("\n".join(lines))

    def requests(self) -> Text:
        """Show the requests in flight: age, method, path, peer, thread."""
        now = self._reactor.seconds()
        rows = [
            f"{now - each.since:8.3f} s  {each.method} {each.path}  {each.peer}  {each.thread or 'no thread'}"
            for each in sorted(stacks.requests(self._process), key=lambda each: each.since)
        ]
        return Text("\n".join(rows) or "no requests in flight")

    def log(self, level: str, for_: float | None = None, logger: str | None = None) -> Text:
        """Set the level of the log, of one logger or of all; with `for_`, for so many seconds."""
        logs.set_level(level, logger, for_, self._reactor)
        log.info("log.level_set", level=level, of=logger, seconds=for_, source="manhole")
        return Text(
            f"{logger or 'everything'} is logged from {level} on" + (f" for {for_} s" if for_ else "")
        )

    def in_thread(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Deferred[Any]:
        """Run a function in a thread of its own; await what is returned.

        What it prints goes to the session. A thread cannot be stopped: an interrupt ends the waiting alone.
        """
        done: Deferred[Any] = Deferred()
        context = contextvars.copy_context()
        routes.hold()

        def finish(result: object) -> None:
            routes.release()
            if not done.called:
                done.callback(result)

        def work() -> None:
            try:
                result = context.run(function, *args, **kwargs)
            except BaseException:  # noqa: BLE001  it is raised where the Deferred is awaited
                result = Failure()
            self._reactor.callFromThread(finish, result)

        threading.Thread(
            target=work, name=f"manhole-{getattr(function, '__name__', '?')}", daemon=True
        ).start()
        return done

    def _help(self) -> str:
        return HELP.format(parts=", ".join(self._parts()))

    def _parts(self) -> dict[str, Any]:
        return {part.name: part for part in self._process if part.name}


def _no_terminal(*_: object, **__: object) -> NoReturn:
    raise RuntimeError(
        "a session has no standard input; the service's own would be asked, and the service wait"
    )
