from __future__ import annotations

import re

import pytest
from twisted.conch.insults.helper import TerminalBuffer
from twisted.conch.insults.insults import ClientProtocol
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from halfsync.manhole.editor import Terminal
from halfsync.manhole.interpreter import Interpreter
from halfsync.manhole.prompt import Prompt
from halfsync.manhole.stdout import Redirection


class Person:
    """Someone at a terminal, in memory."""

    def __init__(self, **namespace):
        self.lines = []
        self.begins: list[bool] = []
        self.logging: Deferred[None] | None = None
        self.left = []
        self.stalls = []
        self.interpreter = Interpreter(
            namespace,
            name="s",
            show=lambda text, _error: self.prompt.show(text),
            limit=10_000,
            stalled=self.stalls.append,
            redirection=Redirection(),
            reactor=Clock(),
        )
        self.prompt = Prompt(
            self.interpreter,
            welcome="welcome\n",
            size=(80, 24),
            audit=self.audit,
            leave=self.left.append,
        )
        self.transport = StringTransport()
        self.terminal = Terminal(lambda: self.prompt)
        self.terminal.makeConnection(self.transport)

    def audit(self, source: str, *, begins: bool) -> Deferred[None]:
        self.lines += source.split("\n")
        self.begins.append(begins)
        return self.logging or succeed(None)

    def types(self, text: str) -> None:
        for byte in text.encode():
            self.terminal.dataReceived(bytes([byte]))

    def sends(self, text: str) -> None:
        self.terminal.dataReceived(text.encode())

    def sees(self) -> str:
        """Return what came since the last look, a redrawn line in its last state, no control sequences."""
        text = re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "", self.transport.value().decode())
        self.transport.clear()
        return "\n".join(line.rpartition("\r")[2] for line in text.replace("\r\n", "\n").split("\n"))


@pytest.fixture
def sit():
    people = []

    def factory(**namespace):
        people.append(Person(**namespace))
        assert people[-1].sees() == "welcome\n>>> "
        return people[-1]

    yield factory
    for person in people:
        person.interpreter.close()


def test_the_terminal_is_left_as_it_was_found(sit):
    """Nothing is cleared at login or at the end; the modes that are set are reset."""
    person = Person()
    begin = person.transport.value()
    person.transport.clear()
    person.terminal.loseConnection()
    person.interpreter.close()
    assert b"\x1bc" not in begin + person.transport.value()
    assert person.transport.value() == b"\x1b[?2004l"
    assert person.transport.disconnecting


def test_a_line(sit):
    """It is echoed, run, and logged as it was typed."""
    person = sit()
    person.types("x = 40\rx + 2\r")
    assert person.sees() == ">>> x = 40\n>>> x + 2\n42\n>>> "
    assert person.lines == ["x = 40", "x + 2"]


def test_what_reads_as_python_is_coloured(sit):
    """Keywords, names and literals each in their own colour; output is left as it is."""
    person = sit()
    person.types("x = 'a'")
    echoed = person.transport.value().decode()
    assert re.search(r"\x1b\[3\dm'a'\x1b\[", echoed), echoed
    person.transport.clear()
    person.types("\rprint(x)\r")
    assert person.transport.value().endswith(b"\r\na\r\n>>> ")


def test_a_typed_block(sit):
    """It goes on until a blank line; each line is logged."""
    person = sit()
    person.types("def f(a):\r    return a * 2\r\rf(4)\r")
    assert person.sees() == ">>> def f(a):\n...     return a * 2\n... \n>>> f(4)\n8\n>>> "
    assert person.lines == ["def f(a):", "    return a * 2", "", "f(4)"]


def test_a_pasted_block(sit):
    """Blank lines in a paste end nothing; what follows the block runs too."""
    person = sit()
    person.sends("\x1b[200~def g(a):\r\n    b = a\r\n\r\n    return b * 3\r\ng(5)\r\n\x1b[201~")
    assert person.sees().endswith("15\n>>> ")
    assert person.lines == ["def g(a):", "    b = a", "", "    return b * 3", "g(5)"]


def test_a_paste_without_an_end_of_line_waits_for_return(sit):
    """The last line is still the person's to change."""
    person = sit()
    person.types("x")
    person.sends("\x1b[200~ = 1\ry = x + \x1b[201~")
    assert person.lines == ["x = 1"]
    person.types("1\ry\r")
    assert person.lines == ["x = 1", "y = x + 1", "y"]
    assert person.sees().endswith("2\n>>> ")


def test_a_paste_within_a_line(sit):
    """It is inserted at the cursor."""
    person = sit()
    person.types("f()\x1b[D")
    person.sends("\x1b[200~'é'\x1b[201~")
    person.types("\r")
    assert person.lines == ["f('é')"]


def test_keys_typed_ahead_wait_for_the_statement(sit):
    """They are run in order when it has ended, also when that awaits in turn."""
    one, two = Deferred(), Deferred()
    person = sit(one=one, two=two)
    person.types("await one\rawait two\r'done'\r")
    assert person.lines == ["await one"]
    one.callback(1)
    assert person.lines == ["await one", "await two"]
    two.callback(2)
    assert person.lines == ["await one", "await two", "'done'"]
    assert person.sees().endswith("'done'\n>>> ")


def test_a_thousand_statements_in_one_piece(sit):
    """A long script typed ahead does not grow the stack."""
    waits = Deferred()
    person = sit(waits=waits)
    person.sends("n = await waits\r" + "n += 1\r" * 2000 + "n\r")
    waits.callback(0)
    assert person.sees().endswith("2000\n>>> ")


def test_ctrl_c_drops_the_line_and_the_block(sit):
    """Nothing of it runs."""
    person = sit()
    person.types("if 1:\r    x = 1\r    abc\x03y = 2\ry\r")
    assert person.sees().endswith("KeyboardInterrupt\n>>> y = 2\n>>> y\n2\n>>> ")


def test_ctrl_c_cancels_what_is_awaited_and_what_was_typed_ahead(sit):
    """As in a shell."""
    person = sit(waits=Deferred())
    person.types("await waits\rprint('never')\r\x03")
    assert person.sees().endswith("KeyboardInterrupt\n>>> ")
    assert person.lines == ["await waits"]


def test_ctrl_d_leaves_from_an_empty_line_only(sit):
    """In the midst of something it rings the bell."""
    person = sit()
    person.types("a\x04")
    assert (person.left, person.sees()[-1]) == ([], "\a")
    person.types("\x03\x04")
    assert person.left == [0]


def test_exit_leaves(sit):
    """With its code."""
    person = sit()
    person.types("raise SystemExit(3)\r")
    assert person.left == [3]


def test_the_end_of_input_leaves_when_all_has_run(sit):
    """`ssh -tt` with a file as standard input."""
    waits = Deferred()
    person = sit(waits=waits)
    person.sends("await waits\r'done'\r")
    person.prompt.end_of_input()
    assert person.left == []
    waits.callback(None)
    assert person.left == [0]
    assert "'done'\n>>> " in person.sees()


def test_characters_of_every_script(sit):
    """Also when their bytes come one by one, and when one is taken back."""
    person = sit()
    person.types("s = 'äß€𝄞x\x7f\x7f'\rs\r")
    assert person.lines == ["s = 'äß€'", "s"]
    assert person.sees().endswith("'äß€'\n>>> ")


def test_what_cannot_be_encoded_is_escaped(sit):
    """In output as in the text of an error, where it would keep the prompt from coming back."""
    person = sit()
    person.types("print('\\udc80')\rraise ValueError('\\udc80')\r'on'\r")
    seen = person.sees()
    assert "\n\\udc80\n" in seen
    assert "\nValueError: \\udc80\n" in seen
    assert seen.endswith("'on'\n>>> ")


def test_history(sit):
    """Up and down bring back lines, characters of every script whole."""
    person = sit()
    person.types("'é' * 2\r1\r\x1b[A\x1b[A\x1b[A\x1b[B\x1b[A\x7f3\r")
    assert person.lines == ["'é' * 2", "1", "'é' * 3"]


def test_editing_within_a_line(sit):
    """Home, end, left, right, tab and delete do what they say."""
    person = sit()
    person.types("bc\x01a\x05d\x1b[D\x1b[D\x1b[3~\x01\t\r")
    assert person.lines == ["    abd"]


def test_tab_completes(sit):
    """A name as far as there is no choice; else the choice is shown; in front of everything it indents."""
    person = sit(zebra=1, zebu=2, flags=str)
    person.types("ze\t")
    assert person.sees() == ">>> zeb"
    person.types("\t")
    assert person.sees() == "zebra  zebu\n>>> zeb"
    person.types("r\t\r")
    person.types("flags.startsw\t'ab', 'a')\r")
    assert person.lines == ["zebra", "flags.startswith('ab', 'a')"]
    assert person.sees().endswith("True\n>>> ")
    person.types("nothing_like_it\t")
    assert person.sees().endswith("\a")


def test_tab_within_a_line(sit):
    """What stands behind the cursor stays."""
    person = sit(alpha=1)
    person.types("[, 2]\x01\x1b[Calp\t\r")
    assert person.lines == ["[alpha, 2]"]


def test_tab_on_an_object_that_fails(sit):
    """Its error is its own affair."""

    class Unwilling:
        def __dir__(self):
            raise ValueError

    person = sit(thing=Unwilling())
    person.types("thing.a\t\x15'on'\r")
    assert person.sees().endswith("'on'\n>>> ")


def test_erasing_to_either_end(sit):
    """Ctrl-U to the left, Ctrl-K to the right of the cursor."""
    person = sit()
    person.types("1234\x1b[D\x1b[D\x0b\r5678\x1b[D\x1b[D\x15\r")
    assert person.lines == ["12", "78"]


def test_the_keys_of_a_shell(sit):
    """Ctrl-W erases the word on the left and the blanks behind it; Ctrl-B, F, P and N do what arrows do."""
    person = sit()
    person.types("x = ab.cd  + 1\x17\x17\x173\r\x10\x02\x02\x06\x0b7\x10\x0e\x10\r")
    assert person.lines == ["x = 3", "x = 3"]
    person.types("\x17\x10\x02\x0b4\r")
    assert person.lines[2:] == ["x = 4"]


def test_history_has_what_was_pasted(sit):
    """Line by line, as if typed."""
    person = sit()
    person.sends("\x1b[200~a = 1\rb = 2\r\x1b[201~")
    person.types("\x1b[A\x1b[A\r")
    assert person.lines == ["a = 1", "b = 2", "a = 1"]


def test_output_from_behind_the_scenes_spares_the_line(sit):
    """What a task of the session's prints stands above the prompt, and the typed line is drawn again."""
    person = sit()
    person.types("half a li")
    for piece in ("news", " ", "of 5 s ago", "\n", "and"):
        person.interpreter.write(piece)
    assert person.sees() == "news of 5 s ago\n>>> half a li"
    person.types("ne = 1\r")
    assert person.lines == ["half a line = 1"]
    assert "half a line = 1\nand\n" in person.sees()


def test_output_without_an_end_of_line_does_not_touch_the_prompt(sit):
    """The prompt begins on a line of its own."""
    person = sit()
    person.types("print('a', end='')\r")
    assert person.sees().endswith("\na\n>>> ")


@pytest.mark.parametrize(
    "text", ["if 1:\r        x\r    y\r", "'\r", "# -*- coding: nonsense -*-\r", "\\\r\r", "x = '''a\rb'''\r"]
)
def test_lines_that_cannot_be_coloured(sit, text):
    """Colouring never gets in the way of typing."""
    person = sit()
    person.types(text)
    person.types("\x03'on'\r")
    assert person.sees().endswith("'on'\n>>> ")


def test_keys_that_mean_nothing_do_nothing(sit):
    """Function keys, Alt, and control characters."""
    person = sit()
    person.types("\x1bOP\x1b[15~\x1bb\x1b[99~\x1b[1;5C\x02\x1c'ok'\r")
    assert person.lines == ["'ok'"]


class Emulator:
    """What a terminal of 20 columns shows of a session, by conch's own emulator."""

    def __init__(self, person, width=20, kind=TerminalBuffer):
        person.prompt.terminalSize(width, 10)
        self.person = person
        self.buffer = kind()
        self.buffer.width = width
        self.buffer.height = 10
        self.buffer.connectionMade()
        self.parser = ClientProtocol(lambda: self.buffer)
        self.parser.makeConnection(StringTransport())
        self.buffer.cursorHome()

    def shows(self):
        self.parser.dataReceived(self.person.transport.value())
        self.person.transport.clear()
        rows = bytes(self.buffer).decode().split("\n")
        return [row.rstrip() for row in rows if row.strip()], (self.buffer.x, self.buffer.y)


class Wide(TerminalBuffer):
    """Conch's emulator drops all but ASCII: this one gives two columns to CJK, and none to an accent."""

    half = b""

    def insertAtCursor(self, b):
        self.half += b
        try:
            text = self.half.decode()
        except UnicodeDecodeError:
            return
        whole, self.half = self.half, b""
        if len(whole) == 1:
            TerminalBuffer.insertAtCursor(self, whole)
        elif text == "\u0301":
            accented, how = self.lines[self.y][self.x - 1]
            self.lines[self.y][self.x - 1] = (accented + whole, how)
        else:
            if self.x >= self.width - 1:
                self.nextLine()
            how = self._currentFormattingState()
            self.lines[self.y][self.x : self.x + 2] = [(whole, how), (b"", how)]
            self.x += 2


def test_a_line_longer_than_the_terminal(sit):
    """It goes on in the next row, and every key works across the edge."""
    person = sit()
    screen = Emulator(person)
    person.types("\x0c1234567890abcdefghij")
    assert screen.shows() == ([">>> 1234567890abcdef", "ghij"], (4, 1))
    person.types("\x01")
    assert screen.shows()[1] == (4, 0)
    person.types("_")
    assert screen.shows() == ([">>> _1234567890abcde", "fghij"], (5, 0))
    person.types("\x1b[3~" * 5)
    assert screen.shows() == ([">>> _67890abcdefghij"], (5, 0))
    person.types("\x05")
    assert screen.shows()[1] == (0, 1)
    person.types("\x7f\x7f")
    assert screen.shows() == ([">>> _67890abcdefgh"], (18, 0))
    person.types("xyz\x1b[D\x1b[D\x1b[D")
    assert screen.shows() == ([">>> _67890abcdefghxy", "z"], (18, 0))
    person.interpreter.write("news\n")
    assert screen.shows() == (["news", ">>> _67890abcdefghxy", "z"], (18, 1))
    person.types("\x03")
    assert screen.shows()[0] == ["news", ">>> _67890abcdefghxy", "z", "KeyboardInterrupt", ">>>"]


def test_characters_of_two_columns(sit):
    """The cursor is where the next one goes, and none is torn by the edge; an accent takes no column."""
    person = sit()
    screen = Emulator(person, kind=Wide)
    person.types("\x0c'日本語'\x1b[D\x1b[D")
    assert screen.shows() == ([">>> '日本語'"], (9, 0))
    person.types("e\u0301")
    assert screen.shows() == ([">>> '日本e\u0301語'"], (10, 0))
    person.types("\x05本本本")
    assert screen.shows() == ([">>> '日本e\u0301語'本本本"], (19, 0))
    # One of the twenty columns is left, and the next one needs two.
    person.types("本")
    assert screen.shows() == ([">>> '日本e\u0301語'本本本", "本"], (2, 1))
    person.sends("本本")
    assert screen.shows() == ([">>> '日本e\u0301語'本本本", "本本本"], (6, 1))
    person.types("\x01\x1b[3~")
    assert screen.shows() == ([">>> 日本e\u0301語'本本本本", "本本"], (4, 0))
    person.types("\x05\x7f\x7f\x7f")
    assert screen.shows() == ([">>> 日本e\u0301語'本本本"], (18, 0))


def test_history_of_long_lines(sit):
    """A shorter line leaves nothing of the longer one behind."""
    person = sit()
    screen = Emulator(person)
    person.types("1\r" + "2" * 30 + "\r\x0c\x1b[A")
    assert screen.shows()[0] == [">>> " + "2" * 16, "2" * 14]
    person.types("\x1b[A")
    assert screen.shows()[0] == [">>> 1"]
    person.types("\x1b[B\x1b[B")
    assert screen.shows() == ([">>>"], (4, 0))


def test_a_new_size(sit):
    """The keys go by it from then on."""
    person = sit()
    screen = Emulator(person, width=10)
    person.types("\x0cabcdefgh\x01")
    assert screen.shows() == ([">>> abcdef", "gh"], (4, 0))


def test_a_line_waits_for_the_log(sit):
    """It is run when the log has it; what is typed meanwhile comes after it."""
    ran: list[int] = []
    person = sit(ran=ran)
    person.logging = waiting = Deferred()
    person.types("ran.append(1)\r")
    person.logging = None
    person.types("ran.append(2)\r")
    assert (ran, person.lines) == ([], ["ran.append(1)"])
    waiting.callback(None)
    assert ran == [1, 2]
    assert person.sees().endswith(">>> ran.append(2)\n>>> ")


def test_a_line_that_the_log_does_not_take_can_be_dropped(sit):
    """By Ctrl-C; it is not run then, and the prompt goes on."""
    ran: list[int] = []
    person = sit(ran=ran)
    person.logging = Deferred()
    person.types("ran.append(1)\r")
    person.types("\x03")
    person.logging = None
    assert person.sees().endswith("\nKeyboardInterrupt\n>>> ")
    person.types("ran.append(2)\r")
    assert ran == [2]


def test_a_line_that_the_log_would_cut_is_refused(sit):
    """The reason is shown; nothing of the block is left."""
    ran: list[int] = []
    person = sit(ran=ran)
    person.types("for n in [1]:\r")
    person.logging = fail(ValueError("too long"))
    person.types("    ran.append(n)\r")
    person.logging = None
    assert person.sees().endswith("\ntoo long\n>>> ")
    person.types("ran.append(2)\r")
    assert ran == [2]
    assert person.begins == [True, False, True]
