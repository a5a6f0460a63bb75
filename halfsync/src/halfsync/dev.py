"""Run a service while it is written: `python -m halfsync.dev PACKAGE [flags]`.

The service is started again when one of its sources changes. What it listens on stays open meanwhile:
the sockets belong to this process, so that a browser that reloads too early waits instead of failing.
A listener whose port is taken gets a free one, so that two services live on one machine; it is printed.
The service has the terminal: `breakpoint()` in a handler stops there.
A request that fails is answered with its traceback (`--web.tracebacks`), unless other machines can ask.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WATCHED = frozenset({".py", ".html", ".jinja2", ".ini", ".toml", ".json", ".css", ".js"})

LOOK = 0.3
"""Seconds between two looks for changes."""

PATIENCE = 5.0
"""Seconds for the service to finish what runs before it is killed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the service until Ctrl-C, and return its last exit code; 2 when the package is none."""
    package, *flags = list(sys.argv[1:] if arguments is None else arguments) or [""]
    found = importlib.util.find_spec(package) if package.replace(".", "").isidentifier() else None
    if found is None or not found.submodule_search_locations:
        reason = "is none: give the name of the service's package"
        print(f"halfsync.dev: package: {package!r} {reason}", file=sys.stderr)  # noqa: T201  for a person
        return 2
    folders = [Path(each) for each in found.submodule_search_locations]
    return Dev(package, flags, folders).run()


class Dev:
    """One session of development."""

    def __init__(self, package: str, flags: list[str], folders: list[Path]) -> None:
        self._package = package
        self._flags = flags
        self._folders = folders
        self._sockets: list[socket.socket] = []
        self._stopped = False
        self._told = False
        """Whether the service knows that it is to stop."""

    def run(self) -> int:
        """Start the service again and again."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        listen = list(self._listen())
        code = 0
        while not self._stopped:
            seen = self._state()
            child = subprocess.Popen(  # noqa: S603  the service itself
                [sys.executable, "-m", self._package, *self._flags, *listen],
                pass_fds=[each.fileno() for each in self._sockets],
            )
            while child.poll() is None and not self._stopped and self._state() == seen:
                time.sleep(LOOK)
            changed = child.poll() is None
            code = self._end(child)
            if not changed and not self._stopped:
                self._say(f"ended with exit code {code}; waiting for a change")
                while not self._stopped and self._state() == seen:
                    time.sleep(LOOK)
            if not self._stopped:
                self._say("a source has changed: starting again")
        return code

    def _stop(self, number: int, _frame: object) -> None:
        self._stopped = True
        # Ctrl-C reaches the service, too; a second signal would make it stop without finishing what runs.
        self._told = number == signal.SIGINT and os.isatty(0)

    def _end(self, child: subprocess.Popen[bytes]) -> int:
        if child.poll() is None:
            if not self._told:
                child.terminate()
            with suppress(subprocess.TimeoutExpired):
                return child.wait(PATIENCE)
            child.kill()
        return child.wait()

    def _listen(self) -> Iterator[str]:
        """Bind what the service would listen on at a port of its default, and name it by descriptors.

        Where only this machine can ask, a request that fails is answered with its traceback.
        """
        asked = [sys.executable, "-m", self._package, *self._flags, "--print_config"]
        shown = subprocess.run(asked, capture_output=True, text=True, check=False)  # noqa: S603  the service itself
        private = False
        for line in shown.stdout.splitlines():
            name, _, rest = line.partition("=")
            flag = name.strip().removeprefix("--")
            if flag == "web.tracebacks" and private and rest.endswith("(default)"):
                yield "--web.tracebacks=true"
            value = rest.split("#")[0].split("  ")[0].strip().strip("'\"")
            if flag not in {"web.listen", "admin.listen", "rpc.listen"} or not value.startswith("tcp:"):
                continue
            port, *options = value.removeprefix("tcp:").split(":")
            if not port.isdecimal() or " " in value:
                continue
            host = next((each[10:] for each in options if each.startswith("interface=")), "")
            listening = self._bind(host, int(port))
            self._sockets.append(listening)
            private = private or (flag == "web.listen" and listening.getsockname()[0].startswith("127."))
            place = f"127.0.0.1:{listening.getsockname()[1]}"
            self._say(f"{flag}: {place if flag == 'rpc.listen' else f'http://{place}/'}")
            yield f"--{flag}=fd:{listening.fileno()}"

    def _bind(self, host: str, port: int) -> socket.socket:
        # Loopback, as nobody else is to meet what is being written.
        for each in (port, 0):
            listening = socket.socket()
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listening.bind((host or "127.0.0.1", each))
            except OSError:
                listening.close()
                continue
            listening.listen(128)
            listening.set_inheritable(True)
            return listening
        raise OSError(f"no port is free on {host}")

    def _state(self) -> dict[str, int]:
        found = {}
        for folder in self._folders:
            for at, folders, names in os.walk(folder):
                folders[:] = [each for each in folders if not each.startswith((".", "__pycache__"))]
                for name in names:
                    if Path(name).suffix in WATCHED:
                        # An editor may have taken it away at this very moment.
                        with suppress(OSError):
                            path = str(Path(at, name))
                            found[path] = os.stat(path).st_mtime_ns  # noqa: PTH116  a tenth of Path's time
        return found

    def _say(self, text: str) -> None:
        print(f"dev: {text}", file=sys.stderr, flush=True)  # noqa: T201  for a person


if __name__ == "__main__":
    sys.exit(main())
