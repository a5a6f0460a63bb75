from __future__ import annotations

import errno
import io
import os
import pathlib
import subprocess
import sys

import pytest

from children import SOURCES
from halfsync import flag, flags
from halfsync.endpoints.listener import Endpoints
from halfsync.flags import types as flagtypes
from halfsync.life.about import About

ABOUT = About(name="hello-service", package="hello_service", version="1.2.3", summary="Says hello.")


@pytest.fixture
def web(own_flags):
    """A service with a few flags, halfsync' and a user's."""

    @flags.declare(flag.namespace("web"))
    class FLAGS:
        threads = flagtypes.Count("Worker threads.", default=16)
        listen = Endpoints("Where to listen.", default="tcp:8080")
        access_log = flag.Bool("Log requests.", default=True)
        idle_timeout = flagtypes.Seconds("Idle time.", default=60)

    return FLAGS


@pytest.fixture
def tasks(own_flags):
    @flags.declare(flag.namespace("hello_service.tasks"))
    class FLAGS:
        url = flag.String("The page to check.", default="")
        token = flag.String("A secret.", default="", secure=True)

    return FLAGS


@pytest.fixture
def admin(own_flags):
    @flags.declare(flag.namespace("admin"))
    class FLAGS:
        listen = Endpoints("Where to listen.", default="tcp:8081:interface=127.0.0.1")

    return FLAGS


def refused(capsys, argv=(), environ=None) -> list[str]:
    """Return the lines with which a command line is refused, without the program's name."""
    with pytest.raises(SystemExit) as stop:
        flags.parse(ABOUT, list(argv), environ or {})
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert all(line.startswith("hello-service: ") for line in lines)
    return [line.removeprefix("hello-service: ") for line in lines]


def printed(capsys, argv, environ=None) -> str:
    with pytest.raises(SystemExit) as stop:
        flags.parse(ABOUT, argv, environ or {})
    out, err = capsys.readouterr()
    assert (stop.value.code, err) == (0, "")
    return out


def test_defaults(web):
    """A flag that nobody set has its default."""
    flags.parse(ABOUT, [], {})
    assert (web.threads, web.access_log, web.idle_timeout) == (16, True, 60)
    assert [str(each) for each in web.listen] == ["tcp:8080"]


@pytest.mark.parametrize(
    "argv",
    [
        ["--web.threads=4"],
        ["-web.threads=4"],
        ["--web.threads", "4"],
        ["--web.threads=8", "--web.threads=4"],
    ],
)
def test_command_line_spellings(web, argv):
    """oscar's spellings all work, and the last one wins."""
    flags.parse(ABOUT, argv, {})
    assert web.threads == 4


def test_precedence_and_provenance(web, tmp_path):
    """Default < file < environment < command line, and each loser is remembered."""
    file = tmp_path / "service.ini"
    file.write_text("[web]\nthreads = 2\nidle_timeout = 5\n")
    environ = {"HELLO_SERVICE_WEB_THREADS": "3", "HELLO_SERVICE_CONFIG": str(file)}
    flags.parse(ABOUT, ["--web.threads=4"], environ)
    assert (web.threads, web.idle_timeout) == (4, 5)
    state = {each.name: each for each in flags.states()}["web.threads"]
    assert (state.source, state.text) == ("command line", "4")
    assert state.overrode == [
        ("environment HELLO_SERVICE_WEB_THREADS", "3"),
        (f"file {file}", "2"),
        ("default", "16"),
    ]


def test_the_command_line_names_the_file_before_the_environment_does(web, tmp_path):
    (tmp_path / "a.ini").write_text("[web]\nthreads = 2\n")
    flags.parse(ABOUT, [f"--config={tmp_path}/a.ini"], {"HELLO_SERVICE_CONFIG": "/nonexistent"})
    assert web.threads == 2


def test_the_file_takes_values_as_they_are(tasks, tmp_path):
    """No interpolation, case kept, `;` and `=` inside a value are the value's."""
    (tmp_path / "a.ini").write_text(
        "[tasks]\nurl = http://x/%(a)s?b=${c};d\n[hello_service.tasks]\ntoken=T\n"
    )
    flags.parse(ABOUT, [f"--config={tmp_path}/a.ini"], {})
    assert (tasks.url, tasks.token) == ("http://x/%(a)s?b=${c};d", "T")


@pytest.mark.parametrize("name", ["tasks.url", "hello_service.tasks.url"])
def test_a_users_flag_by_its_public_and_its_full_name(tasks, name):
    flags.parse(ABOUT, [f"--{name}=x"], {})
    assert tasks.url == "x"


@pytest.mark.parametrize("name", ["HELLO_SERVICE_TASKS_URL", "tasks.url", "hello_service.tasks.url"])
def test_environment_names(tasks, name):
    flags.parse(ABOUT, [], {name: "x"})
    assert tasks.url == "x"


def test_foreign_environment_sets_nothing(web, tasks):
    """Only the prefix or a dotted name is ours; what Kubernetes says of a Service of our name is not."""
    foreign = {
        "url": "x",
        "URL": "x",
        "THREADS": "2",
        "WEB_THREADS": "2",
        "web.unknown": "2",
        "SECURED_SETTING_url": "!",
        "HELLO_SERVICE_SERVICE_HOST": "10.0.0.1",
        "HELLO_SERVICE_SERVICE_PORT": "80",
        "HELLO_SERVICE_SERVICE_PORT_HTTP": "80",
        "HELLO_SERVICE_WORKER_URL": "x",
        "HELLO_SERVICE_PORT_80_TCP": "tcp://10.0.0.1:80",
        "HELLO_SERVICE_PORT_80_TCP_ADDR": "10.0.0.1",
    }
    flags.parse(ABOUT, [], foreign)
    assert (web.threads, tasks.url) == (16, "")
    assert all(state.source == "default" for state in flags.states())


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--web.thread=4"], "--web.thread: no such flag; did you mean --web.threads?"),
        (["--web.timeout=4"], "--web.timeout: no such flag; did you mean --web.idle_timeout?"),
        (["--web.foo=4"], "--web.foo: no such flag; --help lists them"),
        (["--zzz"], "--zzz: no such flag; --help lists them"),
        (["--web.threads=four"], "--web.threads: 'four' is no whole number (command line)"),
        (["--web.threads=0"], "--web.threads: '0' is less than 1; right is 1 to 1000000 (command line)"),
        (["--web.threads="], "--web.threads: '' is no whole number (command line)"),
        (["--web.threads"], "--web.threads: no value; write --web.threads=value"),
        (
            ["--web.idle_timeout=nan"],
            "--web.idle_timeout: 'nan' is no finite number of seconds (command line)",
        ),
        (["--web.access_log=maybe"], "--web.access_log: 'maybe' is neither true nor false (command line)"),
        (["--web.access_log", "false"], "'false': not a flag; write --name=value"),
        (["--listen=tcp:1"], "--listen: ambiguous; write one of --admin.listen, --web.listen"),
        (["stray"], "'stray': not a flag; write --name=value"),
        (["--"], "'--': not a flag; write --name=value"),
        (["-"], "'-': not a flag; write --name=value"),
        (["--=4"], "'--=4': not a flag; write --name=value"),
        (["---web.threads=4"], "'---web.threads=4': not a flag; write --name=value"),
        ([""], "'': not a flag; write --name=value"),
    ],
)
def test_bad_command_lines(web, admin, capsys, argv, line):
    """One line that names the flag, the value, and what would be right; exit code 2."""
    assert refused(capsys, argv) == [line]


def test_what_follows_an_unknown_flag_begins_no_command(web, capsys):
    """It was meant as the flag's value, and the rest as flags."""
    assert refused(capsys, ["--zzz", "run", "--web.threads=0"]) == [
        "--zzz: no such flag; --help lists them",
        "--web.threads: '0' is less than 1; right is 1 to 1000000 (command line)",
    ]


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["run"], "run: this service declares no commands"),
        (["run", "this"], "run: this service declares no commands"),
    ],
)
def test_a_service_without_commands(web, capsys, argv, line):
    """`run` has nothing to run, and does not start the service instead."""
    assert refused(capsys, argv) == [line]


def test_the_bounds_of_a_flag_belong_to_its_range(own_flags, capsys):
    """The least and the greatest value are taken; what is beyond is refused, as is what is no choice."""

    @flags.declare(flag.namespace("web"))
    class FLAGS:
        threads = flagtypes.Count("x", default=3, minimum=2, maximum=4)
        wait = flagtypes.Seconds("x", default=3, minimum=2, maximum=4)
        mode = flagtypes.Choice("x", default="on", choices=("on", "off"))
        file = flagtypes.Path("x", default="")

    for bound in ("2", "4"):
        flags.parse(ABOUT, [f"--web.threads={bound}", f"--web.wait={bound}"], {})
        assert (FLAGS.threads, FLAGS.wait) == (int(bound), float(bound))
    given = ["--web.threads=5", "--web.wait=1.9", "--web.mode=On", "--web.file=a\0b"]
    assert refused(capsys, given) == [
        "--web.threads: '5' is more than 4; right is 2 to 4 (command line)",
        "--web.wait: '1.9' is less than 2; right is 2 to 4 seconds (command line)",
        "--web.mode: 'On' is none of on, off (command line)",
        "--web.file: 'a\\x00b' holds a NUL byte (command line)",
    ]


def test_code_does_not_assign_a_flag(web):
    """It would look as if it had an effect."""
    flags.parse(ABOUT, [], {})
    with pytest.raises(flag.FlagException, match="threads: a flag is set by its sources"):
        web.threads = 3
    assert web.threads == 16


def test_bad_endpoint(web, capsys):
    """The flag, the value, and which of several strings is wrong, each said once."""
    (line,) = refused(capsys, ["--web.listen=tpc:9"])
    assert line.startswith("--web.listen: 'tpc:9' is no endpoint; write for example tcp:8080,")
    (line,) = refused(capsys, ["--web.listen=tcp:8080 tpc:9"])
    assert line.startswith("--web.listen: 'tcp:8080 tpc:9' is wrong: 'tpc:9' is no endpoint; write")


def test_misspelt_environment_name(web, capsys):
    (line,) = refused(capsys, environ={"HELLO_SERVICE_WEB_THREAD": "4"})
    assert line == (
        "HELLO_SERVICE_WEB_THREAD: no flag has this environment name;"
        " did you mean HELLO_SERVICE_WEB_THREADS? (environment)"
    )


def test_a_name_that_is_like_no_other_gets_no_guess(web, capsys):
    """That all begin with the service's prefix, and a group's name, makes none of them what was meant."""
    (line,) = refused(capsys, environ={"HELLO_SERVICE_WEB_NOPE": "4"})
    assert line == (
        "HELLO_SERVICE_WEB_NOPE: no flag has this environment name; --help lists them (environment)"
    )


def test_switches_of_the_command_are_none_of_the_environment(web, capsys):
    """An inherited variable cannot turn every start into a print of the help."""
    (line,) = refused(capsys, environ={"HELLO_SERVICE_HELP": "true"})
    assert line.startswith("HELLO_SERVICE_HELP: no flag has this environment name")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[web]\nthread = 4\n", "[web] thread: no such flag; did you mean --web.threads? (file {})"),
        ("[wob]\nthreads = 4\n", "[wob] threads: no such flag; did you mean --web.threads? (file {})"),
        ("[web]\nthreads = x\n", "--web.threads: 'x' is no whole number (file {})"),
        (
            "[DEFAULT]\nthreads = 4\n",
            "[DEFAULT] threads: no such flag; did you mean --web.threads? (file {})",
        ),
        ("[web]\nThreads = 4\n", "[web] Threads: no such flag; did you mean --web.threads? (file {})"),
    ],
)
def test_bad_file_contents(web, capsys, tmp_path, text, line):
    file = tmp_path / "a.ini"
    file.write_text(text)
    assert refused(capsys, [f"--config={file}"]) == [line.format(file)]


@pytest.mark.parametrize("text", ["threads = 4\n", "[web]\nthreads\n", "[web]\nthreads=1\nthreads=2\n", "\0"])
def test_files_that_are_no_ini(web, capsys, tmp_path, text):
    file = tmp_path / "a.ini"
    file.write_text(text)
    (line,) = refused(capsys, [f"--config={file}"])
    assert line.startswith(f"--config: '{file}': ")


def test_missing_file(web, capsys):
    assert refused(capsys, ["--config=/nonexistent/a.ini"]) == [
        "--config: '/nonexistent/a.ini': no such file or directory"
    ]


def test_a_file_without_an_end(web, capsys):
    """It is read as far as any such file goes, and no further."""
    assert refused(capsys, ["--config=/dev/zero"]) == ["--config: '/dev/zero': larger than 1048576 bytes"]


def test_a_folder_and_bytes_for_a_file(web, capsys, tmp_path):
    assert refused(capsys, [f"--config={tmp_path}"]) == [f"--config: '{tmp_path}': is a directory"]
    (tmp_path / "a.ini").write_bytes(b"[web]\nthreads=\xff\n")
    assert refused(capsys, [f"--config={tmp_path}/a.ini"]) == [
        f"--config: '{tmp_path}/a.ini': not UTF-8 text at byte 14"
    ]


def test_a_file_that_may_not_be_read(web, capsys, tmp_path, monkeypatch):
    (tmp_path / "a.ini").touch()

    def refuse(*_args, **_keywords):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(pathlib.Path, "open", refuse)  # root may read everything
    assert refused(capsys, [f"--config={tmp_path}/a.ini"]) == [
        f"--config: '{tmp_path}/a.ini': permission denied"
    ]


def test_every_problem_is_told(web, capsys):
    lines = refused(capsys, ["--web.threads=x", "--nope"], {"HELLO_SERVICE_WEB_NOPE": "1"})
    assert len(lines) == 3


def test_a_required_flag(own_flags, capsys):
    @flags.declare(flag.namespace("db"))
    class FLAGS:
        dsn = flag.String("Where the data is.", default=flag.REQUIRED)

    assert refused(capsys) == [
        "--db.dsn: required; set it here, in a --config file or as HELLO_SERVICE_DB_DSN"
    ]
    flags.parse(ABOUT, ["--db.dsn=x"], {})
    assert FLAGS.dsn == "x"


def test_one_socket_for_two_listeners_is_found_by_a_check(web, admin, capsys):
    """In one line, that names both flags; each of them alone is right."""
    assert refused(capsys, ["--check_config", "--web.listen=tcp:8081", "--admin.listen=tcp:8081"]) == [
        "--web.listen: 'tcp:8081': --admin.listen has 'tcp:8081', which is the same socket (command line)"
    ]
    assert refused(capsys, ["--check_config", "--web.listen=tcp:8082 tcp6:8082"]) == [
        "--web.listen: 'tcp6:8082': --web.listen has 'tcp:8082', which is the same socket (command line)"
    ]
    for right in ("tcp:8082", "tcp:0 tcp:0"):
        with pytest.raises(SystemExit) as stop:
            flags.parse(ABOUT, ["--check_config", f"--web.listen={right}"], {})
        assert stop.value.code == 0


def test_a_secret_is_never_shown(tasks, capsys, tmp_path):
    (tmp_path / "a.ini").write_text("[tasks]\ntoken = hush1\n")
    environ = {"HELLO_SERVICE_TASKS_TOKEN": "hush2"}
    text = printed(capsys, [f"--config={tmp_path}/a.ini", "--print_config"], environ)
    assert "hush" not in text
    assert "tasks.token = ********  (environment HELLO_SERVICE_TASKS_TOKEN; over file" in text


def test_a_refused_secret_is_not_shown(own_flags, capsys):
    @flags.declare(flag.namespace("db"))
    class FLAGS:
        pin = flag.Int("A secret number.", default=0, secure=True)

    assert refused(capsys, ["--db.pin=hush"]) == ["--db.pin: ******** is no whole number (command line)"]


def test_a_secret_that_is_refused_by_its_own_type_is_not_shown(own_flags, capsys):
    """Whatever a type of the user's says of a value."""

    class Key(flag.String):
        def set(self, value):
            raise ValueError(f"is no key: {value!r}")

    @flags.declare(flag.namespace("db"))
    class FLAGS:
        key = Key("A key.", default=flag.REQUIRED, secure=True)

    (line, _) = refused(capsys, ["--db.key=hush"])
    assert line == "--db.key: ******** is no key: '********' (command line)"


def test_what_follows_a_misspelt_name_is_not_shown(tasks, capsys):
    """It is the value of a flag, of a secret perhaps; what is a flag itself is read all the same."""
    lines = refused(capsys, ["--tasks.tokn", "hush", "stray", "--tasks.tok", "--tasks.ur=x"])
    assert [line.partition(";")[0] for line in lines] == [
        "--tasks.tokn: no such flag",
        "'stray': not a flag",
        "--tasks.tok: no such flag",
        "--tasks.ur: no such flag",
    ]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("token = hush\n", 1),
        ("[tasks]\ntoken hush\n", 2),
        ("[tasks\ntoken = hush\n", 1),
        ("[tasks]\nurl = x\n\n= hush\n", 4),
    ],
)
def test_a_line_that_is_no_ini_is_named_and_not_shown(tasks, capsys, tmp_path, text, number):
    """It may be a secret's."""
    file = tmp_path / "a.ini"
    file.write_text(text)
    assert refused(capsys, [f"--config={file}"]) == [
        f"--config: '{file}': line {number} is neither a [section] nor a name = value below one"
    ]


def test_a_file_in_the_home_of_nobody(web, capsys):
    """A user that does not exist is a file that does not."""
    assert refused(capsys, ["--config=~no-such-user/a.ini"]) == [
        "--config: '~no-such-user/a.ini': no such file or directory"
    ]


def test_a_value_is_printed_in_one_line(tasks, capsys):
    """Nothing in a value looks like another flag, moves the cursor, or cannot be written."""
    text = printed(capsys, ["--tasks.url=a\nweb.x = \x1b[2J\udcff", "--print_config"])
    assert "tasks.url = 'a\\nweb.x = \\x1b[2J\\udcff'  (command line; over default: )\n" in text


def test_help_in_a_poor_character_set(web, capsys, monkeypatch):
    """What a terminal cannot show is escaped."""
    poor = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", poor)
    about = About(name="hello", package="hello", version="1", summary="Gr\u00fc\u00dfe \U0001f44b")
    with pytest.raises(SystemExit):
        flags.parse(about, ["--help"], {})
    poor.flush()
    assert b"Gr\\xfc\\xdfe \\U0001f44b\n" in poor.buffer.getvalue()


def test_a_list_that_is_refused_keeps_what_it_was(own_flags, capsys):
    """oscar's List would keep the items before the bad one."""

    @flags.declare(flag.namespace("db"))
    class FLAGS:
        ports = flag.List(flag.Int, ",", "Ports.", default=[1])

    assert refused(capsys, ["--db.ports=2,x"]) == ["--db.ports: '2,x' is no whole number (command line)"]
    assert FLAGS.ports == [1]


def test_help_lists_every_flag_with_type_default_meaning_and_environment_name(web, tasks, capsys):
    text = printed(capsys, ["--help", "--nonsense"])
    assert text.startswith("hello-service 1.2.3\nSays hello.\n")
    assert (
        "  --web.threads=<whole number>  (default 16)\n"
        "      Worker threads.\n"
        "      HELLO_SERVICE_WEB_THREADS\n" in text
    )
    assert "[tasks]\n  --tasks.token=<text>  (default empty)" in text
    assert printed(capsys, ["-help"]) == text


def test_help_says_how_each_type_is_written(own_flags, capsys):
    """A list by its separator, a switch of the library's own like any other."""

    @flags.declare(flag.namespace("shop"))
    class FLAGS:
        kinds = flag.List(flag.String, ",", "x", default=["a", "b"])
        ports = flag.List(flag.Int, " ", "x", default=[1])
        loud = flag.Bool("x", default=False)

    text = printed(capsys, ["--help"])
    assert "--shop.kinds=<text,...>  (default a,b)" in text
    assert "--shop.ports=<whole number ...>  (default 1)" in text
    assert "--shop.loud=<true|false>  (default false)" in text
    assert "--probe=<true|false>" in text or "--probe" not in text


@pytest.mark.parametrize("value", ["1GB", "10MiB", "1.5", ""])
def test_a_size_with_a_unit_is_told_what_would_be_right(own_flags, capsys, value):
    @flags.declare(flag.namespace("shop"))
    class FLAGS:
        room = flagtypes.Size("x", default=1)
        every = flagtypes.Seconds("x", default=1)

    assert refused(capsys, [f"--shop.room={value}", "--shop.every=1m"]) == [
        f"--shop.room: {value!r} is no whole number of bytes; write it without a unit (command line)",
        "--shop.every: '1m' is no number of seconds; write it without a unit (command line)",
    ]


@pytest.mark.parametrize("argv", [["--help=yes"], ["--version=false", "--help=1"], ["--help=T"]])
def test_every_yes_asks_for_help(web, capsys, argv):
    """oscar takes many words for true, and none of them starts the service instead."""
    assert printed(capsys, argv).startswith("hello-service 1.2.3\nSays hello.\n")


def test_version(web, capsys):
    assert printed(capsys, ["--version"]) == "hello-service 1.2.3\n"


def test_check_config(web, capsys):
    assert printed(capsys, ["--check_config"]) == "ok\n"
    (line,) = refused(capsys, ["--check_config", "--web.listen=fd:99"])
    assert line.startswith("--web.listen: ")
    assert line.endswith("(command line)")


def test_check_config_warns_of_what_a_start_warns_of(own_flags, capsys):
    """A variable that is no flag, and an old name; neither is wrong."""

    @flags.declare(flag.namespace("hello_service.db"), renamed={"dsn": "url"})
    class Renamed:
        url = flag.String("Where.", default="")

    with pytest.raises(SystemExit) as stop:
        flags.parse(ABOUT, ["--check_config", "--db.dsn=x"], {"HELLO_SERVICE_WORKER_URL": "x"})
    out, err = capsys.readouterr()
    assert (stop.value.code, out) == (0, "ok\n")
    assert err.splitlines() == [
        "hello-service: HELLO_SERVICE_WORKER_URL: no flag has this environment name; ignored",
        "hello-service: db.dsn: is called db.url now",
    ]


def test_two_flags_of_one_name_are_a_bug_of_ours(own_flags):
    """A user's `listen` in web.py and the halfsync' would be one environment variable."""
    for namespace in ("web", "hello_service.web"):

        @flags.declare(flag.namespace(namespace))
        class FLAGS:
            listen = flag.String("x", default="")

    with pytest.raises(flag.FlagException, match=r"web\.listen and hello_service\.web\.listen"):
        flags.parse(ABOUT, [], {})


def test_a_default_is_checked(own_flags):
    with pytest.raises(flag.FlagException, match="the default of threads is less than 1"):

        @flags.declare(flag.namespace("web"))
        class FLAGS:
            threads = flagtypes.Count("x", default=0)


def test_set_live(web):
    flags.parse(ABOUT, [], {})
    flags.set_live("web.threads", "3")
    assert web.threads == 3
    with pytest.raises(flags.FlagError, match=r"--web\.threads: 'x' is no whole number"):
        flags.set_live("web.threads", "x")
    with pytest.raises(flags.FlagError, match="no such flag"):
        flags.set_live("web.nope", "x")
    assert web.threads == 3


@pytest.fixture
def mixed(own_flags):
    """Live flags, and one that is read at the start."""

    @flags.declare(flag.namespace("web"), at_start=("threads",))
    class FLAGS:
        threads = flagtypes.Count("Worker threads.", default=16)
        greeting = flag.String("Said to all.", default="Hello")
        pause = flagtypes.Seconds("Between two.", default=1)

    return FLAGS


def test_a_flag_that_is_read_at_the_start_is_not_set(mixed):
    """It would be shown, and 16 threads would run; a value that is none is told as such."""
    flags.parse(ABOUT, ["--web.threads=4"], {})
    with pytest.raises(flags.FlagError, match=r"--web\.threads: is read at the start only; give it another"):
        flags.set_live("web.threads", "32")
    with pytest.raises(flags.FlagError, match="'many' is no whole number"):
        flags.set_live("web.threads", "many")
    assert mixed.threads == 4
    states = {each.name: each for each in flags.states()}
    assert (states["web.threads"].source, states["web.threads"].live) == ("command line", False)
    flags.set_live("web.greeting", "Hi")
    assert (mixed.greeting, states["web.greeting"].live) == ("Hi", True)
    assert not states["config"].live


def test_a_class_may_be_read_at_the_start_as_a_whole(own_flags):
    """As those of the library are."""

    @flags.declare(flag.namespace("db"), at_start=True)
    class FLAGS:
        url = flag.String("x", default="")

    flags.parse(ABOUT, [], {})
    with pytest.raises(flags.FlagError, match="at the start only"):
        flags.set_live("db.url", "x")
    assert FLAGS.url == ""


def test_what_another_start_would_not_take_needs_none(mixed, tmp_path):
    """The command line is stronger than the file, now and at a start."""
    file = tmp_path / "conf.ini"
    file.write_text("[web]\nthreads = 2\n")
    flags.parse(ABOUT, [f"--config={file}", "--web.threads=5"], {})
    file.write_text("[web]\nthreads = 3\n")
    assert flags.reload() == flags.Reloaded({}, [])
    assert mixed.threads == 5


def test_the_file_is_read_again_for_live_flags(mixed, tmp_path):
    """What it says is in force, below the command line; what it no longer says is the default again."""
    file = tmp_path / "conf.ini"
    file.write_text("[web]\ngreeting = Hi\nthreads = 2\npause = 2\n")
    flags.parse(ABOUT, [f"--config={file}", "--web.pause=5"], {})
    assert flags.reload() == flags.Reloaded({}, [])
    file.write_text("[web]\ngreeting = Ho\nthreads = 3\npause = 3\n")
    assert flags.reload() == flags.Reloaded({"web.greeting": "Ho"}, ["web.threads"])
    assert (mixed.greeting, mixed.threads, mixed.pause) == ("Ho", 2, 5)
    file.write_text("[web]\nthreads = 2\n")
    assert flags.reload().changed == {"web.greeting": "Hello"}
    assert (mixed.greeting, mixed.threads, mixed.pause) == ("Hello", 2, 5)


@pytest.mark.parametrize("wrong", ["pause = soon", "nonsense = 1", "no key", "threads = 1\nthreads = 2"])
def test_a_file_that_has_become_wrong_changes_nothing(mixed, tmp_path, wrong):
    """All or nothing, and the error names what is wrong."""
    file = tmp_path / "conf.ini"
    file.write_text("[web]\ngreeting = Hi\n")
    flags.parse(ABOUT, [f"--config={file}"], {})
    file.write_text(f"[web]\ngreeting = Ho\n{wrong}\n")
    with pytest.raises(flags.FlagError):
        flags.reload()
    assert (mixed.greeting, mixed.pause) == ("Hi", 1)
    file.unlink()
    with pytest.raises(flags.FlagError, match="no such file"):
        flags.reload()
    assert mixed.greeting == "Hi"


def test_without_a_file_there_is_nothing_to_read_again(mixed):
    """SIGHUP is about other things then."""
    flags.parse(ABOUT, [], {})
    assert flags.reload() == flags.Reloaded({}, [])


@pytest.mark.parametrize(
    "name",
    ["HELLO_SERVICE_WORKER_URL", "HELLO_SERVICE_DIRECTORY", "HELLO_SERVICE_", "HELLO_SERVICE_NOPE"],
)
def test_a_variable_that_only_shares_the_prefix_is_not_ours(web, tasks, name):
    """Another service's, or one of systemd's; it is told once, when the log starts."""
    flags.parse(ABOUT, [], {name: "x"})
    assert flags.ignored_environment() == [name]


@pytest.mark.parametrize(
    "name",
    [
        "HELLO_SERVICE_WEB_NOPE",
        "HELLO_SERVICE_TASKS_X_Y",
        "HELLO_SERVICE_WEBTHREADS",
        "HELLO_SERVICE_WEB_THREADSS",
        "HELLO_SERVICE_TASK_URL",
        "HELLO_SERVICE_TASKX_URL",
        "HELLO_SERVICE_TAKSS_URL",
        "HELLO_SERVICE_HELP",
    ],
)
def test_a_variable_that_is_almost_ours_is_refused(web, tasks, capsys, name):
    """Of a group that there is, or one letter off, or two that stand in the other order."""
    (line,) = refused(capsys, environ={name: "x"})
    assert line.startswith(f"{name}: no flag has this environment name")


@pytest.fixture
def secrets(own_flags):
    """Secrets by declaration, and by what they are called."""

    @flags.declare(flag.namespace("db"), public=("token_lifetime",))
    class FLAGS:
        pin = flag.String("x", default="", secure=True)
        password = flag.String("x", default="")
        api_key = flag.String("x", default="")
        token_lifetime = flag.String("x", default="")
        key_file = flagtypes.Path("x", default="")
        url = flag.String("x", default="")

    return FLAGS


def test_what_is_called_like_a_secret_is_one(secrets, capsys):
    """Unless it is declared public, or is a path; of a URL, only the password is hidden."""
    given = [f"--db.{each}=hush" for each in ("pin", "password", "api_key")]
    public = ["--db.token_lifetime=5", "--db.key_file=/etc/key", "--db.url=postgres://me:hush@db:5432/x?a=b"]
    flags.parse(ABOUT, [*given, *public], {})
    assert (secrets.password, secrets.url) == ("hush", "postgres://me:hush@db:5432/x?a=b")
    assert "hush" not in str([each.text for each in flags.states()])
    text = printed(capsys, [*given, *public, "--print_config"])
    assert "hush" not in text
    assert "db.token_lifetime = 5 " in text
    assert "db.key_file = /etc/key " in text
    assert "db.url = postgres://me:********@db:5432/x?a=b " in text


def test_a_secret_may_be_in_a_file(secrets, capsys, tmp_path):
    """Named by a variable, or put where systemd puts it; its last end of line is none of it."""
    (tmp_path / "pin").write_text("hush1\n")
    environ = {"HELLO_SERVICE_DB_PIN_FILE": str(tmp_path / "pin")}
    flags.parse(ABOUT, [], environ)
    assert secrets.pin == "hush1"
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "db.password").write_text("hush2\n\n")
    (folder / "db.url").write_text("not a secret, so not read")
    environ["CREDENTIALS_DIRECTORY"] = str(folder)
    flags.parse(ABOUT, [], environ)
    assert (secrets.pin, secrets.password, secrets.url) == ("hush1", "hush2\n", "")
    flags.parse(ABOUT, ["--db.pin=hush3"], environ)
    assert secrets.pin == "hush3"
    text = printed(capsys, ["--print_config"], environ)
    assert "hush" not in text
    assert "(environment HELLO_SERVICE_DB_PIN_FILE;" in text
    assert "(credential;" in text


@pytest.mark.parametrize("home", ["hello_service", "__main__"])
def test_a_program_that_is_one_file_has_flags_without_a_group(own_flags, capsys, tmp_path, home):
    """The help says where they are in the file; as a credential a secret has the program's name before it."""

    @flags.declare(flag.namespace(home))
    class FLAGS:
        keep = flag.Int("x", default=1)
        pin = flag.String("x", default="", secure=True)

    path = tmp_path / "conf.ini"
    path.write_text("[hello_service]\nkeep = 3\n")
    (tmp_path / "hello_service.pin").write_text("hush")
    (tmp_path / "pin").write_text("another's")
    flags.parse(ABOUT, [f"--config={path}"], {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert (FLAGS.keep, FLAGS.pin) == (3, "hush")
    flags.parse(ABOUT, ["--keep=4"], {"HELLO_SERVICE_PIN": "told"})
    assert (FLAGS.keep, FLAGS.pin) == (4, "told")
    text = printed(capsys, ["--help"])
    assert "This command; its own flags are in [hello_service] of the file\n" in text
    assert "  --keep=<whole number>  (default 1)" in text


def test_a_secret_in_a_file_that_cannot_be_had(secrets, capsys, tmp_path):
    """Each is a line that names variable and file, and nothing of what is in it."""
    for name in ("bytes", "db.pin"):
        (tmp_path / name).write_bytes(b"hush\xff")
    (tmp_path / "long").write_bytes(b"x" * 65_537)
    (tmp_path / "longer").write_bytes(b"x" * 70_000)
    os.mkfifo(tmp_path / "fifo")
    for path, said in (
        (tmp_path / "none", "no such file or directory"),
        (tmp_path, "is a directory"),
        (tmp_path / "bytes", "not UTF-8 text at byte 4"),
        (tmp_path / "long", "larger than 65536 bytes"),
        (tmp_path / "longer", "larger than 65536 bytes"),
    ):
        (line,) = refused(capsys, environ={"HELLO_SERVICE_DB_PIN_FILE": str(path)})
        assert line == f"HELLO_SERVICE_DB_PIN_FILE: '{path}': {said}"
    (line,) = refused(capsys, environ={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert line == f"CREDENTIALS_DIRECTORY: '{tmp_path / 'db.pin'}': not UTF-8 text at byte 4"
    (tmp_path / "db.pin").unlink()
    (tmp_path / "longest").write_bytes(b"x" * 65_536)
    flags.parse(ABOUT, [], {"HELLO_SERVICE_DB_PIN_FILE": str(tmp_path / "longest")})
    assert len(secrets.pin) == 65_536
    flags.parse(ABOUT, [], {"HELLO_SERVICE_DB_PIN_FILE": str(tmp_path / "fifo")})
    assert secrets.pin == ""
    both = {"HELLO_SERVICE_DB_PIN_FILE": "x", "HELLO_SERVICE_DB_PIN": "y"}
    (line,) = refused(capsys, environ=both)
    assert line == "HELLO_SERVICE_DB_PIN_FILE: HELLO_SERVICE_DB_PIN is set as well; set one of them"
    (line,) = refused(capsys, environ={"HELLO_SERVICE_DB_URL_FILE": "x"})
    assert line == (
        "HELLO_SERVICE_DB_URL_FILE: only a secret flag is read from a file; set HELLO_SERVICE_DB_URL"
    )


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ("--web.threads=1_6", "--web.threads: '1_6' is no whole number (command line)"),
        ("--web.threads=١٦", "--web.threads: '١٦' is no whole number (command line)"),
        (
            "--web.threads=99999999999",
            "--web.threads: '99999999999' is more than 1000000; right is 1 to 1000000 (command line)",
        ),
        (
            "--web.idle_timeout=1e12",
            "--web.idle_timeout: '1e12' is more than 1e+09; right is 0.001 to 1e+09 seconds (command line)",
        ),
        ("--web.idle_timeout=1_0", "--web.idle_timeout: '1_0' is no number (command line)"),
    ],
)
def test_numbers_are_those_of_people(web, capsys, argv, line):
    """No digits of other scripts, no underscores, and within a range that the line says."""
    assert refused(capsys, [argv]) == [line]


def test_an_environment_that_is_no_text(web, tasks, capsys):
    """It would be served as an error much later."""
    (line,) = refused(capsys, environ={"HELLO_SERVICE_TASKS_URL": "a\udcff"})
    assert line == "HELLO_SERVICE_TASKS_URL: its value is not UTF-8 text (environment)"


def test_a_key_that_is_indented_is_no_part_of_the_value_above(web, tasks, capsys, tmp_path):
    """A probable mistake; a value over several lines is none."""
    file = tmp_path / "a.ini"
    file.write_text("[tasks]\nurl = a\n  token = hush\n")
    (line,) = refused(capsys, [f"--config={file}"])
    assert line == (
        "[tasks] url: token = below it is indented, and so part of its value;"
        f" begin it at the margin (file {file})"
    )
    file.write_text("[tasks]\nurl = a\n  b\n")
    flags.parse(ABOUT, [f"--config={file}"], {})
    assert tasks.url == "a\nb"


def test_names_are_exact(web, tasks, capsys):
    """What is enough today would name two flags tomorrow; the line says the whole name."""
    assert refused(capsys, ["--threads=4"]) == ["--threads: no such flag; did you mean --web.threads?"]


def test_an_old_name_is_taken_with_a_warning(own_flags, capsys, tmp_path):
    """On the command line, in the environment and in the file, until it is declared no more."""

    @flags.declare(flag.namespace("hello_service.db"), renamed={"dsn": "url", "host": "url"})
    class FLAGS:
        url = flag.String("x", default="")

    file = tmp_path / "a.ini"
    file.write_text("[db]\ndsn = of the file\n")
    for argv, environ, value, old in (
        ([f"--config={file}"], {}, "of the file", "db.dsn"),
        ([], {"HELLO_SERVICE_DB_HOST": "of the environment"}, "of the environment", "HELLO_SERVICE_DB_HOST"),
        (["--config=", "--db.dsn=of the line"], {}, "of the line", "db.dsn"),
    ):
        flags.parse(ABOUT, argv, environ)
        assert FLAGS.url == value
        assert list(flags.renamed()) == [old]
    assert flags.renamed() == {"db.dsn": "db.url"}
    flags.parse(ABOUT, ["--config=", "--db.url=x"], {})
    assert flags.renamed() == {}


def test_chosen_reads_one_flag_early(web, monkeypatch):
    """Before every module has declared its flags, one can be read from all sources."""
    monkeypatch.setattr("sys.argv", ["x", "--later.flag=1", "--web.threads=5"])
    monkeypatch.setattr("os.environ", {"HELLO_SERVICE_WEB_IDLE_TIMEOUT": "7"})
    assert flags.chosen("hello_service", "web.threads") == "5"
    assert flags.chosen("hello_service", "web.idle_timeout") == "7"
    assert flags.chosen("hello_service", "web.listen") is None


def in_a_process(folder: pathlib.Path, main: str, *argv: str) -> tuple[int, str]:
    """Run a service of two modules whose `late` declares a flag; return its exit code and standard error."""
    package = folder / "shop"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "late.py").write_text(
        "from halfsync import flag, flags\n\n\n@flags.declare(flag.namespace(__name__))\n"
        "class FLAGS:\n    url = flag.String('x', default='default')\n"
    )
    (package / "__main__.py").write_text(f"from halfsync import About, flags\n{main}\n")
    done = subprocess.run(
        [sys.executable, "-m", "shop", *argv],
        cwd=folder,
        env={"PYTHONPATH": str(SOURCES)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


def test_a_flag_that_is_read_too_early(tmp_path):
    """Its default would stand for whatever was given: the error names the flag, and what to do."""
    main = "from shop.late import FLAGS\nENGINE = FLAGS.url\nflags.parse(About('shop'))"
    code, err = in_a_process(tmp_path, main, "--late.url=x")
    assert code == 1
    assert "FlagException: the flag shop.late.url is read before flags.parse" in err
    assert "make_app, parts or a handler" in err


def test_a_flag_that_is_read_in_time(tmp_path):
    main = "from shop.late import FLAGS\nflags.parse(About('shop'))\nassert FLAGS.url == 'x'"
    assert in_a_process(tmp_path, main, "--late.url=x") == (0, "")


def test_a_flag_that_is_given_before_it_is_declared(tmp_path):
    """The module that would declare it is named."""
    code, err = in_a_process(tmp_path, "flags.parse(About('shop'))\nimport shop.late", "--late.url=x")
    assert (code, err) == (
        2,
        "shop: --late.url: no such flag; shop.late declares flags too late: import it before flags.parse\n",
    )


def test_a_flag_that_is_declared_too_late(tmp_path):
    """A warning says where."""
    code, err = in_a_process(tmp_path, "flags.parse(About('shop'))\nimport shop.late")
    assert code == 0
    assert "late.py:4: RuntimeWarning: the flags of shop.late are declared after flags.parse" in err
