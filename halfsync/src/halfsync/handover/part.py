"""From one process to the next without a supervisor that holds the sockets: `--service.handover=PATH`.

The process that serves listens on a UNIX socket at PATH; the next one, started with the same flag,
1. connects, and is given duplicates of all listening sockets (SCM_RIGHTS, unix(7));
2. starts, with those of them that its own flags name too, while the old one goes on serving;
3. says that it is ready, whereupon the old one lets go of the sockets taken, drains and ends;
4. listens at PATH itself.
When the new one fails before it is ready, the connection ends, and nothing has changed for the old one.
Neither ever closes a socket that the other does not have: no connection is refused or lost in between.

Both sides write JSON, a line each. Only processes of the same user are dealt with, on either side.
"""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfsync import flag, flags
from halfsync._later import later
from halfsync.endpoints.endpoint import Endpoint
from halfsync.endpoints.sockets import ListenError, Unix
from halfsync.flags import types as flagtypes
from halfsync.life.errors import StartError
from halfsync.life.parts import Part
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from twisted.internet import protocol

    from halfsync.handover import peers
    from halfsync.life.process import Process
    from halfsync.life.sockets import Listening, Sockets
else:
    peers = later("halfsync.handover.peers")
    protocol = later("twisted.internet.protocol")

log = get_logger(__name__)

ANSWER = 10.0
"""Seconds in which the other side must answer; it does in milliseconds unless its reactor is stuck."""

MOST = 253
"""Descriptors in a message (SCM_MAX_FD in Linux)."""


def _fault(path: str) -> str | None:
    try:
        if path:
            Unix(path, 0o600, 1).verify()
    except ListenError as error:
        return str(error)
    return None


@flags.declare(flag.namespace("service"), at_start=True)
class FLAGS:
    """The process."""

    handover = flagtypes.Path(
        "UNIX socket at which the next process takes over what this one listens on; empty turns it off.",
        default="",
        check=_fault,
    )


class Handover(Part):
    """Both sides of it, in the life of one process: first it takes, then it gives; the first part of all."""

    def __init__(self, process: Process, *, path: str) -> None:
        """Meet other processes at a path; none is met where that is empty."""
        super().__init__("handover")
        self.process = process
        self.systemd = process.systemd
        self.taker: int | None = None
        """The process that is taking over right now."""
        self._path = path
        self._giver: socket.socket | None = None
        self._offered: list[socket.socket] = []
        self._notify = ("", 0.0)
        self._bound: Listening | None = None

    @classmethod
    def from_flags(cls, process: Process) -> Handover:
        """Meet other processes where the flag says."""
        return cls(process, path=FLAGS.handover)

    # The new process

    async def bind(self, sockets: Sockets) -> None:
        """Take the sockets of the process that serves, if there is one.

        :raises StartError: when there is one that does not give them, or the path cannot be used.
        """
        if not self._path:
            return
        if fault := _fault(self._path):
            raise _refusal(fault)
        try:
            self._take(sockets)
        except BaseException:
            await self.unbind()
            raise

    def _take(self, sockets: Sockets) -> None:
        giver = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        giver.settimeout(ANSWER)
        try:
            giver.connect(self._path)
        except (FileNotFoundError, ConnectionRefusedError):
            giver.close()
            return
        except OSError as error:
            giver.close()
            raise _refusal(f"cannot reach the process that serves: {error.strerror}") from error
        self._giver = giver
        pid, uid = peers.peer(giver)
        if uid != os.geteuid():
            raise _refusal(f"user {uid} serves at {self._path}, and this is user {os.geteuid()}")
        try:
            message = self._receive(giver)
        except (OSError, ValueError) as error:
            raise _refusal(f"process {pid} did not hand over: {error}") from error
        if "refused" in message:
            raise _refusal(f"process {pid} does not hand over: {message['refused']}")
        for place, offered in zip(message["places"], self._offered, strict=True):
            sockets.give(place, offered)
        self._notify = message["notify"], message["watchdog"]
        log.info("handover.taking", giver=pid, sockets=message["places"])

    async def ready(self) -> None:
        """Have the old process retire, once everything here has started; then wait for the next one."""
        if not self._path:
            return
        if self._giver is not None:
            left = {id(each) for each in self.process.sockets.given()}
            taken = [index for index, each in enumerate(self._offered) if id(each) not in left]
            self._forget()
            await self._relieve(taken)
        try:
            source = Unix(self._path, 0o600, 8)
            endpoint = Endpoint(self._path, source, None, proxied=False)
            self._bound = endpoint.listen(peers.Givers(self), self.process.reactor, self.process.sockets)
        except ListenError as error:
            log.error("handover.unavailable", reason=str(error))  # noqa: TRY400  the reason says it all

    async def drain(self) -> None:
        """Deal with no other process any more; one that has begun to take over may go on."""
        await self.unbind()

    async def stop(self) -> None:
        """Let go of everything."""
        await self.unbind()

    async def unbind(self) -> None:
        """Close what nobody has taken, and the connection to the process before."""
        self._forget()
        if self._giver is not None:
            self._giver.close()
            self._giver = None
        if self._bound is not None:
            await self._bound.close()

    def _receive(self, giver: socket.socket) -> dict[str, Any]:
        data = b""
        while not data.endswith(b"\n"):
            more, descriptors, _, _ = socket.recv_fds(giver, 65536, MOST, socket.MSG_CMSG_CLOEXEC)
            self._offered += [socket.socket(fileno=each) for each in descriptors]
            if not more:
                raise OSError("it closed the connection")
            data += more
        message = json.loads(data)
        assert isinstance(message, dict)  # noqa: S101  a process of ours sent it
        return message

    def _forget(self) -> None:
        self.process.sockets.forget()
        self._offered.clear()

    async def _relieve(self, taken: list[int]) -> None:
        """Say that this process is ready, and wait until the old one has let go."""
        assert self._giver is not None  # noqa: S101  the caller has looked
        reactor = self.process.reactor
        self._giver.settimeout(0)
        relief = peers.Relief(taken)
        factory: Any = protocol.Factory.forProtocol(lambda: relief)
        factory.noisy = False
        reactor.adoptStreamConnection(self._giver.fileno(), socket.AF_UNIX, factory)
        self._giver.close()
        self._giver = None
        late = reactor.callLater(ANSWER, relief.give_up)
        heard = await relief.done
        if late.active():
            late.cancel()
        for each in self.process.sockets.open:
            each.shared = False
        if not self.systemd.address:
            # Only now: what a start that fails has to say is nothing that systemd should hear of the old one.
            self.systemd.address, self.systemd.watchdog = self._notify
        if heard:
            log.info("handover.taken", sockets=len(taken))
        else:
            # It may have been killed, or be stuck. What it has handed over is here, whatever became of it,
            # and whoever comes next shall find this one at the path.
            with suppress(OSError):
                Path(self._path).unlink()  # noqa: ASYNC240  one name in a folder
            log.warning("handover.unconfirmed", reason="the old process has not said that it retires")

    # The old process

    async def give(self, pid: int, taken: list[Listening]) -> None:
        """Let go of the sockets that another process has taken, and of the path."""
        for bound in taken:
            await bound.close()
        if self._bound is not None:
            await self._bound.close()
        log.info("handover.given", taker=pid, sockets=[bound.address for bound in taken])
        self.systemd.succeeded_by(pid)

    def state(self) -> str:
        """Say what the process is at."""
        return self.process.state

    def notify(self) -> tuple[str, float]:
        """Return systemd's address, and the seconds of its watchdog."""
        return self.systemd.address, self.systemd.watchdog

    def leave(self, pid: int) -> None:
        """Retire, as another process has taken over."""
        if self.process.state == "running":
            self.process.stop(f"process {pid} has taken over")

    def offer(self) -> list[Listening]:
        """Return what this process listens on for its service."""
        return [each for each in self.process.sockets.open if each is not self._bound][:MOST]


def _refusal(reason: str) -> StartError:
    return StartError(f"--service.handover: {reason}")
