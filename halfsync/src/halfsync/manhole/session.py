"""An SSH session: a prompt on a terminal, a command, or a script on standard input (RFC 4254, section 6)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from twisted.conch.ssh.channel import SSHChannel
from twisted.conch.ssh.common import getNS
from twisted.conch.ssh.connection import EXTENDED_DATA_STDERR
from twisted.conch.ssh.session import parseRequest_pty_req, parseRequest_window_change
from twisted.internet.defer import CancelledError, Deferred, fail

from halfsync import flags, logs
from halfsync._twisted import logs_to
from halfsync.manhole.editor import Terminal
from halfsync.manhole.interpreter import Interpreter
from halfsync.manhole.log_filter import conch_log
from halfsync.manhole.masking import masked
from halfsync.manhole.prompt import Prompt
from halfsync.manhole.views import FlagsView

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from halfsync.manhole.interpreter import Outcome
    from halfsync.manhole.user import User

audit = logs.get_audit_logger(__name__)
log = logs.get_logger(__name__)

TERMINAL_LIMIT = 100_000
"""Characters that a statement may print on a terminal."""

PIPE_LIMIT = 10_000_000
"""Characters that a command or a script may print; what the client does not take waits in memory."""

MAX_SCRIPT = 1 << 20
"""Bytes."""

PATIENCE = 1.0
"""Seconds for which a line waits for the log before the person is told that it does."""

CTRL_C = 3


class LineRefusedError(Exception):
    """A line is not run, since the log would not keep it whole."""


@logs_to(conch_log)
class ManholeSession(SSHChannel):
    """One session on a connection; a connection may carry several."""

    name = b"session"
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
        self._waiting: Deferred[None] | None = None
        """What waits until the log has what is to be run."""
        self._command = False
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
        if self._size:
            self._size = (columns or 80, rows or 24)
        if self._prompt and self._size:
            self._prompt.terminalSize(*self._size)
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
        self._command = True
        # Later, so that the answer to this request goes out before the command's output and end.
        self.avatar.reactor.callLater(0, self._run_whole, getNS(data)[0])
        return True

    def request_subsystem(self, data: bytes) -> bool:
        """Have none, such as `sftp`, and say so in the log."""
        name = getNS(data)[0][:40].decode("ascii", "replace")
        audit.warning("manhole.channel_refused", **self.login.facts(), reason=f"no subsystem {name!r}")
        return False

    # Data

    def dataReceived(self, data: bytes) -> None:
        """Take keys, or a part of a script; of what is typed during a command only Ctrl-C matters."""
        if self._terminal:
            self._terminal.dataReceived(data)
        elif self._command:
            if self._size and CTRL_C in data:
                self._interrupt()
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
        if self._waiting:
            self._waiting.cancel()
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
        logged = self._audit(source, begins=True)
        logged.addCallbacks(lambda _: self._run_logged(source), self._not_run)

    def _run_logged(self, source: str) -> None:
        running = self._interpreter.run(source, whole=True) if self._interpreter else None
        if running:
            running.addCallback(self._ended)
        else:
            self._show("SyntaxError: incomplete input\n", error=True)
            self._leave(1)

    def _not_run(self, failure: Failure) -> None:
        text = "KeyboardInterrupt" if failure.check(CancelledError) else str(failure.value)
        self._show(f"{text}\n", error=True)
        self._leave(1)

    def _interrupt(self) -> None:
        if self._waiting:
            self._waiting.cancel()
        elif self._interpreter:
            self._interpreter.interrupt()

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
        elif self._size:
            # On a terminal a line ends at its left edge, and there is one stream.
            shown = text.replace("\r\n", "\n").replace("\n", "\r\n")
            self.write(shown.encode("utf-8", "backslashreplace"))
        elif error:
            self.writeExtended(EXTENDED_DATA_STDERR, text.encode("utf-8", "backslashreplace"))
        else:
            self.write(text.encode("utf-8", "backslashreplace"))

    def _audit(self, source: str, *, begins: bool) -> Deferred[None]:
        """Log what is to be run, line by line; fires when the log has it, for any line may be the last one.

        It fails with LineRefusedError, and with CancelledError when the person did not want to wait.
        :param begins: the source is the beginning of a statement, and not the rest of one.
        """
        if begins and self._interpreter and type(self._interpreter.namespace.get("flags")) is FlagsView:
            source = masked(source, [each.name for each in flags.states() if each.secret])
        events = [{**self.login.facts(), "line": line} for line in source.split("\n")]
        running = logs.running()
        if running and not all(running.keeps(event) for event in events):
            audit.warning("manhole.line_refused", **self.login.facts(), characters=len(source))
            return fail(LineRefusedError("a line that is longer than what the log keeps of it is not run"))
        for event in events:
            audit.info("manhole.line", **event)
        written: Deferred[None] = Deferred()
        if not running:
            written.callback(None)
            return written
        reactor = self.avatar.reactor
        note = reactor.callLater(PATIENCE, self.tell, "waits until the log is written; Ctrl-C ends that")
        running.when_written(lambda: reactor.callFromThread(_fire, written))
        self._waiting = written
        return written.addBoth(self._audited, note)

    def _audited(self, result: Any, note: Any) -> Any:
        self._waiting = None
        if note.active():
            note.cancel()
        return result

    def _stalled(self, seconds: float) -> None:
        log.warning("manhole.stalled", **self.login.facts(), seconds=round(seconds, 3))
        self.tell(f"held the reactor for {seconds:.1f} s; with & before it, it runs in a thread")


def _fire(written: Deferred[None]) -> None:
    if not written.called:
        written.callback(None)
