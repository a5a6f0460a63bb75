"""The listening sockets of a process: those that it was given, and those that it listens on."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable


class Listening(Protocol):
    """A socket that a part listens on."""

    @property
    def key(self) -> str:
        """Tell which socket it is: the same in every process that has the same endpoint string."""

    @property
    def address(self) -> str:
        """Where it listens, for a person."""

    @property
    def shared(self) -> bool:
        """Whether another process has the socket, too, as one takes over from the other."""

    @shared.setter
    def shared(self, value: bool) -> None: ...

    def fileno(self) -> int:
        """Return its descriptor."""

    async def close(self) -> None:
        """Let go of it at once; the connections that it accepted stay."""


class Sockets:
    """What a process listens on, or is to listen on; the process object has it, and gives it to its parts."""

    def __init__(self) -> None:
        self.open: list[Listening] = []
        """What the process listens on, in the order in which it began to."""
        self.certificate_watch = 0.0
        """Seconds between two looks whether their certificates have changed; 0 is never."""
        self._given: dict[str, list[socket.socket]] = {}

    def give(self, key: str, listening: socket.socket) -> None:
        """Keep a socket of the process before until `take` asks for its key."""
        self._given.setdefault(key, []).append(listening)

    def take(self, key: str) -> socket.socket | None:
        """Return a socket that was given; None when there is none of this key."""
        given = self._given.get(key)
        return given.pop(0) if given else None

    def given(self) -> list[socket.socket]:
        """Return the sockets that were given, and that nobody has taken."""
        return [each for some in self._given.values() for each in some]

    def forget(self) -> None:
        """Close what nobody has taken."""
        for each in self.given():
            each.close()
        self._given.clear()


def listening_descriptors() -> dict[int, int]:
    """Return each descriptor of this process that is a listening socket, with its inode (proc(5))."""
    found = {}
    with suppress(OSError):
        for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  names are all that is wanted
            # The one by which the folder is read is gone by now.
            with suppress(OSError):
                state = os.fstat(int(name))
                if stat.S_ISSOCK(state.st_mode) and _listens(int(name)):
                    found[int(name)] = state.st_ino
    return found


def _listens(descriptor: int) -> bool:
    copy = os.dup(descriptor)
    try:
        asked = socket.socket(fileno=copy)
    except OSError:
        # Left open, it would keep alive what the descriptor is of: a file of the log, once that is rotated.
        os.close(copy)
        raise
    with asked:
        return bool(asked.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def unserved(inherited: dict[int, int], sockets: Sockets, claimed: Iterable[int]) -> list[int]:
    """Return the inherited descriptors that the process neither listens on nor keeps for later.

    :param inherited: what `listening_descriptors` found when the process began.
    :param claimed: descriptors that a flag names; a manhole listens only while it is open.
    """
    served = {os.fstat(each.fileno()).st_ino for each in sockets.open}
    served |= {inherited[each] for each in claimed if each in inherited}
    return sorted(number for number, inode in inherited.items() if inode not in served)
