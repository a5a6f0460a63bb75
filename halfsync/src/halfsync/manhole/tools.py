"""The names at hand in a session: the process to look into, and what to look with."""

from __future__ import annotations

import os
import pydoc
import time
from collections import Counter
from functools import partial, wraps
from heapq import nlargest
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from twisted.internet.threads import blockingCallFromThread
from twisted.python import threadable

from halfsync import logs
from halfsync.life import stacks
from halfsync.manhole import heap, profiler
from halfsync.manhole.stdout import Redirection
from halfsync.manhole.threads import in_thread
from halfsync.manhole.views import FlagsView, TaskTable, Text

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.defer import Deferred

    from halfsync.life.process import Process

T = TypeVar("T")

audit = logs.get_audit_logger(__name__)

HELP = """\
  await …             waits for a Deferred or a coroutine; Ctrl-C cancels
  & …                 runs a statement in a thread, ! … in the reactor;
                      {default}
  in_thread(f, *args) calls a function in a thread, and waits for it
  service             the process and its parts, which are here by name, too:
                      {parts}
  tasks               last runs and errors; await tasks["name"].run_now()
  flags               all; flags.log.level = "debug" sets one that is live
  requests()          the requests in flight
  connections()       the open connections; holders(): the ten that hold most
  threads()           every thread's stack, and what it works on
  stalls()            when the reactor stood still, and what it was at
  profile(5)          where the threads spend five seconds
  memory()            traces allocations; again: what has grown since
  refs(x)             what refers to an object
  log(level, for_=s)  sets the level of the log, for so many seconds
  reactor             Twisted's event loop
  help(x)             documentation; the tab key completes names
  exit()              or Ctrl-D leaves this session; the service runs on
"""
"""No wider than a terminal of 80 columns, and with the greeting no higher than its 24 lines."""


class Leave:
    """Leaves a session; the builtin one would close the service's standard input."""

    def __call__(self, code: object = None) -> NoReturn:
        """Leave with an exit code."""
        raise SystemExit(code)

    def __repr__(self) -> str:
        return "exit() or Ctrl-D leaves this session; the service runs on"


class Tools:
    """What every session of a manhole finds."""

    def __init__(self, process: Process, state: Callable[[], dict[str, Any]], *, threaded: bool) -> None:
        """Take what to look into.

        :param state: returns the manhole's own.
        :param threaded: statements run in a thread when nothing is said.
        """
        self._process = process
        self._reactor = process.reactor
        self._state = state
        self.threaded = threaded
        self._growth = heap.Growth()
        self._profiler = profiler.Profiler()
        self.redirection = Redirection()

    def end(self) -> None:
        """Leave the process as it was: no thread of ours, nothing traced."""
        self._growth.stop()

    def namespace(self) -> dict[str, Any]:
        """Return the names for one session; it may change its own."""
        mine = (
            self.requests,
            self.connections,
            self.holders,
            self.threads,
            self.stalls,
            self.log,
            self.refs,
            self.help,
        )
        # The builtin help, input and breakpoint would wait in the reactor for the service's own terminal.
        return {
            **{name.replace("-", "_"): part for name, part in self._parts().items()},
            "service": self._process,
            "tasks": TaskTable(self._process.tasks()),
            "flags": FlagsView(),
            "reactor": self._reactor,
            **{tool.__name__: self._in_reactor(tool) for tool in mine},
            **{tool.__name__: tool for tool in (self.in_thread, self.profile, self.memory)},
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
            f"{about.name} {about.version}, process {os.getpid()}, up {up:.0f} s.\n"
            f"Every line is logged. The manhole closes at {closes}.\n{self._help()}"
        )

    def help(self, subject: object = None) -> None:
        """Show the names at hand, or the documentation of anything."""
        text = self._help() if subject is None else pydoc.plain(pydoc.render_doc(subject))
        print(text)  # noqa: T201  to the session

    def requests(self) -> Text:
        """Show the requests in flight: age, method, path, peer, thread."""
        now = self._reactor.seconds()
        rows = [
            f"{now - each.since:8.3f} s  {each.method} {each.path}  {each.peer}  {each.thread or 'no thread'}"
            for each in sorted(self._process.requests(), key=lambda each: each.since)
        ]
        return Text("\n".join(rows) or "no requests in flight")

    def connections(self, most: int = 100) -> Text:
        """Show the open connections: listener, peer, age, requests, time without data, unsent, in flight."""
        found = sorted(self._process.connections(), key=lambda each: (each.part, each.idle or 0))
        rows = [
            f"{each.part}  {each.peer}"
            + (f"  {each.age:.1f} s old" if each.age is not None else "")
            + (f"  requests: {each.asked}" if each.asked is not None else "")
            + (f"  idle {each.idle:.1f} s" if each.idle is not None else "")
            + (f"  {each.unsent} bytes unsent" if each.unsent else "")
            + (f"  {each.at}" if each.at else "")
            for each in found[:most]
        ]
        totals = Counter(each.part for each in found)
        return Text("\n".join([*rows, ", ".join(f"{name}: {count}" for name, count in totals.items())]))

    def holders(self, most: int = 10) -> Text:
        """Show the connections that hold most, in memory and on the disk, the worst first."""
        found = nlargest(most, self._process.connections(), key=lambda each: each.memory + each.disk)
        rows = [
            f"{each.part}  {each.peer}  {each.memory} bytes of memory  {each.disk} of disk"
            + (f"  {each.at}" if each.at else "")
            for each in found
            if each.memory or each.disk
        ]
        return Text("\n".join(rows) or "no connection holds anything")

    def threads(self) -> Text:
        """Show every thread's stack, innermost call last, and what a worker works on."""
        workers = self._process.workers()
        lines = []
        for thread in stacks.thread_stacks():
            worker = workers.get(thread.ident)
            work = f", at work on {worker.label}" if worker and worker.label else ""
            lines += [f"{thread.name} ({thread.ident}){work}", *(f"    {frame}" for frame in thread.frames)]
        return Text("\n".join(lines))

    def stalls(self) -> Text:
        """Show the last stalls of the reactor, oldest first, with what it was at, innermost call last."""
        watch, lines = self._process.stalls, []
        if watch is None:
            return Text("nothing watches: --service.stall=0")
        for stall in list(watch.seen):
            at = time.strftime("%H:%M:%S UTC", time.gmtime(stall.at))
            lines += [f"{at}: {stall.seconds:.2f} s", *(f"    {frame}" for frame in stall.frames)]
        return Text("\n".join(lines) or f"no stall of {watch.threshold:g} s or more")

    def profile(self, seconds: float = 5, *, waiting: bool = False) -> Deferred[Text]:
        """Show where the threads spend their time. The service runs on meanwhile.

        :param waiting: count a thread also while it has nothing to do.
        """
        return self.in_thread(lambda: Text(self._profiler.profile(seconds, waiting=waiting)))

    def memory(self, *, stop: bool = False) -> Deferred[Text]:
        """Show what has been allocated between two calls, by line."""
        return self.in_thread(lambda: Text(self._growth.stop() if stop else self._growth.look()))

    def refs(self, thing: object) -> Text:
        """Show what refers to an object; the collector, which is asked, looks at everything there is."""
        return Text(heap.referrers(thing))

    def log(self, level: str, for_: float | None = None, logger: str | None = None) -> Text:
        """Set the level of the log, of one logger or of all; with `for_`, for so many seconds."""
        self._process.log_levels.set(level, logger, for_, source="manhole")
        audit.info("log.level_set", level=level, of=logger, seconds=for_, source="manhole")
        return Text(
            f"{logger or 'everything'} is logged from {level} on" + (f" for {for_} s" if for_ else "")
        )

    def in_thread(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Deferred[T]:
        """Call a function in a thread of its own. What it prints goes to the session.

        The prompt waits for its result, unless that is given a name: `await` the name then.
        Ctrl-C ends it when it is Python code; a call into C that blocks goes on, unawaited.
        """
        name = getattr(function, "__name__", "?")
        return in_thread(self._reactor, self.redirection, partial(function, *args, **kwargs), name)

    def _in_reactor(self, tool: Callable[..., T]) -> Callable[..., T]:
        """Let a tool be called from a thread: what it looks at changes in the reactor alone."""

        @wraps(tool)
        def call(*args: Any, **kwargs: Any) -> T:
            if threadable.isInIOThread():
                return tool(*args, **kwargs)
            return blockingCallFromThread(self._reactor, tool, *args, **kwargs)

        return call

    def _help(self) -> str:
        default = (
            "with neither, in a thread unless it awaits" if self.threaded else "with neither, in the reactor"
        )
        return HELP.format(parts=", ".join(self._parts()), default=default)

    def _parts(self) -> dict[str, Any]:
        return {part.label: part for part in self._process}


def _no_terminal(*_: object, **__: object) -> NoReturn:
    raise RuntimeError(
        "a session has no standard input; the service's own would be asked, and the service wait"
    )
