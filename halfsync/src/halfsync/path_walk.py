"""Opening a file that may be anything: without waiting for it, and so that its way there can be judged.

A file is opened step by step, as the kernel does it, so that every folder and link on the way can be judged.
What is judged is what is opened: each step goes from one descriptor to the next, so no name changes between.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_LINKS = 40
"""As in Linux: path_resolution(7)."""

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def at_once(path: str, flags: int) -> int:
    """Open a file without waiting for what may be at the other end of it, as of a FIFO.

    It is an opener for `open`, which given a descriptor of a folder raises, and leaves that open.
    """
    return os.open(path, flags | os.O_NONBLOCK)


def open_by_steps(
    path: str,
    flags: int,
    mode: int = 0o600,
    *,
    on_folder: Callable[[str, os.stat_result], None] = lambda _path, _folder: None,
    on_link: Callable[[str, os.stat_result, os.stat_result], None] = lambda _path, _folder, _link: None,
) -> int:
    """Open a file by open(2)'s flags, and return its descriptor.

    :param on_folder: called with the path and state of each folder on the way; what it raises ends the way.
    :param on_link: called with the path of each symbolic link, the state of its folder, and its own.
    :raises OSError: as open(2) has it.
    """
    ahead = list(reversed(PurePath(path).parts)) or ["."]
    links = 0
    walked = PurePath("/" if path.startswith("/") else ".")
    folder = os.open(walked, _FOLDER)
    try:
        on_folder(str(walked), os.fstat(folder))
        while True:
            name = ahead.pop()
            try:
                found = _step(folder, name, flags, mode, last=not ahead)
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                    raise
                link = os.stat(name, dir_fd=folder, follow_symlinks=False)
                links += 1
                if not stat.S_ISLNK(link.st_mode) or links > MAX_LINKS:
                    raise
                on_link(str(walked / name), os.fstat(folder), link)
                ahead += reversed(PurePath(os.readlink(name, dir_fd=folder)).parts)
                continue
            if not ahead:
                return found
            os.close(folder)
            folder, walked = found, walked / name
            on_folder(str(walked), os.fstat(folder))
    finally:
        os.close(folder)


def _step(folder: int, name: str, flags: int, mode: int, *, last: bool) -> int:
    if last:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=folder)
    return os.open(name, _FOLDER, dir_fd=folder)


def others_write(found: os.stat_result) -> bool:
    """Say whether somebody besides this user and root can change a file, or what is in a folder."""
    return bool(found.st_mode & 0o022) or found.st_uid not in (0, os.geteuid())
