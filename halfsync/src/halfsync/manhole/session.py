"""An SSH session: a prompt on a terminal, a command, or a script on standard input (RFC 4254, section 6)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from twisted.conch.ssh.channel import SSHChannel
from twisted.conch.ssh.common import getNS
from twisted.conch.ssh.connection import EXTENDED_DATA_STDERR
from twisted.conch.ssh.session import parseRequest_pty_req, parseRequest_window_change

from halfsync.logs import flush, get_logger
from halfsync.manhole.editor import Terminal
from halfsync.manhole.interpreter import Interpreter
from halfsync.manhole.log_filter import conch_log
from halfsync.manhole.prompt import Prompt
from halfsync.manhole.views import masked

if TYPE_CHECKING:
    from halfsync.manhole.interpreter import Outcome
    from halfsync.manhole.user import User

log = get_logger(__name__)

TERMINAL_LIMIT = 100_000
"""Characters that a statement may print on a terminal."""

PIPE_LIMIT = 10_000_000
"""Characters that a command or a script may print; what the client does not take waits in memory."""

MAX_SCRIPT = 1 << 20
"""Bytes."""

FLUSH = 0.1
"""Seconds that the log may take to be written before a line is run."""


class ManholeSession(SSHChannel):
    """One session on a connection; a connection may carry several."""

    name = b"session"
    _log = conch_log
    avatar: User
    conn: Any

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.login = self.avatar.login
        self._size: tuple[int, int] | None = None
        self._interpreter: Interpreter | None = None
        self._terminal: Terminal | None = None
        self._prompt: Prompt | None = None
        self._script: bytearray | None = None
        self._left = False

    # Requests; a true answer is success.

    def request_pty_req(self, data: bytes) -> bool:
        """Note the size of the client's terminal."""
        if not self.avatar.key.terms().terminal:
            return False
        _, (rows, columns, _, _), _ = parseRequest_pty_req(data)
        self._size = (columns or 80, rows or 24)
        return True

    def request_window_change(self, data: bytes) -> bool:
        """Note its new size."""
        rows, columns, _, _ = parseRequest_window_change(data)
        if self._prompt:
            self._prompt.terminalSize(columns or 80, rows or 24)
        return True

    def request_env(self, _data: bytes) -> bool:
        """Take no variables; every client offers some."""
        return False

    def request_shell(self, _data: bytes) -> bool:
        """Open a prompt on a terminal; without one, wait for a script on standard input."""
        if self._interpreter:
            return False
        if not self._size:
            self._begin(PIPE_LIMIT)
            self._script = bytearray()
            return True
        prompt = Prompt(
            self._begin(TERMINAL_LIMIT),
            welcome=self.avatar.tools.welcome(),
            size=self._size,
            audit=self._audit,
            leave=self._leave,
        )
        self._prompt = prompt
        self._terminal = Terminal(lambda: prompt)
        self._terminal.makeConnection(self)
        return True

    def request_exec(self, data: bytes) -> bool:
        """Run a command."""
        if self._interpreter:
            return False
        self._begin(PIPE_LIMIT)
        # Later, so that the answer to this request goes out before the command's output and end.
        self.avatar.reactor.callLater(0, self._run_whole, getNS(data)[0])
        return True

    # Data

    def dataReceived(self, data: bytes) -> None:
        """Take keys, or a part of a script."""
        if self._terminal:
            self._terminal.dataReceived(data)
        elif self._script is not None:
            self._script += data
            if len(self._script) > MAX_SCRIPT:
                self._script = None
                self._show(f"a script may have {MAX_SCRIPT} bytes\n", error=True)
                self._leave(1)

    def eofReceived(self) -> None:
        """Run the script, which is now complete; leave a terminal when all that was typed has run."""
        if self._prompt:
            self._prompt.end_of_input()
        elif self._script is not None:
            script, self._script = bytes(self._script), None
            self._run_whole(script)

    def closed(self) -> None:
        """Interrupt what runs; the person has gone."""
        if self._interpreter:
            self._interpreter.close()
        if self._terminal:
            self._terminal.connectionLost(None)
            self._terminal = None

    def tell(self, text: str) -> None:
        """Tell the person something that their code did not print."""
        if self._interpreter:
            self._show(f"\n[{text}]\n", error=True)

    def dismiss(self, text: str) -> None:
        """Tell the person why, and end."""
        self.tell(text)
        self._leave(1)

    # Running

    def _begin(self, limit: int) -> Interpreter:
        self._interpreter = Interpreter(
            self.avatar.tools.namespace(),
            name=f"manhole {self.login.id}.{self.id}",
            show=self._show,
            limit=limit,
            stalled=self._stalled,
            redirection=self.avatar.tools.redirection,
            threaded=self.avatar.tools.threaded,
            reactor=self.avatar.reactor,
        )
        return self._interpreter

    def _run_whole(self, command: bytes) -> None:
        if not self._interpreter or self.localClosed:
            return
        source = command.decode("utf-8", "replace").replace("\r\n", "\n")
        self._audit(source.splitlines())
        running = self._interpreter.run(source, whole=True)
        if running:
            running.addCallback(self._ended)
        else:
            self._show("SyntaxError: incomplete input\n", error=True)
            self._leave(1)

    def _ended(self, outcome: Outcome) -> None:
        self._leave(int(outcome.failed) if outcome.leave is None else outcome.leave)

    def _leave(self, code: int) -> None:
        if self._left:
            return
        self._left = True
        self.conn.sendRequest(self, b"exit-status", struct.pack(">L", code))
        if self._terminal:
            self._terminal.loseConnection()
        else:
            self.loseConnection()

    def _show(self, text: str, error: bool) -> None:  # noqa: FBT001  as Interpreter calls it
        if self._prompt:
            self._prompt.show(text)
        elif error:
            self.writeExtended(EXTENDED_DATA_STDERR, text.encode("utf-8", "backslashreplace"))
        else:
            self.write(text.encode("utf-8", "backslashreplace"))

    def _audit(self, lines: list[str]) -> None:
        for line in lines:
            log.info("manhole.line", **self.login.facts(), line=masked(line))
        # Any line may be the last thing that the process does.
        flush(FLUSH)

    def _stalled(self, seconds: float) -> None:
        log.warning("manhole.stalled", **self.login.facts(), seconds=round(seconds, 3))
        self.tell(f"held the reactor for {seconds:.1f} s; with & before it, it runs in a thread")
