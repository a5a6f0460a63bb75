"""The log of a running service, as its flags want it."""

from __future__ import annotations

import atexit
import os
import sys
from typing import TYPE_CHECKING

from halfsync import flag, flags
from halfsync.flags import types as flagtypes
from halfsync.life.errors import StartError
from halfsync.logs import sources
from halfsync.logs.events import get_logger, put_in
from halfsync.logs.log_levels import LEVELS, set_level
from halfsync.logs.render import console, json_line
from halfsync.logs.sink import Sink

if TYPE_CHECKING:
    from halfsync.life.about import About

log = get_logger(__name__)


@flags.declare(flag.namespace("log"))
class FLAGS:
    """What is logged, and how."""

    level = flagtypes.Choice("The least that is logged.", default="info", choices=LEVELS)
    format = flagtypes.Choice(
        "console: coloured lines; json: a JSON object a line; auto: console on a terminal, else json.",
        default="auto",
        choices=("auto", "console", "json"),
    )
    file = flagtypes.Path(
        "Append to this file instead of standard output; opened again at SIGHUP.", default=""
    )


class _Running:
    """The log of this process."""

    sink: Sink | None = None
    path: str = ""


def start(about: About) -> None:
    """Bring everything that this process says into one stream; call it once the flags are parsed.

    :raises StartError: when the file cannot be opened.
    """
    descriptor = _open(FLAGS.file)
    terminal = os.isatty(descriptor)
    for_people = FLAGS.format == "console" or (FLAGS.format == "auto" and terminal)
    # https://no-color.org
    colours = terminal and not os.environ.get("NO_COLOR")
    render = console(colours=colours) if for_people else json_line
    sink = Sink(descriptor, _tell_loss)
    _Running.sink, _Running.path = sink, FLAGS.file
    set_level(FLAGS.level)
    put_in(lambda event: sink.write(render(event)))
    sources.redirect(prints=not for_people and not FLAGS.file)
    atexit.register(flush)
    log.debug("log.started", service=about.name, version=about.version, file=FLAGS.file or "stdout")


def reopen() -> None:
    """Open the file of the log again, after it was moved away; when that fails, go on in the old one."""
    if _Running.sink is None or not _Running.path:
        return
    try:
        descriptor = _open_file(_Running.path)
    except OSError as error:
        log.error("log.reopen_failed", file=_Running.path, reason=error.strerror)  # noqa: TRY400  no bug of ours
        return
    _Running.sink.replace(descriptor)
    log.info("log.reopened", file=_Running.path)


def flush(timeout: float = 1.0) -> None:
    """Wait, for so many seconds at most, until all that was logged is written."""
    if _Running.sink is not None:
        _Running.sink.flush(timeout)


def _open(path: str) -> int:
    if path:
        try:
            return _open_file(path)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise StartError(f"--log.file: {path!r}: {reason}; name a file that can be written to") from None
    if sys.stdout is None:
        # Someone closed standard output; another file may have its number by now.
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    return sys.stdout.fileno()


def _open_file(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def _tell_loss(lines: int) -> None:
    log.warning("log.lost", lines=lines)
