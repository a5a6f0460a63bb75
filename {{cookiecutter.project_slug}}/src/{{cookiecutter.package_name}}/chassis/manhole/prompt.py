"""The prompt: lines edited on a terminal, blocks typed or pasted, and the keys that interrupt and leave."""

from __future__ import annotations

import codecs
import os.path
import textwrap
import tokenize
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.conch import manhole, recvline
from twisted.conch.insults import insults

if TYPE_CHECKING:
    from collections.abc import Callable

    from .interpreter import Interpreter, Outcome

CTRL_A, CTRL_C, CTRL_D, CTRL_E = b"\x01", b"\x03", b"\x04", b"\x05"
CTRL_K, CTRL_L, CTRL_U = b"\x0b", b"\x0c", b"\x15"

# Bracketed paste: xterm's control sequences, "Set using Bracketed Paste Mode".
PASTE_MODE = 2004
PASTE_BEGINS, PASTE_ENDS = b"\x1b[200~", b"\x1b[201~"

MAX_CHOICE = 200
"""Names that the tab key shows."""

MAX_AHEAD = 1 << 20
"""Keys that may be typed or pasted ahead of the prompt; more are dropped."""


class Terminal(insults.ServerProtocol):
    """The person's terminal; unlike conch's own it is left as it was found, its screen not cleared."""

    transport: Any
    typing = True
    """False while more of what arrived together is to come, so that it is not coloured key by key."""

    def dataReceived(self, data: bytes) -> None:
        """Take what was typed, or a whole paste."""
        for at in range(len(data)):
            self.typing = at == len(data) - 1
            insults.ServerProtocol.dataReceived(self, data[at : at + 1])

    def loseConnection(self) -> None:
        """Close the session."""
        self.resetPrivateModes([PASTE_MODE])
        self.transport.loseConnection()


class Prompt(recvline.HistoricRecvLine):
    """Takes keys, makes lines and blocks of them, has them run, and shows what they print."""

    terminal: Terminal
    lineBuffer: list[bytes]
    keyHandlers: dict[bytes, Callable[[], None]]

    def __init__(
        self,
        interpreter: Interpreter,
        *,
        welcome: str,
        size: tuple[int, int],
        audit: Callable[[str], None],
        leave: Callable[[int], None],
    ) -> None:
        """Serve one person.

        :param size: columns and lines of the terminal.
        :param audit: told every line that is entered.
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
        self._ahead: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._replaying = False
        self._paste: list[bytes] | None = None
        self._at_line_start = True
        self._row = 0
        """Of the rows that prompt and line take, the one with the cursor."""
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def connectionMade(self) -> None:
        """Bind the keys, greet, prompt."""
        recvline.HistoricRecvLine.connectionMade(self)
        self.keyHandlers.update(
            {
                CTRL_A: self.handle_HOME,
                CTRL_C: self._interrupt,
                CTRL_D: self._end_of_file,
                CTRL_E: self.handle_END,
                CTRL_K: self._erase_right,
                CTRL_L: self._clear,
                CTRL_U: self._erase_left,
                b"\x08": self.handle_BACKSPACE,
            }
        )

    def initializeScreen(self) -> None:
        """Greet below what the terminal shows already."""
        self.terminal.setPrivateModes([PASTE_MODE])
        self.terminal.write(self._welcome)
        self.drawInputLine()

    def terminalSize(self, width: int, height: int) -> None:
        """Take a new size; the terminal itself moves what it shows."""
        self.width, self.height = width, height
        self._row = (len(self.ps[self.pn]) + self.lineBufferIndex) // width

    # Keys

    def keystrokeReceived(self, keyID: bytes, modifier: bytes | None) -> None:
        """Act on a key now, or when the running statement has ended."""
        if self._busy and keyID == CTRL_C:
            self._ahead.clear()
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

    def characterReceived(self, ch: bytes, moreCharactersComing: bool) -> None:  # noqa: FBT001  Twisted's
        """Put a character into the line."""
        self.lineBuffer.insert(self.lineBufferIndex, ch)
        self.lineBufferIndex += 1
        columns = len(self.ps[self.pn]) + len(self.lineBuffer)
        if moreCharactersComing and self.lineBufferIndex == len(self.lineBuffer) and columns % self.width:
            self._row = columns // self.width
            self.terminal.write(ch)
        else:
            self._draw()

    def _draw(self) -> None:
        """Draw prompt and line anew."""
        self._to_start()
        self.drawInputLine()

    def drawInputLine(self) -> None:
        """Write prompt and line over as many rows as they take, coloured when it reads as Python."""
        line = b"".join(self.lineBuffer)
        with suppress(tokenize.TokenError, SyntaxError, IndexError):
            # The last blank is lost on the way.
            line = line if line.endswith(b" ") else bytes(manhole.lastColorizedLine(line))
        self.terminal.write(self.ps[self.pn] + line)
        columns = len(self.ps[self.pn]) + len(self.lineBuffer)
        behind = len(self.lineBuffer) - self.lineBufferIndex
        self._row, column = divmod(columns - behind, self.width)
        if columns % self.width == 0:
            # A terminal puts off going to the next row until there is something to show in it.
            self.terminal.write(b"\r\n")
        if self._row < columns // self.width:
            self.terminal.cursorUp(columns // self.width - self._row)
            self.terminal.write(b"\r")
            if column:
                self.terminal.cursorForward(column)
        elif behind:
            self.terminal.cursorBackward(behind)

    def _to_start(self) -> None:
        """Erase prompt and line, to write in their place."""
        if self._row:
            self.terminal.cursorUp(self._row)
        self._row = 0
        self.terminal.write(b"\r")
        self.terminal.eraseToDisplayEnd()

    def _deliverBuffer(self, buf: bytes) -> None:
        for character in buf.decode("utf-8", "replace"):
            self.lineBuffer.insert(self.lineBufferIndex, character.encode())
            self.lineBufferIndex += 1
        self._draw()

    def _go(self, index: int) -> None:
        self.lineBufferIndex = min(max(index, 0), len(self.lineBuffer))
        self._draw()

    def handle_LEFT(self) -> None:
        """Go left."""
        self._go(self.lineBufferIndex - 1)

    def handle_RIGHT(self) -> None:
        """Go right."""
        self._go(self.lineBufferIndex + 1)

    def handle_HOME(self) -> None:
        """Go to the beginning."""
        self._go(0)

    def handle_END(self) -> None:
        """Go to the end."""
        self._go(len(self.lineBuffer))

    def handle_BACKSPACE(self) -> None:
        """Erase what is left of the cursor."""
        if self.lineBufferIndex:
            del self.lineBuffer[self.lineBufferIndex - 1]
            self._go(self.lineBufferIndex - 1)

    def handle_DELETE(self) -> None:
        """Erase what is under the cursor."""
        del self.lineBuffer[self.lineBufferIndex : self.lineBufferIndex + 1]
        self._draw()

    def handle_DOWN(self) -> None:
        """Go to the next line of the history, or to an empty one."""
        recvline.HistoricRecvLine.handle_DOWN(self)
        self._draw()

    def handle_RETURN(self) -> None:
        """Take the line, from wherever in it."""
        self.handle_END()
        recvline.HistoricRecvLine.handle_RETURN(self)

    def handle_TAB(self) -> None:
        """Complete a name as far as there is no choice, or show the choice; indent where there is no name."""
        before = b"".join(self.lineBuffer[: self.lineBufferIndex]).decode("utf-8", "replace")
        if not before.strip():
            self._indent()
            return
        word, found = self._interpreter.complete(before)
        more = os.path.commonprefix(found)[len(word) :]  # noqa: RUF071  of names, not of paths
        if more:
            self._deliverBuffer(more.encode())
        elif len(found) > 1:
            shown = [each.rpartition(".")[2] for each in found[:MAX_CHOICE]]
            shown += ["…"] if len(found) > MAX_CHOICE else []
            self.show(textwrap.fill("  ".join(shown), self.width))
        else:
            self.terminal.write(b"\a")

    def _indent(self) -> None:
        for _ in range(self.TABSTOP - self.lineBufferIndex % self.TABSTOP):
            self.characterReceived(b" ", moreCharactersComing=True)

    def handle_INSERT(self) -> None:
        """Stay in insert mode."""

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

    def _erase_right(self) -> None:
        del self.lineBuffer[self.lineBufferIndex :]
        self._draw()

    def _erase_left(self) -> None:
        del self.lineBuffer[: self.lineBufferIndex]
        self._go(0)

    def _clear(self) -> None:
        self.terminal.eraseDisplay()
        self.terminal.cursorHome()
        self.drawInputLine()

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
                self._ahead.appendleft((self._deliverBuffer, (last.encode(),)))
            else:
                self._deliverBuffer(last.encode())

    def _enter(self, lines: list[str], *, whole: bool) -> None:
        for line in lines:
            self._audit(line)
        self._block += lines
        if not any(line.strip() for line in self._block):
            self._block = []
            self._ask(goes_on=False)
            return
        self._busy = True
        running = self._interpreter.run("\n".join(self._block), whole=whole)
        if running:
            self._block = []
            running.addCallback(self._ended)
        else:
            self._busy = False
            self._ask(goes_on=True)

    def _ended(self, outcome: Outcome) -> None:
        self._busy = False
        if outcome.leave is not None:
            self._leave(outcome.leave)
            return
        self._ask(goes_on=False)
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
        text = text.replace("\r\n", "\n")
        if self._busy:
            self._at_line_start = text.endswith("\n")
            self.terminal.write(text)
            return
        self._to_start()
        self.terminal.write(text if text.endswith("\n") else f"{text}\n")
        self.drawInputLine()
