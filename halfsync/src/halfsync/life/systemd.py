"""What systemd is told (sd_notify(3)): ready, reloading, stopping, a line of status; and its watchdog.

The watchdog is fed by the reactor and by nothing else:
a thread that fed it would keep a process alive whose reactor is stuck.
systemd ends such a process with SIGABRT and starts it again; its stacks are in the journal (`faulthandler`).
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Any

from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import MutableMapping

log = get_logger(__name__)

PATIENCE = 0.5
"""Seconds to wait for systemd to take a message; it takes them in milliseconds unless it restarts itself."""


class Systemd:
    """The service manager that started the process, or nobody: then nothing is sent."""

    def __init__(self, reactor: Any, address: str = "", watchdog: float = 0.0) -> None:
        """Tell the socket at an address, `/path` or `@abstract`; feed a watchdog that bites after seconds."""
        self.address = address
        self.watchdog = watchdog
        self._reactor = reactor
        self._feeding = False
        self._unreachable = False

    @classmethod
    def from_environ(cls, reactor: Any, environ: MutableMapping[str, str]) -> Systemd:
        """Take what systemd set out of the environment: a child process must not speak for this one."""
        address = environ.pop("NOTIFY_SOCKET", "")
        microseconds = environ.pop("WATCHDOG_USEC", "")
        # sd_watchdog_enabled(3): without a pid, it is meant for whoever reads it.
        mine = environ.pop("WATCHDOG_PID", "") in ("", str(os.getpid()))
        watchdog = int(microseconds) / 1e6 if mine and microseconds.isdecimal() else 0.0
        return cls(reactor, address if address.startswith(("/", "@")) else "", watchdog)

    def ready(self, status: str) -> None:
        """Tell that the start, or a reload, is done; from now on the watchdog is fed."""
        self.tell("READY=1", f"STATUS={status}")
        if self.address and self.watchdog and not self._feeding:
            self._feeding = True
            self._feed()

    def reloading(self) -> None:
        """Tell that a reload begins; `ready` ends it."""
        self.tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=reloading")

    def stopping(self, status: str) -> None:
        """Tell that the end has begun."""
        self.tell("STOPPING=1", f"STATUS={status}")

    def succeeded_by(self, pid: int) -> None:
        """Tell that another process is the service from now on; nothing more is sent by this one."""
        self.tell(f"MAINPID={pid}")
        self.address = ""

    def tell(self, *assignments: str) -> None:
        """Send assignments in one datagram. That nobody takes it is logged, and no reason to fail."""
        if not self.address:
            return
        name = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        message = "\n".join(each.replace("\n", " ") for each in assignments).encode(errors="replace")
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
                sending.settimeout(PATIENCE)
                sending.sendto(message, name)
        except OSError as error:
            if not self._unreachable:
                log.warning("systemd.unreachable", address=self.address, reason=str(error))
            self._unreachable = True
        else:
            self._unreachable = False

    def _feed(self) -> None:
        self.tell("WATCHDOG=1")
        self._reactor.callLater(self.watchdog / 2, self._feed)
