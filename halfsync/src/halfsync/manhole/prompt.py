"""The prompt: lines edited on a terminal, blocks typed or pasted, and the keys that interrupt and leave."""

from __future__ import annotations

import codecs
import os.path
import textwrap
from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError

from halfsync.manhole.editor import PASTE_MODE, Editor

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    from halfsync.manhole.interpreter import Interpreter, Outcome

CTRL_C, CTRL_D = b"\x03", b"\x04"

PASTE_BEGINS, PASTE_ENDS = b"\x1b[200~", b"\x1b[201~"

MAX_CHOICE = 200
"""Names that the tab key shows."""

MAX_AHEAD = 1 << 20
"""Keys that may be typed or pasted ahead of the prompt; more are dropped."""


class Prompt(Editor):
    """Takes keys, makes lines and blocks of them, has them run, and shows what they print."""

    def __init__(
        self,
        interpreter: Interpreter,
        *,
        welcome: str,
        size: tuple[int, int],
        audit: Callable[..., Deferred[None]],
        leave: Callable[[int], None],
    ) -> None:
        """Serve one person.

        :param size: columns and lines of the terminal.
        :param audit: logs what is entered, before it is run; takes the source, and by `begins` whether it
            is the beginning of a statement. It fires when the source may be run.
        :param leave: ends the session with an exit code.
        """
        self._interpreter = interpreter
        self._welcome = welcome
        self.width, self.height = size
        self._audit = audit
        self._leave = leave
        self._block: list[str] = []
        """The lines of a statement that goes on."""
        self._busy = False
        self._logging: Deferred[None] | None = None
        """What waits until the log has the last line."""
        self._ahead: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._replaying = False
        self._paste: list[bytes] | None = None
        self._at_line_start = True
        self._unfinished = ""
        """A line from behind the scenes that has no end yet."""
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def connectionMade(self) -> None:
        """Bind the keys, greet, prompt."""
        Editor.connectionMade(self)
        self.keyHandlers.update({CTRL_C: self._interrupt, CTRL_D: self._end_of_file})

    def initializeScreen(self) -> None:
        """Greet below what the terminal shows already."""
        self.terminal.setPrivateModes([PASTE_MODE])
        self.terminal.write(self._welcome)
        self.drawInputLine()

    # Keys

    def keystrokeReceived(self, keyID: bytes, modifier: bytes | None) -> None:
        """Act on a key now, or when the running statement has ended."""
        if self._busy and keyID == CTRL_C:
            self._ahead.clear()
            if self._logging:
                self._logging.cancel()
            else:
                self._interpreter.interrupt()
        elif not modifier:
            self._in_turn(self._key, keyID)

    def unhandledControlSequence(self, seq: bytes) -> None:
        """Begin or end a paste."""
        self._in_turn(self._paste_mark, seq)

    def end_of_input(self) -> None:
        """Leave when all that arrived before has been run."""
        self._in_turn(self._leave, 0)

    def _in_turn(self, act: Callable[..., None], *arguments: Any) -> None:
        if not self._busy and not self._replaying:
            act(*arguments)
        elif len(self._ahead) < MAX_AHEAD:
            self._ahead.append((act, arguments))

    def _key(self, key: bytes) -> None:
        if self._paste is not None:
            self._paste.append(key if len(key) == 1 else b"")
        elif key in self.keyHandlers:
            self.keyHandlers[key]()
        elif len(key) == 1 and key >= b" ":
            character = self._utf8.decode(key)
            if character:
                self.characterReceived(character.encode(), not self.terminal.typing)

    def handle_TAB(self) -> None:
        """Complete a name as far as there is no choice, or show the choice; indent where there is no name."""
        before = b"".join(self.lineBuffer[: self.lineBufferIndex]).decode("utf-8", "replace")
        if not before.strip():
            self._indent()
            return
        word, found = self._interpreter.complete(before)
        more = os.path.commonprefix(found)[len(word) :]  # noqa: RUF071  of names, not of paths
        if more:
            self.deliver(more.encode())
        elif len(found) > 1:
            shown = [each.rpartition(".")[2] for each in found[:MAX_CHOICE]]
            shown += ["…"] if len(found) > MAX_CHOICE else []
            self.show(textwrap.fill("  ".join(shown), self.width) + "\n")
        else:
            self.terminal.write(b"\a")

    def _indent(self) -> None:
        for _ in range(self.TABSTOP - self.lineBufferIndex % self.TABSTOP):
            self.characterReceived(b" ", moreCharactersComing=True)

    def _interrupt(self) -> None:
        self.handle_END()
        self._discard()
        self.terminal.write("\nKeyboardInterrupt\n")
        self.drawInputLine()

    def _end_of_file(self) -> None:
        if self.lineBuffer or self._block:
            self.terminal.write(b"\a")
        else:
            self.terminal.nextLine()
            self._leave(0)

    def _discard(self) -> None:
        self.pn = 0
        self._block = []
        self.lineBuffer = []
        self.lineBufferIndex = 0

    # Lines and blocks

    def lineReceived(self, line: bytes) -> None:
        """Take a line that was typed."""
        self._enter([line.decode("utf-8", "replace")], whole=False)

    def _paste_mark(self, sequence: bytes) -> None:
        if sequence == PASTE_BEGINS and self._paste is None:
            self._paste = []
        elif sequence == PASTE_ENDS and self._paste is not None:
            text = b"".join(self._paste).decode("utf-8", "replace")
            self._paste = None
            *lines, last = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
            if lines:
                self.terminal.write("\n... ".join(lines) + "\n")
                lines[0] = b"".join(self.lineBuffer).decode() + lines[0]
                self.historyLines += [line.encode() for line in lines if line.strip()]
                self.historyPosition = len(self.historyLines)
                self.lineBuffer = []
                self.lineBufferIndex = 0
                # Without an end of line the last one is still the person's to finish.
                self._enter(lines, whole=not last)
            if self._busy:
                self._ahead.appendleft((self.deliver, (last.encode(),)))
            else:
                self.deliver(last.encode())

    def _enter(self, lines: list[str], *, whole: bool) -> None:
        begins = not self._block
        self._block += lines
        self._busy = True
        logged = self._audit("\n".join(lines), begins=begins)
        if not logged.called:
            self._logging = logged
        logged.addCallbacks(lambda _: self._run(whole=whole), self._not_run)

    def _run(self, *, whole: bool) -> None:
        self._logging = None
        if not any(line.strip() for line in self._block):
            self._block = []
            self._go_on(statement=False)
            return
        if self._unfinished:
            self.terminal.write(f"{self._unfinished}\n")
            self._unfinished = ""
        running = self._interpreter.run("\n".join(self._block), whole=whole)
        if running:
            self._block = []
            running.addCallback(self._ended)
        else:
            self._go_on(statement=True)

    def _not_run(self, failure: Failure) -> None:
        self._logging = None
        self._block = []
        self.show("KeyboardInterrupt\n" if failure.check(CancelledError) else f"{failure.value}\n")
        self._go_on(statement=False)

    def _ended(self, outcome: Outcome) -> None:
        if outcome.leave is not None:
            self._busy = False
            self._leave(outcome.leave)
            return
        self._go_on(statement=False)

    def _go_on(self, *, statement: bool) -> None:
        """Ask for the next line, of the same statement or of a new one; act on what was typed meanwhile."""
        self._busy = False
        self._ask(goes_on=statement)
        if self._replaying:
            return
        self._replaying = True
        while self._ahead and not self._busy:
            act, arguments = self._ahead.popleft()
            act(*arguments)
        self._replaying = False

    def _ask(self, *, goes_on: bool) -> None:
        self.pn = int(goes_on)
        if not self._at_line_start:
            self.terminal.nextLine()
            self._at_line_start = True
        self.drawInputLine()

    # Output

    def show(self, text: str) -> None:
        """Show what a statement printed, or what comes from behind it while the person types."""
        # What has no encoding, as a part of a file's name may, is escaped.
        text = text.replace("\r\n", "\n").encode("utf-8", "backslashreplace").decode()
        if self._busy:
            self._at_line_start = text.endswith("\n")
            self.terminal.write(text)
            return
        # print writes each of its arguments by itself, and the end of the line, too.
        lines, end, self._unfinished = (self._unfinished + text).rpartition("\n")
        if end:
            self._to_start()
            self.terminal.write(lines + end)
            self.drawInputLine()
