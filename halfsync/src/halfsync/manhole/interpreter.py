"""Running what a person typed: statements with `await` at the top level, in a session's own namespace."""

from __future__ import annotations

import ast
import asyncio
import codeop
import contextvars
import inspect
import linecache
import re
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import FunctionType, TracebackType, coroutine
from typing import TYPE_CHECKING, Any

from structlog.contextvars import bind_contextvars
from twisted.internet.defer import Deferred

from halfsync.life.stacks import imported_as
from halfsync.manhole.completion import complete
from halfsync.manhole.shown import Shown
from halfsync.manhole.stdout import current
from halfsync.manhole.threads import InThread, in_thread
from halfsync.manhole.time_limit import time_limit
from halfsync.manhole.views import render

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from halfsync.manhole.stdout import Redirection

STALL = 1.0
"""Seconds that a statement may hold the reactor before it is noted."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a statement ended."""

    failed: bool = False
    leave: int | None = None
    """The exit code with which the person wants to leave."""


class Interpreter:
    """Runs statements for one session, and carries what they print to it; a `stdout.Output`."""

    def __init__(
        self,
        namespace: dict[str, Any],
        *,
        name: str,
        show: Callable[[str, bool], None],
        limit: int,
        stalled: Callable[[float], None],
        redirection: Redirection,
        reactor: Any,
        threaded: bool = False,
    ) -> None:
        """Set up a namespace to work in.

        :param show: takes text and whether it is an error; called in the reactor's thread only.
        :param limit: characters that a statement may print; the rest is cut with a note.
        :param stalled: told when a statement held the reactor, and for how many seconds.
        :param redirection: finds this session for what its code prints.
        :param threaded: statements that await nothing run in a thread when nothing is said.
        """
        self.namespace = {"__name__": "__manhole__", "__doc__": None, **namespace}
        self._name = name
        self._shown = Shown(show, limit=limit, reactor=reactor)
        self._stalled = stalled
        self._redirection = redirection
        self._reactor = reactor
        self._threaded = threaded
        self._compiler = codeop.CommandCompiler()
        self._compiler.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        self._files: list[str] = []
        self._running: Deferred[Outcome] | None = None
        self._owed: list[InThread[Any]] = []
        """Values of the running statement that are still to come."""
        self._interrupted = False
        self._closed = False
        self._context = contextvars.copy_context()
        self._context.run(current.set, self)
        # What the service logs on account of it can be found by the session.
        self._context.run(bind_contextvars, manhole=name)
        redirection.enter(self)

    def close(self) -> None:
        """Interrupt what runs, and let go of the process's streams."""
        if self._closed:
            return
        self._closed = True
        self._shown.close()
        self.interrupt()
        for file in self._files:
            linecache.cache.pop(file, None)
        self._redirection.leave(self)

    # Reading

    def parse(self, source: str, *, whole: bool) -> ast.Interactive | None:
        """Return the statements of the source; None when its last one may go on.

        :param whole: the source was not typed line by line, so that no blank line has to end a block.
        :raises SyntaxError: or another error of the compiler's.
        """
        if self._compiler(source, self._name, "exec") is None:
            return None
        body = ast.parse(source, self._name).body
        if body and hasattr(body[-1], "body") and not whole and source.rpartition("\n")[2].strip():
            return None
        return ast.Interactive(body)

    # Running

    def run(self, source: str, *, whole: bool) -> Deferred[Outcome] | None:
        """Run the source and fire with how it ended, never with an error; None when it is incomplete.

        Source that begins with `&` runs in a thread, with `!` in the reactor.
        """
        self._shown.begin()
        prefix = source[:1] if source[:1] in ("&", "!") else ""
        source = source[1:].lstrip(" ") if prefix else source
        file = f"<{self._name}:{len(self._files) + 1}>"
        try:
            tree = self.parse(source, whole=whole)
            if tree is None:
                return None
            code = compile(tree, file, "single", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
            threaded = self._runs_in_thread(prefix, awaits=bool(code.co_flags & inspect.CO_COROUTINE))
        except Exception as error:  # noqa: BLE001  the compiler raises half a dozen kinds; the person sees which
            self.write("".join(traceback.format_exception_only(error)), error=True)
            done: Deferred[Outcome] = Deferred()
            done.callback(Outcome(failed=True))
            return done
        # Without a time, linecache.checkcache lets it be; a traceback then shows the line.
        linecache.cache[file] = (len(source), None, [f"{line}\n" for line in source.split("\n")], file)
        self._files.append(file)
        self._interrupted = False
        running = self._context.run(self._start, FunctionType(code, self.namespace), file, threaded=threaded)
        self._running = running
        return running.addCallback(self._ended)

    def _runs_in_thread(self, prefix: str, *, awaits: bool) -> bool:
        if prefix == "&" and awaits:
            raise SyntaxError("await belongs in the reactor: without the &")
        return prefix == "&" or (self._threaded and not awaits and prefix != "!")

    def interrupt(self) -> None:
        """Cancel what the running statement awaits."""
        if self._running:
            self._interrupted = True
            self._running.cancel()

    def _ended(self, outcome: Outcome) -> Outcome:
        self._running = None
        return outcome

    def complete(self, line: str) -> tuple[str, list[str]]:
        """Return the last name of a line and how it could go on; errors of the objects' own are silent."""
        with suppress(Exception):
            return self._context.run(complete, line, self.namespace)
        return "", []

    def _start(self, function: Callable[[], object], file: str, *, threaded: bool) -> Deferred[Outcome]:
        loop = None
        with suppress(RuntimeError):
            loop = asyncio.get_running_loop()
        if threaded:
            function = partial(in_thread, self._reactor, self._redirection, function, file)
        work = self._execute(self._call(function), file, loop)
        # As a task: asyncio's own timeouts and task groups must be awaited in one.
        return Deferred.fromFuture(loop.create_task(work)) if loop else Deferred.fromCoroutine(work)

    async def _execute(
        self, steps: Coroutine[Any, Any, None], file: str, loop: asyncio.AbstractEventLoop | None
    ) -> Outcome:
        # Every exception ends here: SystemExit in a task of asyncio's would end the process.
        try:
            await _step_by_step(steps, loop, self._watch)
        except SystemExit as error:
            if error.code is None or isinstance(error.code, int):
                return Outcome(leave=(error.code or 0) & 0xFF)
            self._shown.tell_end(f"{error.code}\n")
            return Outcome(failed=True, leave=1)
        except BaseException as error:  # noqa: BLE001  whatever the person's code raises is shown to them
            self._shown.tell_end("KeyboardInterrupt\n" if self._interrupted else _explain(error, file))
            return Outcome(failed=True)
        return Outcome()

    async def _call(self, function: Callable[[], object]) -> None:
        self._owed.clear()
        result = function()
        if inspect.isawaitable(result):
            await result
        while self._owed:
            self.display(await self._owed.pop(0))

    def _watch(self, seconds: float) -> None:
        if seconds > STALL:
            self._stalled(seconds)

    # What the code prints

    def write(self, text: str, *, error: bool = False) -> None:
        """Show text to the person, up to the limit of the statement; from any thread."""
        self._shown.write(text, error=error)

    def display(self, value: object) -> None:
        """Show the value of an expression and keep it as `_`; wait for one that is made in a thread."""
        if isinstance(value, InThread):
            self._owed.append(value)
        elif value is not None:
            self.namespace["_"] = value
            self.write(f"{render(value)}\n")


@coroutine
def _step_by_step(
    steps: Coroutine[Any, Any, None],
    loop: asyncio.AbstractEventLoop | None,
    watch: Callable[[float], None],
) -> Generator[Any, Any, None]:
    """Await a coroutine, and tell `watch` how many seconds each of its steps took.

    In an asyncio task (when there is a loop) the Deferreds that it awaits are waited for as futures.
    """
    step: Callable[[Any], Any] = steps.send
    value: Any = None
    while True:
        began = time.perf_counter()
        try:
            with time_limit():
                awaited = step(value)
        except StopIteration:
            return
        finally:
            watch(time.perf_counter() - began)
        step, value = steps.send, None
        try:
            if loop and isinstance(awaited, Deferred):
                yield from _as_future(awaited, loop)
            else:
                value = yield awaited
        except BaseException as error:  # noqa: BLE001  it is the coroutine's to handle
            step, value = steps.throw, error


def _as_future(awaited: Deferred[Any], loop: asyncio.AbstractEventLoop) -> Generator[Any, Any, None]:
    """Wait until a Deferred has fired, and leave its result in it, where its own `await` looks for it."""
    fired = loop.create_future()

    def wake(result: object) -> object:
        if not fired.done():
            fired.set_result(None)
        return result

    awaited.addBoth(wake)
    try:
        yield from fired
    except asyncio.CancelledError:
        awaited.cancel()


def _explain(error: BaseException, file: str) -> str:
    """Return the traceback from the person's own code on."""
    frames: TracebackType | None = error.__traceback__
    while frames and frames.tb_frame.f_code.co_filename != file:
        frames = frames.tb_next
    text = "".join(traceback.format_exception(type(error), error, frames or error.__traceback__))
    return re.sub(r'(?m)(?<=^  File ")[^"]+', lambda match: imported_as(match[0]), text)
