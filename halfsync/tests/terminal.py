"""A pseudo-terminal and what a person would see on it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import termios
import time

PATIENCE = 60


class Screen:
    """A person's terminal, in a pseudo-terminal."""

    def __init__(self, command: list[str]) -> None:
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            os.execvp(command[0], command)
        self.seen = ""
        self.raw = ""
        """Everything that came, as it came."""

    def resize(self, columns: int, rows: int) -> None:
        """Change the terminal's size, as dragging a window's corner does."""
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def types(self, text: str) -> None:
        os.write(self.descriptor, text.encode())

    def until(self, text: str) -> str:
        """Return what was shown up to a text, which must come; control sequences left out."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.seen:
            ready, _, _ = select.select([self.descriptor], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise AssertionError(f"no {text!r} in {self.seen!r}")
            try:
                data = os.read(self.descriptor, 65536)
            except OSError:
                raise AssertionError(f"closed without {text!r}: {self.seen!r}") from None
            self.raw += data.decode("utf-8", "replace")
            self.seen += re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "", data.decode()).replace("\r\n", "\n")
        before, _, self.seen = self.seen.partition(text)
        return before

    def exit_code(self) -> int:
        try:
            while data := os.read(self.descriptor, 65536):
                self.raw += data.decode("utf-8", "replace")
        except OSError:
            pass
        os.close(self.descriptor)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
