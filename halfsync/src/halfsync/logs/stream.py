"""The log of a running service, as its flags want it."""

from __future__ import annotations

import atexit
import logging
import os
import sys
from typing import TYPE_CHECKING, cast

from halfsync import flag, flags
from halfsync._later import later
from halfsync.flags import types as flagtypes
from halfsync.logs.files import LogFileError, check_log_file, open_log_file, reason
from halfsync.logs.fitting import MAX_LINE
from halfsync.logs.levels import LEVELS
from halfsync.logs.loggers import get_logger
from halfsync.logs.sink import Sink

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict

    from halfsync.life.about import About
    from halfsync.logs import events, render, sources
else:
    events = later("halfsync.logs.events")
    render = later("halfsync.logs.render")
    sources = later("halfsync.logs.sources")

log = get_logger(__name__)

LEAST_LINE = 1024
"""Bytes; the head of an event and what says that it was cut have room in it."""

HEAD = 256
"""Bytes that time, level, logger and name of an event take at most."""


class Level(flagtypes.Choice):
    """The level of everything that has none of its own; it may change while the service runs."""

    def apply(self) -> None:
        """Judge by it from now on."""
        logging.getLogger().setLevel(self.get().upper())


@flags.declare(flag.namespace("log"), at_start=("format", "file", "max_line"))
class FLAGS:
    """What is logged, and how."""

    level = Level("The least that is logged.", default="info", choices=LEVELS)
    format = flagtypes.Choice(
        "console: coloured lines; json: a JSON object a line; auto: console on a terminal, else json.",
        default="auto",
        choices=("auto", "console", "json"),
    )
    file = flagtypes.Path(
        "Append to this file instead of standard output; opened again at SIGHUP.",
        default="",
        check=check_log_file,
    )
    max_line = flagtypes.Size(
        "Bytes of one event; a longer one is cut, still valid JSON, and says so.",
        default=MAX_LINE,
        minimum=LEAST_LINE,
    )


class Log:
    """The log of a process: where its lines go, and how they look."""

    def __init__(
        self,
        *,
        file: str = "",
        form: str = "auto",
        level: str = "info",
        max_line: int = MAX_LINE,
        command: bool = False,
    ) -> None:
        """Open the file, or take standard output; the parameters are those of the flags.

        :param max_line: bytes.
        :param command: whether standard output is the program's own, and the log goes to standard error.
        :raises LogFileError: when the file cannot be opened.
        """
        descriptor = 2 if command and not file else _open(file)
        terminal = os.isatty(descriptor)
        self._file = file
        self._command = command
        self._level = level
        self._for_people = form == "console" or (form == "auto" and terminal)
        self._max_line = max_line
        # https://no-color.org
        colours = terminal and not os.environ.get("NO_COLOR")
        self._render: Callable[[EventDict], str] = (
            render.console(colours=colours, max_line=max_line) if self._for_people else self._json_line
        )
        self._sink = Sink(descriptor, _tell_loss)

    @classmethod
    def from_flags(cls, *, command: bool = False) -> Log:
        """Open it as the flags say.

        :raises LogFileError: when the file cannot be opened.
        """
        return cls(
            file=FLAGS.file,
            form=FLAGS.format,
            level=FLAGS.level,
            max_line=FLAGS.max_line,
            command=command,
        )

    def start(self) -> None:
        """Bring everything that this process says into this log, until its end."""
        logging.getLogger().setLevel(self._level.upper())
        steps = events.configure(
            events.Completion(self._write, None if self._for_people else self._sink.write)
        )
        sources.Sources(steps).redirect(prints=not (self._for_people or self._file or self._command))
        events.hold(steps, self)
        atexit.register(self.flush)

    def reopen(self) -> None:
        """Open the file of the log again, after it was moved away; when that fails, go on in the old one."""
        if not self._file:
            return
        try:
            descriptor = open_log_file(self._file)
        except OSError as error:
            log.error("log.reopen_failed", file=self._file, reason=error.strerror)  # noqa: TRY400  no bug of ours
            return
        self._sink.replace(descriptor)
        log.info("log.reopened", file=self._file)

    def flush(self, timeout: float = 1.0) -> None:
        """Wait, for so many seconds at most, until all that was logged is written."""
        self._sink.flush(timeout)

    def when_written(self, call: Callable[[], object]) -> None:
        """Make a call, in another thread, when every audit event up to now has been written.

        While the disk is full, or nobody reads a pipe, that is later. The call must not raise.
        """
        self._sink.when_written(call)

    @property
    def behind(self) -> int:
        """How many lines wait to be written."""
        return self._sink.behind

    @property
    def lost(self) -> int:
        """How many lines could not be written since the start, and are missing."""
        return self._sink.lost

    def keeps(self, fields: EventDict) -> bool:
        """Say whether an event with these fields, and those of the context, is written whole."""
        return len(render.json_line(events.with_context(fields), sys.maxsize)) <= self._max_line - HEAD

    def _json_line(self, event: EventDict) -> str:
        return render.json_line(event, self._max_line)

    def _write(self, event: EventDict, *, audit: bool) -> None:
        (self._sink.write_audit if audit else self._sink.write)(self._render(event))


def running() -> Log | None:
    """Return the log of this process; None until it has started."""
    found = events.holder()
    return cast("Log", found.log) if found else None


def start(about: About, *, command: bool = False) -> Log:
    """Start the log that the flags describe; call it once they are parsed.

    :param command: whether standard output is the program's own, and the log goes to standard error.
    :raises LogFileError: when the file cannot be opened.
    """
    started = Log.from_flags(command=command)
    started.start()
    log.debug("log.started", service=about.name, version=about.version, file=FLAGS.file or "stdout")
    if ignored := flags.ignored_environment():
        log.warning("flags.environment_ignored", names=ignored)
    for old, new in flags.renamed().items():
        log.warning("flags.renamed", old=old, new=new)
    return started


def reopen() -> None:
    """Open the file of this process's log again; see `Log.reopen`."""
    if current := running():
        current.reopen()


def flush(timeout: float = 1.0) -> None:
    """Wait, for so many seconds at most, until all that was logged is written."""
    if current := running():
        current.flush(timeout)


def _open(path: str) -> int:
    if path:
        try:
            return open_log_file(path)
        except OSError as error:
            raise LogFileError(
                f"--log.file: {path!r}: {reason(error)}; name a file that can be written to"
            ) from None
    if sys.stdout is None:
        # Standard output was closed; another file may have its number by now.
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    return sys.stdout.fileno()


def _tell_loss(lines: int) -> None:
    log.warning("log.lost", lines=lines)
