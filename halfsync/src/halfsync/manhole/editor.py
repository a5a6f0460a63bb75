"""The editor: one line on a terminal, over as many rows as it takes, and the keys that change it."""

from __future__ import annotations

import tokenize
import unicodedata
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from twisted.conch import manhole, recvline
from twisted.conch.insults import insults

from halfsync._twisted import delivers

if TYPE_CHECKING:
    from collections.abc import Callable


PASTE_MODE = 2004
"""xterm's control sequences, "Set using Bracketed Paste Mode"."""


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


@lru_cache(4096)
def cells(character: bytes) -> int:
    """Return how many columns a terminal gives a character: two to those of East Asia and emoji."""
    text = character.decode("utf-8", "replace")
    if unicodedata.category(text) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(text) in ("W", "F") else 1


@delivers
class Editor(recvline.HistoricRecvLine):
    """A line that is edited as shells do it; the whole of it is drawn anew, as conch draws one row only."""

    terminal: Terminal
    lineBuffer: list[bytes]
    """Characters."""
    keyHandlers: dict[bytes, Callable[[], None]]
    _row = _column = 0
    """Where the cursor is, counted from the prompt's first cell."""

    def connectionMade(self) -> None:
        """Bind the keys, and greet."""
        recvline.HistoricRecvLine.connectionMade(self)
        self.keyHandlers.update(
            {
                b"\x01": self.handle_HOME,  # Ctrl-A
                b"\x02": self.handle_LEFT,  # Ctrl-B
                b"\x05": self.handle_END,  # Ctrl-E
                b"\x06": self.handle_RIGHT,  # Ctrl-F
                b"\x08": self.handle_BACKSPACE,
                b"\x0b": self._erase_right,  # Ctrl-K
                b"\x0c": self._clear,  # Ctrl-L
                b"\x0e": self.handle_DOWN,  # Ctrl-N
                b"\x10": self.handle_UP,  # Ctrl-P
                b"\x15": self._erase_left,  # Ctrl-U
                b"\x17": self._erase_word,  # Ctrl-W
            }
        )

    def terminalSize(self, width: int, height: int) -> None:
        """Take a new size; the terminal itself moves what it shows."""
        self.width, self.height = width, height
        self._row, self._column = self._place(self.lineBufferIndex)

    # Drawing

    def drawInputLine(self) -> None:
        """Write prompt and line, coloured when it reads as Python, and put the cursor in its place."""
        line = b"".join(self.lineBuffer)
        with suppress(tokenize.TokenError, SyntaxError, IndexError):
            # The last blank is lost on the way.
            line = line if line.endswith(b" ") else bytes(manhole.lastColorizedLine(line))
        self.terminal.write(self.ps[self.pn] + line)
        row, column = self._place(len(self.lineBuffer))
        self._row, self._column = self._place(self.lineBufferIndex)
        if not column:
            # A terminal puts off going to the next row until there is something to show in it.
            self.terminal.write(b"\r\n")
        if self._row < row:
            self.terminal.cursorUp(row - self._row)
            self.terminal.write(b"\r")
            column = 0
        if self._column > column:
            self.terminal.cursorForward(self._column - column)
        elif self._column < column:
            self.terminal.cursorBackward(column - self._column)

    def _place(self, index: int) -> tuple[int, int]:
        """Return row and column of a character of the line."""
        row, column = 0, len(self.ps[self.pn])
        for character in self.lineBuffer[:index]:
            width = 1 if len(character) == 1 else cells(character)
            if column + width > self.width:
                # A wide one does not fit into the last column either.
                row, column = row + 1, 0
            column += width
        return (row + 1, 0) if column >= self.width else (row, column)

    def _draw(self) -> None:
        """Draw prompt and line in their place."""
        self._to_start()
        self.drawInputLine()

    def _to_start(self) -> None:
        """Erase prompt and line, to write in their place."""
        if self._row:
            self.terminal.cursorUp(self._row)
        self._row = self._column = 0
        self.terminal.write(b"\r")
        self.terminal.eraseToDisplayEnd()

    # Keys

    def characterReceived(self, ch: bytes, moreCharactersComing: bool) -> None:  # noqa: FBT001  Twisted's
        """Put a character into the line."""
        self.lineBuffer.insert(self.lineBufferIndex, ch)
        self.lineBufferIndex += 1
        behind = self._column + cells(ch)
        if moreCharactersComing and self.lineBufferIndex == len(self.lineBuffer) and behind < self.width:
            self._column = behind
            self.terminal.write(ch)
        else:
            self._draw()

    def deliver(self, buf: bytes) -> None:
        """Put characters into the line."""
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

    def handle_DOWN(self) -> None:
        """Go to the next line of the history, or to an empty one."""
        recvline.HistoricRecvLine.handle_DOWN(self)
        self._draw()

    def handle_RETURN(self) -> None:
        """Take the line, from wherever in it."""
        self.handle_END()
        recvline.HistoricRecvLine.handle_RETURN(self)

    def handle_INSERT(self) -> None:
        """Stay in insert mode."""

    def handle_BACKSPACE(self) -> None:
        """Erase what is left of the cursor."""
        self._erase(self.lineBufferIndex - 1, self.lineBufferIndex)

    def handle_DELETE(self) -> None:
        """Erase what is under the cursor."""
        self._erase(self.lineBufferIndex, self.lineBufferIndex + 1)

    def _erase_left(self) -> None:
        self._erase(0, self.lineBufferIndex)

    def _erase_right(self) -> None:
        self._erase(self.lineBufferIndex, len(self.lineBuffer))

    def _erase_word(self) -> None:
        before = b"".join(self.lineBuffer[: self.lineBufferIndex]).decode("utf-8", "replace").rstrip()
        kept = before[: len(before) - len(before.split(" ")[-1])]
        self._erase(len(kept), self.lineBufferIndex)

    def _erase(self, begin: int, end: int) -> None:
        begin = max(begin, 0)
        del self.lineBuffer[begin:end]
        self._go(begin)

    def _clear(self) -> None:
        self.terminal.eraseDisplay()
        self.terminal.cursorHome()
        self.drawInputLine()
