from __future__ import annotations

import sys
import threading
import time

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from halfsync.manhole import interpreter as module
from halfsync.manhole import stdout
from halfsync.manhole.interpreter import Interpreter, Outcome
from halfsync.manhole.stdout import Redirection
from halfsync.manhole.threads import in_thread


class Reactor(Clock):
    """A clock that keeps what threads hand over."""

    def __init__(self):
        super().__init__()
        self.from_threads = []

    def callFromThread(self, call, *args, **kwargs):
        self.from_threads.append(lambda: call(*args, **kwargs))

    def deliver(self):
        while self.from_threads:
            self.from_threads.pop(0)()


class Session:
    """A session, and what it was shown."""

    def __init__(self, redirection, name="s", limit=1000, *, threaded=False, **namespace):
        self.redirection = redirection
        self.shown = []
        self.stalls = []
        self.reactor = Reactor()
        self.interpreter = Interpreter(
            namespace,
            name=name,
            show=lambda text, error: self.shown.append((text, error)),
            limit=limit,
            stalled=self.stalls.append,
            redirection=redirection,
            threaded=threaded,
            reactor=self.reactor,
        )

    def settle(self, outcomes):
        """Do what threads hand over until the statement has ended."""
        deadline = time.monotonic() + 20
        while not outcomes and time.monotonic() < deadline:
            self.reactor.deliver()
            time.sleep(0.001)

    def settle_threads(self):
        """Do what threads hand over until they have ended."""
        for thread in threading.enumerate():
            if thread.name.startswith("manhole-"):
                thread.join(20)
                assert not thread.is_alive()
        self.reactor.deliver()

    def run(self, source, *, whole=True):
        outcomes = []
        running = self.interpreter.run(source, whole=whole)
        if running is None:
            return None
        running.addCallback(outcomes.append)
        return outcomes

    def out(self):
        return "".join(text for text, error in self.shown if not error)

    def err(self):
        return "".join(text for text, error in self.shown if error)


@pytest.fixture
def make():
    made = []
    redirection = Redirection()

    def factory(*args, **kwargs):
        made.append(Session(redirection, *args, **kwargs))
        return made[-1]

    yield factory
    for session in made:
        session.interpreter.close()


def test_values_are_shown_and_kept(make, capsys):
    """As at Python's own prompt: None is not shown, the last value is `_`, and builtins stay as they are."""
    session = make()
    assert session.run("1 + 1\nNone\n_ * 2") == [Outcome()]
    assert (session.out(), session.err()) == ("2\n4\n", "")
    assert capsys.readouterr() == ("", "")
    import builtins

    assert not hasattr(builtins, "_")


def test_names_last_from_statement_to_statement_and_no_further(make):
    """Each session has a namespace of its own."""
    one, other = make(), make()
    one.run("x = 1")
    one.run("def f(): return x")
    one.run("f()")
    other.run("x")
    assert one.out() == "1\n"
    assert "NameError" in other.err()


@pytest.mark.parametrize(
    "source",
    ["if 1:", "if 1:\n  x = 1", "def f():\n  return 1", "(1,", '"""a', "@f", "x = \\", "class A:\n  b = 1"],
)
def test_a_typed_statement_that_may_go_on(make, source):
    """Nothing runs before a blank line ends the block."""
    assert make().run(source, whole=False) is None


def test_a_blank_line_ends_a_typed_block(make):
    """As at Python's own prompt."""
    session = make()
    assert session.run("for i in range(2):\n    i\n", whole=False) == [Outcome()]
    assert session.out() == "0\n1\n"


def test_a_whole_block_needs_no_blank_line_and_may_have_some(make):
    """So that what is pasted runs as it stands in a file."""
    session = make()
    assert session.run("def f():\n    a = 1\n\n    return a\nf()") == [Outcome()]
    assert session.out() == "1\n"


def test_an_error_is_shown_from_the_persons_own_code_on(make):
    """With the source line, and without our frames."""
    session = make()
    session.run("def f():\n    return 1 / 0")
    assert session.run("f()") == [Outcome(failed=True)]
    assert session.err().startswith('Traceback (most recent call last):\n  File "<s:2>", line 1')
    assert "    return 1 / 0\n" in session.err()
    assert "interpreter.py" not in session.err()


@pytest.mark.parametrize("source", ["1 +* 2", "x = = 1", "\0", "  x", "return 1", "(" * 1000 + ")" * 1000])
def test_what_is_no_python_is_shown_as_such(make, source):
    """Whatever the compiler raises, the session goes on."""
    session = make(limit=10_000)
    assert session.run(source) == [Outcome(failed=True)]
    assert "Error" in session.err()
    assert session.run("1") == [Outcome()]


@pytest.mark.parametrize(
    "source",
    [
        "raise GeneratorExit",
        "raise KeyboardInterrupt",
        "raise StopIteration",
        "import asyncio; raise asyncio.CancelledError",
        "await d; raise GeneratorExit",
        "raise BaseException",
        "def f(): return f()\nf()",
        "class A:\n def __repr__(self): raise GeneratorExit\nA()",
        "class A(Exception):\n def __str__(self): raise KeyboardInterrupt\nraise A",
    ],
)
def test_whatever_is_raised_ends_the_statement_only(make, source):
    """It is shown, and the session goes on."""
    session = make(limit=10_000, d=succeed(1))
    assert session.run(source) == [Outcome(failed=True)]
    assert session.err().startswith("Traceback (most recent call last):\n")
    assert session.run("1") == [Outcome()]


def test_awaiting(make):
    """A statement ends when what it awaits has fired; what it prints then still goes to the session."""
    waits: Deferred[int] = Deferred()
    session = make(waits=waits)
    outcomes = session.run("print('before')\nx = await waits\nprint('after')\nx")
    assert (session.out(), outcomes) == ("before\n", [])
    waits.callback(7)
    assert (session.out(), outcomes) == ("before\nafter\n7\n", [Outcome()])


def test_prints_meet_only_their_own_session(make, capsys):
    """Two sessions that await at the same time and the service itself are never mixed up."""
    first, second = Deferred(), Deferred()
    one, two = make(d=first), make(d=second)
    one.run("await d\nprint('one')\nimport sys; print('err', file=sys.stderr)")
    two.run("async def f():\n    await d\n    print('two')\nawait f()")
    print("service")  # noqa: T201  what is tested
    second.callback(None)
    first.callback(None)
    thread = threading.Thread(target=print, args=("thread",))
    thread.start()
    thread.join()
    assert (one.out(), one.err(), two.out(), two.err()) == ("one\n", "err\n", "two\n", "")
    assert capsys.readouterr() == ("service\nthread\n", "")


def test_the_streams_are_stood_in_for_only_while_a_session_is_open(make):
    """The last session that closes leaves the process as the first one found it."""
    before = sys.stdout, sys.stderr, sys.displayhook
    one, two = make(), make()
    assert sys.stdout is not before[0]
    one.interpreter.close()
    assert sys.stdout is not before[0]
    two.interpreter.close()
    two.interpreter.close()
    assert (sys.stdout, sys.stderr, sys.displayhook) == before


def test_a_stream_that_somebody_replaced_meanwhile_is_left_alone(make, monkeypatch):
    """It is theirs to put back."""
    session = make()
    theirs = object()
    monkeypatch.setattr(sys, "stdout", theirs)
    session.interpreter.close()
    assert sys.stdout is theirs
    monkeypatch.undo()
    sys.stdout = sys.stdout._original


def test_an_interrupt_cancels_what_is_awaited(make):
    """The Deferred is cancelled, the person sees it, and the next statement runs."""
    cancelled = []
    session = make(d=Deferred(cancelled.append))
    outcomes = session.run("await d")
    session.interpreter.interrupt()
    assert (len(cancelled), outcomes) == (1, [Outcome(failed=True)])
    assert session.err() == "KeyboardInterrupt\n"
    assert session.run("1") == [Outcome()]


def test_closing_cancels_and_silences(make):
    """The person has gone: what they ran ends, and prints nowhere."""
    session = make(d=Deferred())
    outcomes = session.run("try:\n    await d\nfinally:\n    print('late')")
    session.interpreter.close()
    assert (outcomes, session.shown) == ([Outcome(failed=True)], [])


@pytest.mark.parametrize(
    ("source", "code"),
    [("raise SystemExit", 0), ("raise SystemExit(3)", 3), ("import sys; sys.exit(256 + 4)", 4)],
)
def test_leaving(make, source, code):
    """SystemExit ends the session and nothing else."""
    assert make().run(source) == [Outcome(leave=code)]


def test_leaving_with_words(make):
    """As Python does: the words go to standard error, the code is 1."""
    session = make()
    assert session.run("raise SystemExit('no')") == [Outcome(failed=True, leave=1)]
    assert session.err() == "no\n"


def test_output_is_cut_with_a_note(make):
    """However much and in however many pieces; the next statement may print again."""
    session = make(limit=100)
    session.run("for _ in range(1000):\n    print('x' * 9)")
    assert session.out() == ("x" * 9 + "\n") * 10
    assert session.err() == "\n[cut: a statement may print 100 characters]\n"
    session.run("'again'")
    assert session.out().endswith("'again'\n")


def test_a_statement_that_holds_the_reactor_is_noted(make, monkeypatch):
    """Time between two awaits counts, time spent waiting does not."""
    session = make(d=Deferred())
    clock = iter([0.0, 0.2, 10.0, 13.0])
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(clock))
    outcomes = session.run("await d")
    assert session.stalls == []
    session.interpreter.namespace["d"].callback(None)
    assert (session.stalls, outcomes) == ([3.0], [Outcome()])


@pytest.mark.parametrize(
    ("threaded", "source", "aside"),
    [
        (False, "where()", False),
        (False, "& where()", True),
        (False, "&where()", True),
        (True, "where()", True),
        (True, "!where()", False),
        (True, "await d; where()", False),
        (True, "for _ in range(1):\n    where()\n", True),
    ],
)
def test_where_a_statement_runs(make, threaded, source, aside):
    """By its prefix, else by the setting; what awaits belongs in the reactor."""
    idents = []
    session = make(threaded=threaded, d=succeed(1), where=lambda: idents.append(threading.get_ident()))
    outcomes = session.run(source)
    session.settle(outcomes)
    assert outcomes == [Outcome()]
    assert (idents != [threading.get_ident()]) == aside


def test_a_statement_in_a_thread_is_like_any_other(make):
    """It prints, shows and keeps values, fails with its own lines, and leaves."""
    session = make()
    for source in ("& x = 1; print(x); x + 1", "& _ + x", "& 1 / 0"):
        session.settle(session.run(source))
    assert session.out() == "1\n2\n3\n"
    assert "    1 / 0\n" in session.err()
    assert "threads.py" not in session.err()
    outcomes = session.run("& raise SystemExit(3)")
    session.settle(outcomes)
    assert outcomes == [Outcome(leave=3)]


def test_awaiting_in_a_thread_is_refused(make):
    """Deferreds are the reactor's."""
    session = make(d=succeed(1))
    assert session.run("& await d") == [Outcome(failed=True)]
    assert session.err() == "SyntaxError: await belongs in the reactor: without the &\n"


def test_what_runs_aside_is_waited_for(make):
    """Its value is shown when it is there; of somebody else's Deferred a person decides."""
    session = make(d=Deferred())
    session.interpreter.namespace["later"] = lambda function: in_thread(
        session.reactor, session.redirection, function, "later"
    )
    outcomes = session.run("later(lambda: 1); 2; later(lambda: 3); given_a_name = later(lambda: 4)")
    session.settle(outcomes)
    assert (outcomes, session.out(), session.err()) == ([Outcome()], "2\n1\n3\n", "")
    assert session.run("_") == [Outcome()]
    assert session.out().endswith("\n3\n")
    assert session.run("d") == [Outcome()]
    assert session.out().endswith(": await _ waits for it\n")
    session.settle_threads()


def test_an_interrupt_ends_python_code_in_a_thread(make):
    """As Ctrl-C would; the thread is gone, and the streams are let go of."""
    session = make(begun=threading.Event())
    outcomes = session.run("& begun.set()\nwhile True: pass")
    assert session.interpreter.namespace["begun"].wait(20)
    session.interpreter.interrupt()
    assert outcomes == [Outcome(failed=True)]
    assert session.err() == "KeyboardInterrupt\n"
    session.settle_threads()
    session.interpreter.close()
    assert not isinstance(sys.stdout, stdout._Stream)


def test_what_is_called_later_prints_in_its_session(make, capsys):
    """By a thread or a timer, which have lost the context; the service's own print stays where it was."""
    one, two = make("one"), make("two")
    for session in (one, two):
        session.run("def later(): print(__import__('threading').current_thread().name)")
    thread = threading.Thread(target=one.interpreter.namespace["later"], name="of one")
    thread.start()
    thread.join()
    two.interpreter.namespace["later"]()
    sys.stdout.write("of the service\n")
    for session in (one, two):
        session.reactor.deliver()
    assert (one.out(), two.out()) == ("of one\n", f"{threading.current_thread().name}\n")
    assert capsys.readouterr().out == "of the service\n"
    one.interpreter.close()
    one.interpreter.namespace["later"]()
    assert capsys.readouterr().out == f"{threading.current_thread().name}\n"


def test_what_the_service_logs_for_a_session_names_it(make):
    """The context of its code says so."""
    from structlog.contextvars import get_contextvars

    session = make(name="s7", context=get_contextvars)
    session.run("context()['manhole']")
    assert session.out() == "'s7'\n"
    assert "manhole" not in get_contextvars()


def test_a_thread_prints_through_the_reactor(make):
    """The session is the reactor's; a thread of the session's hands it what it prints."""
    session = make()
    thread = threading.Thread(target=session.interpreter.write, args=("from a thread",))
    thread.start()
    thread.join()
    assert session.shown == []
    for call in session.reactor.from_threads:
        call()
    assert session.out() == "from a thread"


def test_a_deferred_that_has_fired_is_no_wait(make):
    """Its result is there at once."""
    session = make(d=succeed(5))
    assert session.run("await d") == [Outcome()]
    assert session.out() == "5\n"


def test_outside_of_a_session_nothing_is_redirected():
    """The context of the process itself names no session."""
    assert stdout.current.get() is None


def test_a_thread_that_prints_without_end_leaves_the_reactor_alone(make):
    """Whatever it prints is one call to show it, up to the limit, and then none: Ctrl-C must be heard."""
    session = make(limit=50)
    printed = threading.Event()
    session.interpreter.namespace["printed"] = printed
    outcomes = session.run("&for n in range(10_000): print('on')\nprinted.set()")
    assert printed.wait(20)
    waiting = len(session.reactor.from_threads)
    session.settle(outcomes)
    # One to show, and one to end.
    assert waiting <= 2
    assert session.out() == ("on\n" * 17)[:50]
    assert session.err() == "\n[cut: a statement may print 50 characters]\n"
    session.settle(session.run("&print('again')"))
    assert session.out().endswith("again\n")


@pytest.mark.parametrize(
    ("source", "last"),
    [
        ("print('x' * 99); 1 / 0", "ZeroDivisionError: division by zero\n"),
        ("print('x' * 99); raise SystemExit('enough')", "enough\n"),
        ("print('x' * 99); await Deferred()", "KeyboardInterrupt\n"),
    ],
)
def test_how_a_statement_ended_is_told_after_the_cut_too(make, source, last):
    """A prompt that comes back without a word would look like success."""
    session = make(limit=50, Deferred=Deferred)
    session.run(source)
    session.interpreter.interrupt()
    assert "[cut: a statement may print 50 characters]" in session.err()
    assert session.err().endswith(last)


def test_what_threads_and_the_reactor_print_keeps_its_order(make):
    """What a thread has printed is shown ahead of what the reactor's own code prints after it."""
    session = make()
    thread = threading.Thread(
        target=lambda: [session.interpreter.write(text, error=text == "2") for text in "1234"]
    )
    thread.start()
    thread.join()
    assert session.shown == []
    session.interpreter.write("5")
    assert session.shown == [("1", False), ("2", True), ("345", False)]
    session.reactor.deliver()
    session.interpreter.write("6")
    assert session.out() == "13456"
    session.interpreter.close()
    session.interpreter.write("7")
    session.reactor.deliver()
    assert session.out() == "13456"
