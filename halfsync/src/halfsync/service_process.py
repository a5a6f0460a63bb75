"""A service as it runs in production, for its tests: a process of its own, seen through its log.

with ServiceProcess([python, "-m", "hello_service"]) as service:
    service.wait_for("service.started")
    assert service.get("web", "/") == "Hello, world!"
    assert service.stop() == 0
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import threading
import urllib.request
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

PATIENCE = 30.0


class ServiceProcess:
    """A process whose log, one JSON object a line on its standard output, is read event by event.

    It is killed when the block ends.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environ: Mapping[str, str] = MappingProxyType({}),
        patience: float = PATIENCE,
    ) -> None:
        """Start it.

        :param command: program and flags; `--log.format=json` is added.
        :param environ: all of its environment.
        :param patience: seconds after which a service that does not do what is awaited has failed.
        """
        self._patience = patience
        self.process = subprocess.Popen(  # noqa: S603  the test's own command
            [*command, "--log.format=json"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env=dict(environ),
        )
        self.events: list[dict[str, Any]] = []
        """What has been read of the log."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()

    def wait_for(self, event: str) -> dict[str, Any]:
        """Return the first event of a name: one that has been read, or the log is read up to it.

        :raises AssertionError: when the service ends without it; one that is silent for too long is killed.
        """
        for seen in self.events:
            if seen.get("event") == event:
                return seen
        assert self.process.stdout is not None  # noqa: S101  for the type checker: it is a pipe
        guard = threading.Timer(self._patience, self.process.kill)
        guard.start()
        try:
            for line in self.process.stdout:
                self.events.append(_parse(line))
                if self.events[-1].get("event") == event:
                    return self.events[-1]
        finally:
            guard.cancel()
        raise AssertionError(f"the service ended, or was killed, without {event}: {self.events}")

    def address(self, listener: str) -> tuple[str, int]:
        """Return host and port of a TCP listener, such as `admin`, once `service.started` has been read.

        :raises AssertionError: when the log has no such listener.
        """
        for seen in self.events:
            if seen.get("event") == f"{listener}.listening" and (
                port := re.search(r":(\d+)(?: |$)", str(seen["address"]))
            ):
                return "127.0.0.1", int(port[1])
        raise AssertionError(f"no TCP listener {listener} in the log: {self.events}")

    def get(self, listener: str, path: str) -> str:
        """Fetch a page of a listener of HTTP.

        :raises urllib.error.HTTPError: when it answers with an error.
        """
        host, port = self.address(listener)
        # Of the machine that tests, no proxy is asked for a page of this process.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{host}:{port}{path}", timeout=self._patience) as response:
            return str(response.read().decode())

    def stop(self) -> int:
        """Tell the service to stop, wait for its end, and return its exit code.

        :raises subprocess.TimeoutExpired: when it does not end in time.
        """
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=self._patience)
        return self.process.returncode


def _parse(line: str) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    # What the service prints itself is an event of that name.
    return event if isinstance(event, dict) else {"event": line.rstrip("\n")}
