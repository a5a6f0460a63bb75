"""The file of the log, opened so that nobody else decides which file that is."""

from __future__ import annotations

import errno
import os
from pathlib import PurePath

from halfsync.path_walk import open_by_steps, others_write

MODE = 0o640


class LogFileError(Exception):
    """The file of the log cannot be used. One line, for a person."""


def open_log_file(path: str, *, create: bool = True) -> int:
    """Open a file to append to; return its descriptor.

    Where others can write to the folder, a symbolic link and a file of theirs are refused.
    :param create: make the file when there is none.
    :raises OSError: with what prevents it; a FIFO that no process reads is ENXIO, and blocks nobody.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | (os.O_CREAT if create else 0)
    folders = []
    try:
        descriptor = open_by_steps(
            path, flags, MODE, on_folder=lambda _path, folder: folders.append(folder), on_link=_check_link
        )
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(errno.ENXIO, "a FIFO that no process reads") from None
        raise
    owner = os.fstat(descriptor).st_uid
    if others_write(folders[-1]) and owner not in (0, os.geteuid()):
        # Its owner could read the log, and write another one.
        os.close(descriptor)
        raise OSError(errno.EPERM, f"a file of uid {owner} in a folder that others can write to")
    os.set_blocking(descriptor, True)
    return descriptor


def _check_link(_path: str, folder: os.stat_result, _link: os.stat_result) -> None:
    if others_write(folder):
        raise OSError(errno.ELOOP, "a symbolic link in a folder that others can write to")


def check_log_file(path: str) -> str | None:
    """Say in one line what is wrong with the file of the log as things are; None when nothing is."""
    if not path:
        return None
    try:
        os.close(open_log_file(path, create=False))
    except FileNotFoundError:
        folder = str(PurePath(path).parent)
        if os.access(folder, os.W_OK | os.X_OK):
            return None
        return f"{path!r}: no such file, and none can be made in {folder!r}"
    except OSError as error:
        return f"{path!r}: {reason(error)}"
    return None


def reason(error: OSError) -> str:
    """Return what prevents the file from being opened, in words for a message."""
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:] if text[1:2].islower() else text
