"""The two ends of a handover's connection, as the reactor has them; `handover` says what happens on it."""

from __future__ import annotations

import json
import os
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineOnlyReceiver

from halfsync.logs import get_logger

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from halfsync.life.sockets import Listening

log = get_logger(__name__)


def peer(connection: socket.socket) -> tuple[int, int]:
    """Return process and user at the other end, as of when it connected (SO_PEERCRED, unix(7))."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", credentials)
    return pid, uid


class Giving(Protocol):
    """The process that serves, as its ends of the connections ask it."""

    taker: int | None
    """The process that is taking over right now."""

    def state(self) -> str:
        """Say what the process is at."""

    def notify(self) -> tuple[str, float]:
        """Return systemd's address, and the seconds of its watchdog."""

    def offer(self) -> list[Listening]:
        """Return what this process listens on for its service."""

    async def give(self, pid: int, taken: list[Listening]) -> None:
        """Let go of the sockets that another process has taken, and of the path."""

    def leave(self, pid: int) -> None:
        """Retire, as another process has taken over."""


class Relief(LineOnlyReceiver):
    """The new process's end of the connection, from when it is ready."""

    delimiter = b"\n"

    def __init__(self, taken: list[int]) -> None:
        self._taken = taken
        self.done: Deferred[bool] = Deferred()
        """Fires with whether the old process has said that it retires."""

    def connectionMade(self) -> None:
        """Say that this process is ready."""
        self.sendLine(json.dumps({"taken": self._taken}).encode())

    def lineReceived(self, line: bytes) -> None:
        """Hear that the old process has let go."""
        del line
        self._end(heard=True)

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Go on without the old process."""
        del reason
        self._end(heard=False)

    def give_up(self) -> None:
        """Wait no longer."""
        self._end(heard=False)

    def _end(self, *, heard: bool) -> None:
        if not self.done.called:
            self.done.callback(heard)
            self.transport.abortConnection()  # type: ignore[union-attr]


class Giver(LineOnlyReceiver):
    """The old process's end of the connection."""

    delimiter = b"\n"
    factory: Givers
    transport: Any

    def __init__(self, handover: Giving) -> None:
        self._handover = handover
        self._offered: list[Listening] = []
        self._pid = 0

    def connectionMade(self) -> None:
        """Offer the sockets, or say why not."""
        handover = self._handover
        self._pid, uid = peer(self.transport.socket)
        reason = None
        if uid != os.geteuid():
            reason = f"this is user {os.geteuid()}, and you are user {uid}"
        elif (state := handover.state()) != "running":
            reason = f"the process is {state}"
        elif handover.taker is not None:
            reason = f"process {handover.taker} is taking over already"
        if reason is not None:
            log.warning("handover.refused", taker=self._pid, user=uid, reason=reason)
            self._pid = 0
            self.sendLine(json.dumps({"refused": reason}).encode())
            self.transport.loseConnection()
            return
        handover.taker = self._pid
        self._offered = handover.offer()
        notify, watchdog = handover.notify()
        places = [bound.key for bound in self._offered]
        message = {"places": places, "notify": notify, "watchdog": watchdog}
        # Nothing has been sent yet: the buffer of the socket takes all of it at once.
        data = [json.dumps(message).encode() + b"\n"]
        descriptors = [bound.fileno() for bound in self._offered]
        try:
            if descriptors:
                socket.send_fds(self.transport.socket, data, descriptors)
            else:
                self.transport.socket.send(data[0])
        except OSError:
            # It has left already; `connectionLost` follows.
            self.transport.loseConnection()
            return
        for bound in self._offered:
            bound.shared = True
        log.info("handover.offered", taker=self._pid, sockets=[bound.address for bound in self._offered])

    def lineReceived(self, line: bytes) -> None:
        """Hear that the other process is ready."""
        taken = [self._offered.pop(index) for index in sorted(json.loads(line)["taken"], reverse=True)]
        pid, self._pid = self._pid, 0
        self._restore()
        Deferred.fromCoroutine(self._give(pid, taken))

    async def _give(self, pid: int, taken: list[Listening]) -> None:
        # What the new process does next is to listen at the path, which must be free by then.
        await self._handover.give(pid, taken)
        with suppress(OSError):
            # Not by the reactor: a process that has nothing to drain ends before it would be its turn.
            self.transport.socket.send(b"{}\n")
        self.transport.loseConnection()
        self._handover.leave(pid)

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Go on serving, when the other process ended before it was ready."""
        del reason
        if self._pid:
            log.warning("handover.abandoned", taker=self._pid)
            self._restore()

    def _restore(self) -> None:
        """Have what the other process has not taken for ourselves again."""
        self._handover.taker = None
        for bound in self._offered:
            bound.shared = False


class Givers(Factory):
    """Makes the old process's ends."""

    noisy = False

    def __init__(self, handover: Giving) -> None:
        self._handover = handover

    def buildProtocol(self, addr: object) -> Any:
        """Deal with a process."""
        del addr
        return Giver(self._handover)
