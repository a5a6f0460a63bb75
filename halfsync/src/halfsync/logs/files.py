"""The file of the log, opened so that nobody else decides which file that is."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import PurePath

MODE = 0o640


class LogFileError(Exception):
    """The file of the log cannot be used. One line, for a person."""


def open_log_file(path: str, *, create: bool = True) -> int:
    """Open a file to append to; return its descriptor.

    A symbolic link counts only where nobody but this user and root could have made it.
    :param create: make the file when there is none.
    :raises OSError: with what prevents it; a FIFO that no process reads is ENXIO, and blocks nobody.
    """
    *folders, name = PurePath(path).parts
    flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    folder = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for each in folders:
            inner = _enter(folder, each)
            os.close(folder)
            folder = inner
        if _others_write(folder):
            flags |= os.O_NOFOLLOW
        try:
            descriptor = os.open(name, flags | (os.O_CREAT if create else 0), MODE, dir_fd=folder)
        except OSError as error:
            if error.errno == errno.ELOOP and flags & os.O_NOFOLLOW:
                raise _untrusted() from None
            if error.errno == errno.ENXIO:
                raise OSError(errno.ENXIO, "a FIFO that no process reads") from None
            raise
    finally:
        os.close(folder)
    os.set_blocking(descriptor, True)
    return descriptor


def _enter(folder: int, name: str) -> int:
    """Open a folder that another one names."""
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        return os.open(name, flags | os.O_NOFOLLOW, dir_fd=folder)
    except NotADirectoryError:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISLNK(found.st_mode) and _others_write(folder):
            raise _untrusted() from None
        return os.open(name, flags, dir_fd=folder)


def _others_write(folder: int) -> bool:
    found = os.fstat(folder)
    return bool(found.st_mode & 0o022) or found.st_uid not in (0, os.geteuid())


def _untrusted() -> OSError:
    return OSError(errno.ELOOP, "a symbolic link in a folder that others can write to")


def check_log_file(path: str) -> str | None:
    """Say in one line what is wrong with the file of the log as things are; None when nothing is."""
    if not path:
        return None
    try:
        os.close(open_log_file(path, create=False))
    except FileNotFoundError:
        folder = os.path.dirname(path) or "."  # noqa: PTH120  a flag's value stays the text it is
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
