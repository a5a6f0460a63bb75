"""Where a listening socket comes from: bound by us (TCP, UNIX), or inherited from a supervisor.

Twisted's own listening calls are not used, for what was observed of them (26.10):
closing calls shutdown(2), which ends a shared socket in every process;
an inherited UNIX socket is chmodded to 0666 when adopted and unlinked when closed;
and a lock file left by kill -9 bars the next start once its pid is another's, as it soon is in a container.
"""

from __future__ import annotations

import errno
import fcntl
import grp
import ipaddress
import os
import pwd
import socket
import stat
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


DEFAULT_MODE = 0o666
"""Of a UNIX socket, as Twisted has it."""


class ListenError(Exception):
    """This machine does not allow listening: a port is taken, a key is missing. One line, for a person."""


class Source(Protocol):
    """Where a listening socket comes from."""

    @property
    def key(self) -> str:
        """What two strings have in common that mean the same socket, whatever else they say."""

    @property
    def inherited(self) -> str:
        """What was handed over (`fd:3`); empty when the socket is of our own making."""

    def verify(self) -> None:
        """Find what can be found without binding.

        :raises ListenError: when `open` could not succeed.
        """

    def open(self) -> socket.socket:
        """Give a socket that listens.

        :raises ListenError: when it cannot; nothing is left behind.
        """


@dataclass(frozen=True, slots=True)
class Tcp:
    """A TCP port. The host is an IP address; empty means every IPv4 one."""

    host: str
    port: int
    backlog: int
    inherited: str = ""

    @property
    def key(self) -> str:
        """Return address and port."""
        return f"tcp:{ipaddress.ip_address(self.host or '0.0.0.0')} {self.port}"  # noqa: S104  it is what was asked

    def verify(self) -> None:
        """Look at the host."""
        self._address()

    def open(self) -> socket.socket:
        """Bind and listen."""
        family, address = self._address()
        try:
            listening = socket.socket(family, socket.SOCK_STREAM)
            with _closed_on_error(listening):
                # Without it, connections of the process before (in TIME_WAIT) bar the port for a minute.
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listening.bind(address)
                listening.listen(self.backlog)
        except OSError as error:
            raise ListenError(self._explain(error)) from error
        return listening

    def _address(self) -> tuple[socket.AddressFamily, Any]:
        if ":" not in self.host:
            return socket.AF_INET, (self.host, self.port)
        try:
            # For the scope: fe80::1%eth0.
            found = socket.getaddrinfo(self.host, self.port, flags=socket.AI_NUMERICHOST)
        except OSError as error:
            raise ListenError(f"{self.host!r} is no address of this machine") from error
        return socket.AF_INET6, found[0][4]

    def _explain(self, error: OSError) -> str:
        if error.errno == errno.EADDRINUSE:
            return f"port {self.port} is already in use"
        if error.errno == errno.EADDRNOTAVAIL:
            return f"{self.host!r} is no address of this machine"
        if error.errno == errno.EACCES:
            return (
                f"permission denied for port {self.port}; below 1024 the process needs CAP_NET_BIND_SERVICE"
            )
        return f"cannot listen on port {self.port}: {error.strerror}"


@dataclass(frozen=True, slots=True)
class Unix:
    """A UNIX socket, with its file mode, and its owner and group if they are not to be the process's."""

    path: str
    mode: int | None
    """None for `DEFAULT_MODE`."""
    backlog: int
    user: str = ""
    group: str = ""
    inherited: str = ""

    @property
    def key(self) -> str:
        """Return the path from the root; `/var/run` is often another name of `/run`."""
        path = Path(self.path)
        return f"unix:{path.parent.resolve() / path.name}"

    def verify(self) -> None:
        """Look at the folder, and at what stands on the path."""
        path = Path(self.path)
        if not path.parent.is_dir():
            raise ListenError(f"there is no folder {path.parent}")
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise ListenError(f"permission denied to make a socket in {path.parent}")
        self._owner()
        with suppress(FileNotFoundError):
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise ListenError(f"{path} is there and is no socket; remove it or choose another path")

    def open(self) -> socket.socket:
        """Bind and listen, in the place of a socket that nobody serves any more."""
        self.verify()
        try:
            self._clear()
            listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            with _closed_on_error(listening), ExitStack() as undo:
                listening.bind(self.path)
                undo.callback(os.unlink, self.path)
                # Nobody can connect before listen(2), so these are in force from the first client on.
                Path(self.path).chmod(DEFAULT_MODE if self.mode is None else self.mode)
                if self.user or self.group:
                    os.chown(self.path, *self._owner())
                listening.listen(self.backlog)
                undo.pop_all()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ListenError(f"{self.path} is already in use") from error
            raise ListenError(f"cannot listen on {self.path}: {error.strerror}") from error
        return listening

    def _owner(self) -> tuple[int, int]:
        """Return the numbers of user and group; -1 leaves what is."""
        user = group = -1
        if self.user:
            try:
                user = pwd.getpwnam(self.user).pw_uid
            except KeyError:
                raise ListenError(f"there is no user {self.user}") from None
        if self.group:
            try:
                group = grp.getgrnam(self.group).gr_gid
            except KeyError:
                raise ListenError(f"there is no group {self.group}") from None
        return user, group

    def _clear(self) -> None:
        """Remove what a killed process left; whether someone answers decides, never a pid in a lock file."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            # A full backlog would make a blocking connect(2) wait.
            probe.settimeout(0)
            answer = probe.connect_ex(self.path)
        if answer == errno.ECONNREFUSED:
            Path(self.path).unlink()
        elif answer != errno.ENOENT:
            raise ListenError(f"{self.path} is already in use")
        # Twisted's `unix:` leaves one beside its socket: a symbolic link to a pid.
        lock = Path(f"{self.path}.lock")
        if lock.is_symlink():
            lock.unlink()


@dataclass(frozen=True, slots=True)
class Inherited:
    """A listening socket that was handed over as an open file descriptor; the socket itself tells its family.

    The work is done on a duplicate: the descriptor stays for the next time (a manhole opens and closes).
    """

    inherited: str
    find: Callable[[], int]
    """Give the number of the descriptor; raises ListenError when there is none."""

    @property
    def key(self) -> str:
        """Return what was handed over."""
        return self.inherited

    def verify(self) -> None:
        """Find out whether it is a listening socket."""
        self._duplicate().close()

    def open(self) -> socket.socket:
        """Give a duplicate."""
        listening = self._duplicate()
        # A child process that kept the original would hold the port after our end.
        fcntl.fcntl(self.find(), fcntl.F_SETFD, fcntl.FD_CLOEXEC)
        return listening

    def _duplicate(self) -> socket.socket:
        number = self.find()
        try:
            copy = os.dup(number)
        except OSError as error:
            raise ListenError(f"file descriptor {number} is not open; was a socket handed over?") from error
        try:
            listening = socket.socket(fileno=copy)
        except OSError as error:
            os.close(copy)
            raise ListenError(f"file descriptor {number} is no socket") from error
        streams = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
        if listening.family not in streams or listening.type != socket.SOCK_STREAM:
            listening.close()
            raise ListenError(f"file descriptor {number} is no TCP or UNIX stream socket")
        if not listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            listening.close()
            raise ListenError(f"file descriptor {number} is a socket that does not listen")
        return listening


def same_socket(one: Source, other: Source) -> bool:
    """Say whether two sources would have to be one socket, of which there can be but one."""
    if not (isinstance(one, Tcp) and isinstance(other, Tcp)):
        return one.key == other.key
    if not one.port or one.port != other.port:
        return False
    hosts = {ipaddress.ip_address(each.host or "0.0.0.0") for each in (one, other)}  # noqa: S104  compared
    if len(hosts) == 1:
        return True
    # One for every IPv6 address takes IPv4, too.
    return any(
        host.is_unspecified and (host.version == 6 or all(each.version == 4 for each in hosts))
        for host in hosts
    )


@contextmanager
def _closed_on_error(listening: socket.socket) -> Iterator[None]:
    try:
        yield
    except BaseException:
        listening.close()
        raise
