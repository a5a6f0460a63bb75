from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
import structlog
from twisted.internet.task import Clock

from children import until
from halfsync import logs
from halfsync.logs import LogLevels
from halfsync.logs.render import console, json_line, timestamp
from halfsync.logs.sink import PENDING, Sink

CHASSIS = Path(logs.__file__).parents[2]

START = """
import sys
from halfsync import flags, logs
from halfsync.life.about import About
about = About("hello", "hello", "1", "")
flags.parse(about, sys.argv[1:], {})
log = logs.get_logger("hello.app")
"""


def run(code, *arguments, wrap="{}", **options):
    """Run a script that has started the log; return what it wrote."""
    start = "" if "logs.start(" in code else "logs.start(about)\n"
    return subprocess.run(
        [sys.executable, "-c", START + start + textwrap.dedent(code), *arguments],
        env={**os.environ, "PYTHONPATH": str(CHASSIS), "PYTHONWARNINGS": "default"},
        timeout=60,
        check=False,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )


def events_of(result):
    """Parse what was written: every line is one JSON object, and nothing went to standard error."""
    assert result.stderr == b""
    assert result.returncode == 0
    return [json.loads(line) for line in result.stdout.decode("ascii").splitlines()]


def test_what_the_context_adds_takes_room_in_a_line():
    """Whether an event is kept whole, as the manhole asks before a line is run, is told with that."""
    code = """
    from structlog.contextvars import bind_contextvars
    line = {"line": "y" * 10_000}
    log.info("before", keeps=logs.running().keeps(line))
    bind_contextvars(region="x" * 6_400)
    log.info("after", keeps=logs.running().keeps(line))
    logs.get_audit_logger("hello.app").info("hello", **line)
    bind_contextvars(line="theirs", region="x")
    log.info("again", keeps=logs.running().keeps(line))
    """
    before, after, cut, again = events_of(run(code))
    assert (before["keeps"], after["keeps"], again["keeps"]) == (True, False, True)
    assert cut["truncated"]


def record(**fields):
    return {"timestamp": timestamp(0), "level": "info", "logger": "l", "event": "e", **fields}


class Unprintable:
    """Its repr raises."""

    def __repr__(self):
        raise RuntimeError("no")


def test_everything_is_in_one_stream():
    """structlog, logging, Twisted old and new, warnings, print, dying threads: a JSON object a line each."""
    events = events_of(
        run("""
        import logging, threading, warnings
        from twisted.python import log as old
        from twisted.logger import Logger
        old.msg("before the start")
        logs.start(about)
        log.info("app.did", n=1)
        import structlog
        structlog.get_logger("other").info("other.did")
        logging.getLogger("werkzeug").warning("took %s", "long", extra={"seconds": 3})
        old.msg("old news")
        Logger("mine").info("new {x}", x="news")
        warnings.warn("be warned")
        print("printed")
        t = threading.Thread(target=lambda: 1 / 0, name="doomed")
        t.start()
        t.join()
        class Odd:
            def __del__(self):
                1 / 0
        Odd()
        """)
    )
    told = [(event["level"], event["logger"], event["event"]) for event in events]
    assert told == [
        ("info", "log_legacy", "before the start"),
        ("info", "hello.app", "app.did"),
        ("info", "other", "other.did"),
        ("warning", "werkzeug", "took long"),
        ("info", "log_legacy", "old news"),
        ("info", "mine", "new news"),
        ("warning", "py.warnings", events[6]["event"]),
        ("info", "stdout", "printed"),
        ("error", "threading", "thread.failed"),
        ("error", "python", "python.unraisable"),
    ]
    assert list(events[1]) == ["timestamp", "level", "logger", "event", "n"]
    assert all(
        re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", event["timestamp"]) for event in events
    )
    assert events[3]["seconds"] == 3
    assert "UserWarning: be warned" in events[6]["event"]
    assert events[8]["exception"].endswith("ZeroDivisionError: division by zero")


def test_flask_logger_used_early_is_heard_once():
    """The handler that Flask gives its logger before the log has started is taken away."""
    events = events_of(
        run("""
        from flask import Flask
        app = Flask("shop")
        app.logger
        logs.start(about)
        app.logger.warning("out of stock")
        """)
    )
    assert [event["event"] for event in events] == ["out of stock"]


def test_twisted_errors_have_tracebacks_and_its_noise_is_for_debugging():
    """A failure in Twisted is an error; what ports and factories say of themselves is not news."""
    code = """
    from twisted.internet.defer import Deferred
    from twisted.internet.protocol import Factory
    from twisted.logger import Logger
    from twisted.python import log as old
    class Mine(Factory):
        pass
    Mine().doStart()
    old.msg("Site starting on 8080")
    Logger("twisted.web.server").info("internal")
    lost = Deferred()
    lost.errback(ValueError("lost"))
    del lost
    try:
        1 / 0
    except ZeroDivisionError:
        old.err(None, "while dividing")
        Logger("mine").failure("dividing {what}", what="by zero")
    """
    events = events_of(run(code))
    assert [(event["level"], event["event"]) for event in events] == [
        ("error", "deferred.unhandled"),
        ("error", "while dividing"),
        ("error", "dividing by zero"),
    ]
    assert "ValueError: lost" in events[0]["exception"]
    assert all("ZeroDivisionError: division by zero" in event["exception"] for event in events[1:])
    debug = [event for event in events_of(run(code, "--log.level=debug")) if event["level"] == "debug"]
    assert len(debug) == 4
    assert debug[0]["event"] == "log.started"


@pytest.mark.parametrize(
    ("field", "value", "written"),
    [
        ("x", b"\xff\n", "b'\\xff\\n'"),
        ("x", "\ud800", "\\ud800"),
        ("x", float("nan"), "nan"),
        ("x", float("-inf"), "-inf"),
        ("x", {1}, "{1}"),
        ("x", {(1, 2): object}, "{(1, 2): <class 'object'>}"),
        ("x", [1, float("nan")], "[1, nan]"),
        ("x", Path("/etc"), "/etc"),
        ("x", ValueError("v"), "ValueError('v')"),
        ("x", 'a\n{"event": "forged"}\u2028\x1b[2J', 'a\n{"event": "forged"}\u2028\x1b[2J'),
        ("x", None, None),
        ("x", 2**63, 2**63),
    ],
)
def test_odd_values_are_one_line_of_json(field, value, written):
    """Whatever a value is, the event is one line of ASCII, and strict JSON."""
    line = json_line(record(**{field: value}))
    assert line.count("\n") == 1
    assert line.endswith("\n")
    assert line.isascii()
    parsed = json.loads(line, parse_constant=pytest.fail)
    assert parsed[field] == written


def test_values_without_end_are_cut():
    """Cycles, depth and size cost a bounded line."""
    cycle: list[object] = []
    cycle.append(cycle)
    deep: object = "end"
    for _ in range(10_000):
        deep = [deep]
    for value in (cycle, deep, "x" * 10_000_000, list(range(10**6)), 10**10_000, -(10**10_000)):
        for render in (json_line, console(colours=False)):
            line = render(record(x=value))
            assert len(line) < 140_000
            assert line.count("\n") == 1


def test_the_short_way_is_as_the_long_one():
    """What every request logs is written, judged by its level, and captured like anything else."""
    code = """
        import logging
        said = logging.getLogger("hello.app")
        log.info("app.did", n=1, text="a")
        logs.emit(said, "app.did", {"n": 1, "text": "a"})
        said.setLevel("WARNING")
        logs.emit(said, "app.did", {"n": 2})
        said.setLevel("INFO")
        from structlog.testing import capture_logs
        with capture_logs() as events:
            logs.emit(said, "app.did", {"n": 3})
        log.info("captured", events=events)
        """
    long, short, captured = events_of(run(code))
    assert {**short, "timestamp": long["timestamp"]} == long
    assert list(short) == list(long)
    assert captured["events"] == [{"n": 3, "event": "app.did", "log_level": "info"}]


def test_what_cannot_be_read_costs_its_field_only():
    """A `__repr__` that raises, or a dict whose items do, leaves the event and its other fields."""

    class Bad(dict):
        def items(self):
            raise RuntimeError

    for render in (json_line, console(colours=False)):
        line = render(record(x=Bad(a=object()), y=Unprintable(), z=10**5000, ok=7))
        assert "<Unprintable instance at " in line
        assert "<unprintable int>" in line
    assert json.loads(json_line(record(y=Unprintable(), ok=7)))["ok"] == 7


def test_console_cannot_be_written_over():
    """No value moves the cursor or begins a line that looks like an event; a traceback is indented."""
    fields = {"x": "a\nINFO forged\x1b[2J\u202e", "y": "two words", "event": "b\nc", "k\ney": "v"}
    line = console(colours=False)(record(**fields, exception="Traceback\n  ValueError: a\x1b[2Jb"))
    assert "\x1b" not in line
    assert "\u202e" not in line
    first, *rest = line.splitlines()
    assert "b\\nc" in first
    assert "y='two words'" in first
    assert all(each.startswith("    ") for each in rest)
    _, *rest = console(colours=False)(record(stack=["a.py:1 f: g()", "b\nINFO forged"])).splitlines()
    assert rest == ["    a.py:1 f: g()", "    b\\nINFO forged"]
    assert "\x1b[32m" in console(colours=True)(record())


def test_reserved_names_are_kept_apart():
    """A field called like one of the log's own is renamed, and never hides it."""
    [event] = events_of(run("log.info('e', level='loud', timestamp=1, logger=2)"))
    assert (event["level"], event["logger"], event["event"]) == ("info", "hello.app", "e")
    assert (event["level_"], event["timestamp_"], event["logger_"]) == ("loud", 1, 2)


def test_context_and_arguments():
    """Bound fields, those of the context, old-style arguments and stacks are in the event."""
    events = events_of(
        run("""
        import logging, structlog
        with structlog.contextvars.bound_contextvars(request="r1"):
            log.bind(user="u").info("shop.opened", n=2)
            logging.getLogger("lib").error("lib error")
        log.info("took %d%%", 5)
        log.info("bad %d", "x")
        log.info("where", stack_info=True)
        log.critical("worst")
        log.log(30, "by number")
        extra = {"event": "x", "level": "y"}
        logging.getLogger("lib").log(35, "%(a)s of %(b)s", {"a": 1, "b": 2}, extra=extra)
        """)
    )
    assert [events[0][key] for key in ("request", "user", "n")] == ["r1", "u", 2]
    assert events[1]["request"] == "r1"
    assert events[2]["event"] == "took 5%"
    assert (events[3]["event"], events[3]["said"]) == ("log.unprintable", "bad %d")
    assert "in <module>" in events[4]["stack"]
    assert "/logs/" not in events[4]["stack"]
    assert [event["level"] for event in events[5:]] == ["critical", "warning", "warning"]
    assert (events[7]["event"], events[7]["level_"]) == ("1 of 2", "y")


def test_exceptions_of_every_kind_are_text():
    """An exception, an exc_info tuple and a Failure, clean or not, give one traceback, causes and all."""
    *events, broken = events_of(
        run("""
        from twisted.python.failure import Failure
        try:
            raise ValueError("inner") from KeyError("cause")
        except ValueError as error:
            log.error("e", exc_info=error)
            log.exception("e")
            failure = Failure()
            log.error("e", failure=failure)
            failure.cleanFailure()
            log.error("e", failure=failure)
        class Broken(Exception):
            def __str__(self):
                raise RuntimeError
        log.error("e", exc_info=Broken())
        """)
    )
    assert [event["level"] for event in events] == ["error"] * 4
    for event in events:
        assert "KeyError: 'cause'" in event["exception"]
        assert event["exception"].endswith("ValueError: inner")
    assert "Broken" in broken["exception"]


def test_format_follows_the_terminal(tmp_path):
    """On a terminal lines are coloured, for NO_COLOR plain; elsewhere JSON; a flag decides otherwise."""
    assert events_of(run("log.info('e')"))[0]["event"] == "e"
    forced = run("log.info('e')", "--log.format=console")
    assert b"\x1b" not in forced.stdout
    assert b" [info     ] e " in forced.stdout
    for setting, coloured in (("", True), ("import os; os.environ['NO_COLOR'] = '1'; ", False)):
        ours, theirs = os.openpty()
        code = setting + "logs.start(about); log.info('e'); print('p')"
        result = run(code, stdout=theirs)
        os.close(theirs)
        shown = os.read(ours, 10_000)
        os.close(ours)
        assert result.returncode == 0
        assert (b"\x1b" in shown) is coloured
        assert b"\np" in shown or shown.startswith(b"p")


def test_file_is_appended_and_reopened(tmp_path):
    """A file that was moved away is written to no more after reopen; its successor is."""
    path = tmp_path / "log"
    path.write_text("before\n")
    result = run(
        f"""
        import os
        log.info("one")
        logs.flush()
        os.rename({str(path)!r}, {str(path) + ".1"!r})
        log.info("two")
        logs.flush()
        logs.reopen()
        log.info("three")
        os.remove({str(path)!r})
        os.mkdir({str(path)!r})
        logs.flush()
        logs.reopen()
        log.info("four")
        logs.flush()
        print("to stdout")
        """,
        f"--log.file={path}",
    )
    assert (result.stdout, result.stderr, result.returncode) == (b"to stdout\n", b"", 0)
    old = (tmp_path / "log.1").read_text().splitlines()
    assert old[0] == "before"
    assert [json.loads(line)["event"] for line in old[1:]] == ["one", "two"]


def test_file_that_cannot_be_opened_is_named(tmp_path):
    """The start fails in one line that names the flag and the file."""
    path = tmp_path / "no" / "log"
    result = run(
        """
        try:
            logs.start(about)
        except logs.LogFileError as error:
            print(error)
        """,
        f"--log.file={path}",
    )
    assert result.stdout.decode() == (
        f"--log.file: '{path}': no such file or directory; name a file that can be written to\n"
    )


@pytest.mark.parametrize("where", ["/dev/full", "closed pipe", "no stdout"])
def test_a_log_that_cannot_be_written_harms_nothing(where):
    """On a full disk, a closed pipe or without a standard output the process works on and ends well."""
    code = """
    import os, sys
    for n in range(100):
        log.info("e", n=n)
    logs.flush()
    os.write(2, b"still here")
    """
    if where == "no stdout":
        result = run("sys.stdout = None; logs.start(about)\n" + textwrap.dedent(code), stdout=None)
    elif where == "closed pipe":
        reader, writer = os.pipe()
        os.close(reader)
        result = run(code, stdout=writer)
        os.close(writer)
    else:
        with Path(where).open("wb") as full:
            result = run(code, stdout=full)
    assert (result.returncode, result.stderr) == (0, b"still here")


def test_a_reader_that_does_not_read_blocks_nobody():
    """What does not fit is lost and counted, the writer never waits, and the loss is told when it can be."""
    reader, writer = os.pipe()
    lost: list[int] = []
    told = threading.Event()
    sink = Sink(writer, lambda lines: (lost.append(lines), told.set()))
    line = "x" * 99 + "\n"
    # The thread may hold as many as may wait.
    written = 3 * PENDING
    for _ in range(written):
        sink.write(line)
    assert not sink.flush(0.05)
    assert sink.lost > 0
    received = 0
    while received < (written - sink.lost) * 100:
        received += len(os.read(reader, 65536))
    assert told.wait(10)
    assert lost == [sink.lost]
    assert received == (written - sink.lost) * 100
    os.close(reader)


def test_a_line_torn_by_a_full_disk_is_ended(tmp_path, monkeypatch):
    """What comes after a torn line begins on a line of its own."""
    real = os.write
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    space = [4, 0, None]

    def write(fd, data):
        if fd != descriptor or not space or space[0] is None:
            return real(fd, data)
        room = space.pop(0)
        if room == 0:
            raise OSError(28, "No space left on device")
        return real(fd, bytes(data)[:room])

    monkeypatch.setattr(os, "write", write)
    sink = Sink(descriptor)
    sink.write("first line\n")
    assert sink.flush(5)
    sink.write("second line\n")
    assert sink.flush(5)
    assert path.read_text() == "firs\nsecond line\n"
    assert sink.lost == 1
    os.close(descriptor)


def test_a_forked_child_logs_too():
    """After a fork the child writes with a thread of its own, and nothing comes twice."""
    events = events_of(
        run("""
        import os
        log.info("parent")
        logs.flush()
        child = os.fork()
        if child == 0:
            log.info("child")
            logs.flush()
            os._exit(0)
        os.waitpid(child, 0)
        """)
    )
    # Python 3.12 warns of every fork beside threads.
    told = [event["event"] for event in events if event["logger"] != "py.warnings"]
    assert told == ["parent", "child"]


def test_capture_logs_sees_loggers_made_here():
    """structlog's own test helper works, whether or not the log has started."""
    with structlog.testing.capture_logs() as events:
        logs.get_logger("x").bind(a=1).debug("e", b=2)
    assert events == [{"a": 1, "b": 2, "event": "e", "log_level": "debug"}]


def test_before_the_start_events_are_in_logging(caplog):
    """Until then nothing is lost: tests and tools that log see it by `logging`'s rules."""
    logs.get_logger("x").error("e.failed", n=1)
    [seen] = caplog.records
    assert (seen.name, seen.levelname) == ("x", "ERROR")
    assert re.search(r"e\.failed +n=1", seen.getMessage())


class TestLevels:
    """One level judges all; it may be for a time."""

    @pytest.fixture(autouse=True)
    def _restore(self):
        root = logging.getLogger()
        before = root.level
        yield
        for name in ("", "shop", "shop.cart"):
            logging.getLogger(name).setLevel(logging.NOTSET)
        root.setLevel(before)

    def test_one_level_judges_every_source(self):
        """What is below the level is not written, whoever says it; a single logger may have another."""
        events = events_of(
            run(
                """
                import logging
                from twisted.logger import Logger
                def say():
                    log.info("ours")
                    logging.getLogger("lib").info("lib")
                    Logger("tw").info("tw")
                say()
                logs.LogLevels(None).set("debug", logger="lib")
                say()
                logs.LogLevels(None).set("info")
                say()
                """,
                "--log.level=warning",
            )
        )
        assert [event["event"] for event in events] == ["lib", "ours", "lib", "tw"]

    def test_a_level_may_be_for_a_time(self):
        """After its time the level is what it was; a second change extends the time, not what was."""
        clock = Clock()
        levels = LogLevels(clock)
        levels.set("warning")
        levels.set("debug", duration=60)
        clock.advance(30)
        levels.set("info", duration=60)
        assert levels.state() == {"level": "info", "reverts_at": 90, "loggers": {}}
        clock.advance(59)
        assert logs.level() == "info"
        clock.advance(1)
        assert (logs.level(), clock.getDelayedCalls()) == ("warning", [])

    def test_a_lasting_change_ends_a_temporary_one(self):
        """What is set without a duration stays."""
        clock = Clock()
        levels = LogLevels(clock)
        levels.set("debug", duration=60)
        levels.set("error")
        clock.advance(100)
        assert logs.level() == "error"
        levels.set("debug", duration=0.5)
        clock.advance(0.5)
        assert logs.level() == "error"

    def test_what_the_flag_says_since_is_kept(self):
        """SIGHUP may set the level while a temporary one is in force: nothing sets that back, nor says so."""
        clock = Clock()
        levels = LogLevels(clock)
        levels.set("info")
        levels.set("debug", duration=60)
        logging.getLogger().setLevel("WARNING")
        assert levels.state() == {"level": "warning", "reverts_at": None, "loggers": {}}
        clock.advance(30)
        levels.set("debug", duration=60)
        clock.advance(60)
        assert logs.level() == "warning"
        levels.set("debug", duration=60)
        logging.getLogger().setLevel("ERROR")
        clock.advance(60)
        assert (logs.level(), clock.getDelayedCalls()) == ("error", [])

    def test_single_loggers_inherit_and_return(self):
        """A logger's level holds for those below it, and after its time it has none of its own."""
        clock = Clock()
        levels = LogLevels(clock)
        levels.set("warning")
        levels.set("debug", "shop", 5)
        assert logs.level("shop.cart") == "debug"
        assert levels.state()["loggers"] == {"shop": {"level": "debug", "reverts_at": 5}}
        clock.advance(5)
        assert logs.level("shop.cart") == "warning"
        assert levels.state()["loggers"] == {}

    @pytest.mark.parametrize(
        ("level", "duration", "said"),
        [
            ("loud", None, "level: 'loud' is none of debug, info, warning, error"),
            ("debug", 0, "duration: 0 is no number of seconds above 0"),
            ("debug", float("nan"), "duration: nan is no number"),
        ],
    )
    def test_nonsense_is_refused(self, level, duration, said):
        """One line says what would be right, and nothing changes."""
        before = logs.level()
        with pytest.raises(ValueError, match=re.escape(said)):
            LogLevels(Clock()).set(level, duration=duration)
        assert logs.level() == before


def strictly(line):
    """Parse a line as the strictest reader does: UTF-8, no NaN, no lone surrogate, numbers of 64 bits."""
    orjson = pytest.importorskip("orjson")
    parsed = orjson.loads(line)
    assert json.loads(line, parse_constant=pytest.fail) == parsed
    return parsed


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("\udc80name", "\\udc80name"),
        ("\ud83d\ude00", "\\ud83d\\ude00"),
        ("\N{GRINNING FACE}", "\N{GRINNING FACE}"),
        ("\\ud800", "\\ud800"),
        (2**64 - 1, 2**64 - 1),
        (2**64, str(2**64)),
        (-(2**63) - 1, str(-(2**63) - 1)),
        ([2**70, {"n": -(2**70), "s": "\ud800"}], [str(2**70), {"n": str(-(2**70)), "s": "\\ud800"}]),
        ({"\ud800": 1}, {"\\ud800": 1}),
        (ValueError("\ud800"), "ValueError('\\ud800')"),
        (float("nan"), "nan"),
        ([float("inf")], "[inf]"),
        (True, True),
        (1e308, 1e308),
    ],
)
def test_every_reader_of_json_takes_a_line(value, written):
    """Strict readers too, as a value, inside of one, and as what is printed."""
    parsed = strictly(json_line(record(x=value)))
    assert parsed["x"] == written
    assert "truncated" not in parsed
    assert console(colours=False)(record(x=value)).count("\n") == 1


@pytest.mark.parametrize("max_line", [1024, 16_384, 100_000])
@pytest.mark.parametrize(
    "fields",
    [
        {f"f{n}": "x" * 9000 for n in range(100)},
        {f"f{n}": "\N{GRINNING FACE}" * 9000 for n in range(100)},
        {f"f{n}": list(range(9000)) for n in range(100)},
        {f"f{n}": n for n in range(100_000)},
        {"k" * 100_000: 1, "deep": {"a": {"b": ["\ud800" * 100_000]}}},
        {"x": 10**4000, "y": b"\xff" * 100_000},
    ],
)
def test_a_long_event_is_cut_and_says_so(fields, max_line):
    """At most `--log.max_line` bytes, still JSON, its head whole."""
    line = json_line(record(**fields), max_line)
    assert len(line) <= max_line
    parsed = strictly(line)
    assert parsed["truncated"] is True
    assert (parsed["event"], parsed["level"], parsed["logger"]) == ("e", "info", "l")
    assert len(console(colours=False, max_line=max_line)(record(**fields))) < 2 * max_line


def test_an_event_that_just_fits_is_whole():
    """The bound counts the end of the line."""
    line = json_line(record(x="x" * 500))
    assert json_line(record(x="x" * 500), len(line)) == line
    assert "truncated" in json_line(record(x="x" * 500), len(line) - 1)


def test_of_what_is_cut_both_ends_stay():
    """A traceback says at its end what happened, a stack what runs; short fields stay whole."""
    stack = [f"file.py:{n} f: g()" for n in range(5000)]
    parsed = strictly(
        json_line(record(exception="Traceback\n" + "x\n" * 20_000 + "ValueError: v", stack=stack, n=7))
    )
    assert parsed["exception"].startswith("Traceback\n")
    assert parsed["exception"].endswith("x\nValueError: v")
    assert (parsed["stack"][0], parsed["stack"][-1], parsed["n"]) == (stack[0], stack[-1], 7)
    assert "... (5000 items) ..." in parsed["stack"]


def test_max_line_is_a_flag():
    """What the process says is cut to it."""
    [event] = events_of(run("log.info('e', x='y' * 5000)", "--log.max_line=2000"))
    assert event["truncated"] is True
    assert len(json.dumps(event)) < 2000


def test_an_import_configures_nothing():
    """structlog, `logging` and the hooks of the interpreter are as they were; a logger works all the same."""
    code = """
        import logging, structlog, sys, threading, warnings
        before = (sys.stdout, sys.unraisablehook, threading.excepthook, warnings.showwarning)
        import halfsync.logs, halfsync.manhole, halfsync.admin
        assert not structlog.is_configured()
        assert not logging.getLogger().handlers
        assert before == (sys.stdout, sys.unraisablehook, threading.excepthook, warnings.showwarning)
        logging.basicConfig(level="INFO", stream=sys.stdout, format="%(name)s %(levelname)s %(message)s")
        halfsync.logs.get_logger("lib").info("lib.did", n=1, stack=["a list"])
        halfsync.logs.get_audit_logger("lib").info("lib.audit", n=2)
        logging.getLogger().setLevel("ERROR")
        halfsync.logs.get_logger("lib").info("lib.hidden")
        halfsync.logs.get_audit_logger("lib").info("lib.audit", n=3)
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": str(CHASSIS)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [["lib", "INFO"]] * 3
    assert "lib.did" in lines[0]
    assert "lib.hidden" not in done.stdout


def test_the_service_may_configure_structlog_later():
    """An application that does so when it is made keeps its own way; the log and the audit keep theirs."""
    events = events_of(
        run(
            """
            import logging, structlog
            early = logs.get_logger("hello.early")
            early.info("early.did")
            structlog.configure(
                processors=[structlog.processors.JSONRenderer()],
                logger_factory=structlog.stdlib.LoggerFactory(),
            )
            early.info("early.did")
            logs.get_logger("hello.late").info("late.did", n=1)
            logs.emit(logging.getLogger("hello.http"), "http.did", {"n": 2})
            logging.getLogger().setLevel("ERROR")
            logs.get_audit_logger("hello.door").info("door.opened")
            structlog.get_logger("shop").error("shop.did")
            logs.flush()
            """
        )
    )
    assert [event["event"] for event in events] == [
        "early.did",
        "early.did",
        "late.did",
        "http.did",
        "door.opened",
        '{"event": "shop.did"}',
    ]
    assert (events[2]["n"], events[3]["n"]) == (1, 2)


@pytest.mark.parametrize(
    "call",
    [
        "dictConfig({'version': 1, 'root': {'handlers': []}, 'disable_existing_loggers': False})",
        "logging.basicConfig(force=True)",
        "logging.root.handlers.clear()",
    ],
)
def test_the_service_may_configure_all_of_logging_later(call):
    """Log and audit stay whole where an application replaces the root's handlers and structlog's steps."""
    events = events_of(
        run(
            f"""
            import logging, structlog
            from logging.config import dictConfig
            structlog.configure(processors=[structlog.processors.JSONRenderer()])
            {call}
            logs.get_logger("hello.late").info("late.did", n=1)
            logs.get_audit_logger("hello.door").info("door.opened", n=logs.running().behind)
            logs.flush()
            """
        )
    )
    assert [event["event"] for event in events] == ["late.did", "door.opened"]


def test_the_service_may_disable_every_logger_there_is():
    """That is what `dictConfig` does by default, as in Flask's manual; levels decide all the same."""
    events = events_of(
        run(
            """
            import logging
            from logging.config import dictConfig
            early, quiet = logs.get_logger("hello.early"), logs.get_logger("hello.quiet")
            http, still = logging.getLogger("hello.http"), logging.getLogger("hello.still")
            dictConfig({"version": 1})
            assert http.disabled and logging.getLogger("hello.early").disabled
            logging.getLogger("hello.quiet").setLevel("ERROR")
            still.setLevel("ERROR")
            early.info("early.did")
            early.debug("early.thought")
            quiet.warning("quiet.did")
            logs.emit(http, "http.did", {})
            logs.emit(still, "still.did", {})
            logs.line_writer(http)('{"event": "line.did"}\\n')
            assert logs.line_writer(still) is None
            logs.get_audit_logger("hello.door").info("door.opened")
            logging.disable(logging.INFO)
            logs.emit(http, "http.did", {})
            logs.flush()
            """
        )
    )
    assert [event["event"] for event in events] == ["early.did", "http.did", "line.did", "door.opened"]


def test_audit_events_pass_every_level():
    """Whatever level the log or the logger has; what is not audit does not pass."""
    events = events_of(
        run(
            """
            import logging
            audit = logs.get_audit_logger("hello.door")
            audit.info("door.opened", who="me")
            logging.getLogger("hello.door").setLevel("CRITICAL")
            logging.disable(logging.CRITICAL)
            logs.get_logger("hello.door").error("door.creaks")
            audit.warning("door.closed")
            """,
            "--log.level=error",
        )
    )
    assert [(event["event"], event["level"]) for event in events] == [
        ("door.opened", "info"),
        ("door.closed", "warning"),
    ]


def test_audit_lines_wait_for_room():
    """While nobody reads, others are lost and they are not; who waits is told when they are written."""
    reader, writer = os.pipe()
    sink = Sink(writer)
    for _ in range(3 * PENDING):
        sink.write("x" * 99 + "\n")
    for number in range(PENDING):
        sink.write_audit(f"audit {number}\n")
    written = threading.Event()
    sink.when_written(written.set)
    assert sink.lost > 0
    # What its thread takes from the queue counts in neither place for a moment.
    until(lambda: sink.behind > PENDING)
    assert not written.is_set()
    seen = b""
    while f"audit {PENDING - 1}\n".encode() not in seen:
        seen += os.read(reader, 1 << 20)
    assert written.wait(20)
    assert seen.count(b"audit ") == PENDING
    os.close(reader)


def test_audit_lines_outlive_a_full_disk(tmp_path, monkeypatch):
    """They are written, whole, once there is room; what else came meanwhile is lost and counted."""
    real = os.write
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    full = threading.Event()
    tried = threading.Semaphore(0)
    full.set()

    def write(fd, data):
        if fd != descriptor or not full.is_set():
            return real(fd, data)
        tried.release()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr("halfsync.logs.sink.RETRY", 0.01)
    sink = Sink(descriptor)
    sink.write("plain\n")
    sink.write_audit("audit one\n")
    sink.write_audit("audit two\n")
    written = threading.Event()
    sink.when_written(written.set)
    for _ in range(3):
        assert tried.acquire(timeout=20)
    assert sink.flush(20)
    assert not written.is_set()
    full.clear()
    assert written.wait(20)
    assert path.read_text() == "audit one\naudit two\n"
    assert sink.lost == 1
    os.close(descriptor)


class TestFile:
    """`--log.file` is the file that its owner meant, and opening it holds up nobody."""

    def started(self, path):
        result = run("log.info('e')", f"--log.file={path}")
        return result.returncode, result.stderr.decode()

    def test_a_link_that_others_could_have_made_is_not_followed(self, tmp_path):
        """Neither as the file nor as a folder on the way; one in a folder of ours is."""
        victim = tmp_path / "victim"
        victim.write_text("precious\n")
        shared = tmp_path / "shared"
        shared.mkdir()
        shared.chmod(0o1777)
        (shared / "log").symlink_to(victim)
        (shared / "folder").symlink_to(tmp_path)
        for path in (shared / "log", shared / "folder" / "victim"):
            code, said = self.started(path)
            assert code == 1
            assert said.splitlines()[-1].endswith(
                f"--log.file: '{path}': a symbolic link in a folder that others can write to;"
                " name a file that can be written to"
            )
        assert victim.read_text() == "precious\n"
        (tmp_path / "log").symlink_to(victim)
        assert self.started(tmp_path / "log") == (0, "")
        assert victim.read_text().startswith("precious\n{")
        assert self.started(shared / "plain") == (0, "")
        assert (shared / "plain").exists()

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
    def test_a_file_of_others_in_their_folder_is_not_written_to(self, tmp_path):
        """Whoever laid it there first would read the log, and could change it; root's is taken, and ours."""
        shared = tmp_path / "shared"
        shared.mkdir()
        path = shared / "log"
        path.touch()
        os.chown(path, 4321, 4321)
        assert self.started(path) == (0, "")
        size = path.stat().st_size
        shared.chmod(0o777)
        code, said = self.started(path)
        assert code == 1
        assert f"--log.file: '{path}': a file of uid 4321 in a folder that others can write to" in said
        assert path.stat().st_size == size
        os.chown(path, 0, 0)
        assert self.started(path) == (0, "")

    def test_a_fifo_that_nobody_reads_is_found(self, tmp_path):
        """At the start, in one line; with a reader it is a log like any other."""
        path = tmp_path / "fifo"
        os.mkfifo(path)
        code, said = self.started(path)
        assert code == 1
        assert f"--log.file: '{path}': a FIFO that no process reads" in said
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        assert self.started(path) == (0, "")
        assert json.loads(os.read(reader, 65536))["event"] == "e"
        os.close(reader)

    def test_check_config_finds_it(self, tmp_path):
        """And makes nothing."""
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        for path, said in (
            (fifo, "a FIFO that no process reads"),
            (tmp_path, "is a directory"),
            (tmp_path / "none" / "log", "no such file, and none can be made in"),
        ):
            result = run("", "--check_config", f"--log.file={path}")
            assert (result.returncode, result.stdout) == (2, b"")
            assert said in result.stderr.decode()
        assert run("", "--check_config", f"--log.file={tmp_path / 'new'}").stdout == b"ok\n"
        assert not (tmp_path / "new").exists()


def test_a_request_is_the_same_line_either_way():
    """The event of a request is written as a line by itself, as the renderer would write it."""
    code = """
        from types import SimpleNamespace
        from twisted.internet.address import IPv4Address
        from halfsync.http import access_log
        agent = {"HTTP_USER_AGENT": 'x"\\xe4'}
        head = SimpleNamespace(method="GET", target='/a"b\\\\?secret', variables=agent)
        stream = SimpleNamespace(
            head=head, code=200, sent=5, client=IPv4Address("TCP", "192.0.2.1", 5), request_id="r1"
        )
        access_log.log_answer(stream, 0.25)
        access_log.line_writer = lambda _logger: None
        access_log.log_answer(stream, 0.25)
        """
    short, long = events_of(run(code))
    assert list(short) == list(long)
    assert {**short, "timestamp": long["timestamp"]} == long
    assert (short["path"], short["seconds"]) == ('/a"b\\', 0.25)
