"""The manhole in a process of its own, entered by real clients."""

from __future__ import annotations

import fcntl
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from house import PATIENCE, House, fingerprint, start
from terminal import Screen


def test_an_expression(house):
    """Its value goes to standard output, and the log says who ran it from where."""
    assert house.ssh("service.about.name") == (0, "'child'\n", "")
    login = house.service.wait_for("manhole.login")
    line = house.service.wait_for("manhole.line")
    logout = house.service.wait_for("manhole.logout")
    assert line["line"] == "service.about.name"
    assert (line["user"], line["fingerprint"]) == ("me", fingerprint(house.folder / "id.pub"))
    assert line["peer"].startswith("127.0.0.1:")
    assert login["session"] == line["session"] == logout["session"]


def test_an_error(house):
    """The traceback goes to standard error, and the exit code is 1."""
    code, out, err = house.ssh("print('before'); 1/0")
    assert (code, out) == (1, "before\n")
    assert err.startswith("Traceback (most recent call last):\n  File")
    assert err.endswith("ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("exit(3)", (3, "", "")),
        ("import sys; sys.exit('no')", (1, "", "no\n")),
        ("None", (0, "", "")),
        ("", (0, "", "")),
        ("print('ä', end='')", (0, "ä", "")),
        ("await in_thread(lambda: print('aside') or 7)", (0, "aside\n7\n", "")),
        ("in_thread(lambda: print('aside') or 7)", (0, "aside\n7\n", "")),
        ("& in_thread(lambda: 8)", (0, "8\n", "")),
        ("later = in_thread(lambda: 9); await later", (0, "9\n", "")),
        ("memory(stop=True)", (0, "allocations are not traced\n", "")),
        ("flags.sample.number", (0, "5\n", "")),
        ("flags.sample.number = 6; flags.sample.number", (0, "6\n", "")),
        ("flags.sample.password", (0, "'********'\n", "")),
        ("'hunter2' in repr(flags)", (0, "False\n", "")),
        ("manhole.state()['sessions'][0]['user']", (0, "'me'\n", "")),
        ("& import threading; threading.current_thread().name[:8]", (0, "'manhole-'\n", "")),
        ("! __import__('threading').current_thread().name", (0, "'MainThread'\n", "")),
        ("& exit(4)", (4, "", "")),
        ("& requests()", (0, "no requests in flight\n", "")),
        ("tasks", (0, "no tasks\n", "")),
        ("service.part('manhole') is manhole", (0, "True\n", "")),
    ],
)
def test_commands(house, command, expected):
    """What a command prints, to which stream, and its exit code."""
    assert house.ssh(command) == expected


def test_a_statement_that_never_ends_is_interrupted(house):
    """The reactor can hear nobody meanwhile, so there is a limit; no `except Exception` escapes it."""
    limit = "from halfsync.manhole import time_limit; time_limit.time_limit.__wrapped__.__defaults__ = ({},)"
    assert house.ssh(limit.format(0.3)) == (0, "", "")
    command = "import time\nwhile True:\n  try: time.sleep(60)\n  except Exception: pass"
    code, out, err = house.ssh(command)
    assert house.ssh(limit.format(10)) == (0, "", "")
    assert (code, out) == (1, "")
    assert "HeldTooLong: it held the reactor for 0.3 s; with & before it" in err


def test_awaiting(house):
    """Deferreds and coroutines, at the top level."""
    command = "from twisted.internet import task; await task.deferLater(reactor, 0.01, lambda: 'waited')"
    assert house.ssh(command) == (0, "'waited'\n", "")


def test_a_flag_is_set_with_its_own_checks(house):
    """A wrong value is one line of the traceback, and changes nothing."""
    code, out, err = house.ssh("flags.sample.number = 'many'")
    assert (code, out) == (1, "")
    assert "--sample.number: 'many' is no whole number" in err
    code, out, err = house.ssh("flags.manhole.ttl = 5")
    assert (code, out) == (1, "")
    assert "--manhole.ttl: is read at the start only" in err
    assert house.ssh("flags.log.level = 'debug'; __import__('logging').getLogger().level")[1] == "10\n"
    assert house.ssh("flags.log.level = 'info'")[0] == 0
    assert house.ssh("flags.nonsense")[2].endswith("AttributeError: no flag is called nonsense\n")


def test_a_script_on_standard_input(house):
    """It is read to its end, then run as a whole; blocks need no blank line."""
    script = "def f(n):\n    a = n\n\n    return a * 2\nfor n in range(2):\n    print(f(n))\nf(2)\n"
    script += "raise ValueError('x')\n"
    code, out, err = house.ssh("-T", stdin=script)
    assert (code, out) == (1, "0\n2\n4\n")
    assert err.endswith("ValueError: x\n")
    assert "raise ValueError('x')" in err


@pytest.mark.parametrize("key", ["id", "rsa", "ec"])
def test_kinds_of_keys(house, key):
    """RSA signs with SHA-2, which the client learns from the server."""
    assert house.ssh("1", key=key) == (0, "1\n", "")


def test_rsa_with_sha1_does_not_get_in(house):
    """The client insists on `ssh-rsa`."""
    options = ("PubkeyAcceptedAlgorithms=ssh-rsa", "HostKeyAlgorithms=+ssh-ed25519")
    code, _, err = house.ssh("1", key="rsa", options=options)
    assert (code, "denied" in err) == (255, True)


@pytest.mark.parametrize(
    ("key", "user", "reason"),
    [
        ("wrong", "me", "the key is not in authorized_keys"),
        ("id", "root", "not the user's name"),
        ("bound", "me", "line 4 of authorized_keys has options that are not honoured: command"),
        ("far", "me", "the key may not come from this address (from)"),
        ("late", "me", "the key has expired (expiry-time)"),
    ],
)
def test_refusals(house, key, user, reason):
    """The client learns nothing, the log everything that helps: peer, name, fingerprint, reason."""
    code, out, err = house.ssh("1", key=key, user=user)
    assert (code, out) == (255, "")
    assert "Permission denied (publickey)" in err
    refused = house.service.wait_for("manhole.refused")
    assert (refused["level"], refused["user"], refused["reason"]) == ("warning", user, reason)
    assert refused["fingerprint"] == fingerprint(house.folder / f"{key}.pub")
    assert refused["peer"].startswith("127.0.0.1:")
    assert re.fullmatch("[0-9a-f]{8}", refused["session"])


@pytest.fixture
def certified(folder, tmp_path):
    """The key `id` with a certificate beside it, which a client offers first; the authority is `ca`."""
    for name in ("id", "id.pub"):
        shutil.copy(folder / name, tmp_path)
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", tmp_path / "ca"], check=True)
    sign = ["ssh-keygen", "-q", "-s", tmp_path / "ca", "-I", "someone", "-n", "me", tmp_path / "id.pub"]
    subprocess.run(sign, check=True)
    # Under the name that it got, it would be offered after the key.
    (tmp_path / "id-cert.pub").rename(tmp_path / "certificate")
    return tmp_path


def test_a_client_with_a_certificate_falls_back_to_its_key(house, certified):
    """The certificate is refused, by name in the log, and the key that it is for gets in."""
    options = (f"CertificateFile={certified / 'certificate'}",)
    assert house.ssh("1 + 1", key=str(certified / "id"), options=options) == (0, "2\n", "")
    refused = house.service.wait_for("manhole.refused")
    assert refused["reason"] == "signature algorithm 'ssh-ed25519-cert-v01@openssh.com' is not taken"
    assert house.service.wait_for("manhole.login")["fingerprint"] == fingerprint(certified / "id.pub")


def test_an_authority_is_refused_loudly(certified):
    """A `cert-authority` lets nobody in: the log has its line and option at opening, and again at a try."""
    authority = (certified / "ca.pub").read_text()
    (certified / "authorized_keys").write_text(f"# us\ncert-authority {authority}")
    (certified / "authorized_keys").chmod(0o600)
    with start(certified, "--manhole.open") as service:
        house = House(service, certified)
        skipped = service.wait_for("manhole.key_skipped")
        assert (skipped["level"], skipped["line"]) == ("warning", 2)
        assert skipped["reason"] == (
            "line 2 of authorized_keys has options that are not honoured: cert-authority"
        )
        house.opened()
        assert house.ssh("1", options=(f"CertificateFile={certified / 'certificate'}",))[0] == 255
        reasons = [service.wait_for("manhole.refused")["reason"] for _ in range(2)]
        assert reasons[1] == "the key is not in authorized_keys"
        # Nor does the authority's own key get in.
        assert house.ssh("1", key="ca")[0] == 255
        assert service.wait_for("manhole.refused")["reason"] == skipped["reason"]


def test_a_restricted_key_gets_in_on_its_terms(house):
    """From where and until when it may, without a terminal."""
    assert house.ssh("1 + 1", key="near") == (0, "2\n", "")
    login = house.service.wait_for("manhole.login")
    while login["fingerprint"] != fingerprint(house.folder / "near.pub"):
        login = house.service.wait_for("manhole.login")
    assert "@" in login["key"]
    code, out, err = house.ssh("-tt", key="near", stdin="2 + 2", options=("LogLevel=INFO",))
    assert (code, out) == (255, "")
    assert "PTY allocation request failed" in err


def test_passwords_are_no_way_in(house):
    """Nor are questions: only public keys are offered."""
    code, _, err = house.ssh("1", key="wrong", options=("BatchMode=no", "NumberOfPasswordPrompts=1"))
    assert (code, err.strip()) == (255, "me@127.0.0.1: Permission denied (publickey).")


def test_forwarding_is_refused(house):
    """A way into the process is no way through it."""
    code, _, err = house.ssh("-W", "127.0.0.1:9")
    assert (code, "forwarding failed" in err) == (255, True)
    refused = house.service.wait_for("manhole.channel_refused")
    assert refused["reason"] == "no channels of type 'direct-tcpip'"
    back = ("-N", "-o", "ExitOnForwardFailure=yes", "-R")
    for way, name in (("0:127.0.0.1:9", "tcpip-forward"), ("/nowhere/x:127.0.0.1:9", "streamlocal-forward")):
        code, _, err = house.ssh(*back, way)
        assert (code, "forwarding failed" in err) == (255, True)
        assert house.service.wait_for("manhole.channel_refused")["reason"] == f"no {name} here"


def test_subsystems_are_refused(house):
    """Files are not to be had, and the log has who wanted them."""
    code, _, err = house.ssh("-s", "sftp")
    assert (code, err) == (255, "subsystem request failed on channel 0\n")
    refused = house.service.wait_for("manhole.channel_refused")
    assert (refused["reason"], refused["user"]) == ("no subsystem 'sftp'", "me")


def test_authorized_keys_is_read_at_each_login(house, folder):
    """A key that was taken out is out, one that was put in is in."""
    file = folder / "authorized_keys"
    before = file.read_text()
    try:
        file.write_text((folder / "wrong.pub").read_text())
        assert house.ssh("1", key="wrong")[0] == 0
        assert house.ssh("1", key="id")[0] == 255
        file.chmod(0o666)
        assert house.ssh("1", key="wrong")[0] == 255
    finally:
        file.write_text(before)
        file.chmod(0o600)


def test_a_person_at_a_terminal(house):
    """Greeting, lines, blocks, `_`, errors, Ctrl-C, a new size, and leaving with a code."""
    screen = Screen(house.command("-tt"))
    greeting = screen.until(">>> ")
    assert "child 1, process" in greeting
    assert "in_thread(f, *args)" in greeting
    screen.types("x = 41\rx + 1\r")
    screen.until("\n42\n>>> ")
    screen.types("_ + 1\r")
    screen.until("\n43\n>>> ")
    screen.types("for i in range(2):\r    print('n', i)\r\r")
    screen.until("n 0\nn 1\n>>> ")
    screen.types("1 / 0\r")
    screen.until("    1 / 0\n")
    screen.until("ZeroDivisionError: division by zero\n>>> ")
    screen.types("from twisted.internet.defer import Deferred\r")
    screen.until(">>> ")
    screen.types("print('waiting') or await Deferred()\r")
    screen.until("waiting\n")
    screen.types("\x03")
    screen.until("KeyboardInterrupt\n>>> ")
    screen.types("half\x03")
    screen.until("KeyboardInterrupt\n>>> ")
    screen.types("import time; time.sleep(1.01)\r")
    screen.until("[held the reactor for ")
    screen.until(">>> ")
    assert house.service.wait_for("manhole.stalled")["seconds"] > 1
    screen.types("exit(5)\r")
    assert screen.exit_code() == 5


def test_two_people_at_once(house):
    """Each sees only their own, also what is printed after an await."""
    one, two = Screen(house.command("-tt")), Screen(house.command("-tt"))
    for screen in (one, two):
        screen.until(">>> ")
    one.types("from twisted.internet import task\r")
    one.until(">>> ")
    one.types("service.shared = __import__('twisted.internet.defer').internet.defer.Deferred()\r")
    one.until(">>> ")
    one.types("print('one', 'waits'); print(await service.shared, 'here')\r")
    one.until("one waits\n")
    two.types("service.shared.callback('fired') or print('two', 'fires')\r")
    two.until("two fires\n>>> ")
    assert "fired here" in one.until(">>> ")
    for screen in (one, two):
        screen.types("\x04")
    assert [one.exit_code(), two.exit_code()] == [0, 0]
    assert "fired here" not in two.seen


def test_ssh_audit_finds_no_failure(house):
    """Nothing is offered that an auditor fails."""
    audit = Path(sys.executable).parent / "ssh-audit"
    done = subprocess.run(
        [audit, "--skip-rate-test", "--no-colors", "-p", str(house.port), "127.0.0.1"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert "(kex) curve25519-sha256 " in done.stdout
    assert "[fail]" not in done.stdout, done.stdout
    assert "Twisted_" not in done.stdout


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n" * 300,
        b"SSH-1.5-old\r\n",
        b"SSH-2.0-x\r\n" + b"\xff" * 64,
        b"SSH-2.0-x\r\n" + struct.pack("!LB", 12, 4) + b"\x14" + b"\0" * 11,
        b"SSH-2.0-x\r\n" + struct.pack("!LB", 12, 4) + b"\x1e" + b"\0" * 11,
        b"SSH-2.0-x\r\n" + struct.pack("!LB", 12, 4) + b"\x05" + b"\xff" * 11,
    ],
)
def test_what_is_no_ssh(house, data):
    """The connection ends, the service goes on, and the log has no traceback."""
    seen = len(house.service.events)
    with socket.create_connection(("127.0.0.1", house.port), timeout=PATIENCE) as connection:
        connection.sendall(data)
        try:
            while connection.recv(65536):
                pass
        except ConnectionResetError:
            pass
    assert house.ssh("2") == (0, "2\n", "")
    house.service.wait_for("manhole.logout")
    assert not [
        each for each in house.service.events[seen:] if "exception" in each or each["level"] == "error"
    ]


def read_all(connection):
    while connection.recv(1000):
        pass


def test_a_silent_crowd_keeps_nobody_out(house):
    """Connections that say nothing take one of a few places, until the oldest makes room; the log says so."""
    with ExitStack() as stack:
        crowd = [
            stack.enter_context(socket.create_connection(("127.0.0.1", house.port), timeout=PATIENCE))
            for _ in range(14)
        ]
        for each in crowd[:4]:
            with pytest.raises(ConnectionResetError):
                read_all(each)
        assert [len(each.recv(1)) for each in crowd[4:]] == [1] * 10
        assert house.ssh("2") == (0, "2\n", "")
    refused = house.service.wait_for("manhole.refused")
    while refused["reason"] != "10 others are not logged in yet, and this is the oldest":
        refused = house.service.wait_for("manhole.refused")


def test_a_command_on_a_terminal(house):
    """`ssh -t`: lines end at the left edge, errors are seen, a new size is taken, Ctrl-C interrupts."""
    screen = Screen(house.command("-tt", "print('a'); print('b'); 1/0"))
    assert screen.exit_code() == 1
    assert "a\r\nb\r\nTraceback" in screen.raw
    assert "\n" not in screen.raw.replace("\r\n", "")
    waits = "from twisted.internet.defer import Deferred; print('on'); await Deferred()"
    screen = Screen(house.command("-tt", waits))
    screen.until("on\n")
    screen.resize(20, 100)
    screen.types("x\x03")
    screen.until("KeyboardInterrupt\n")
    assert screen.exit_code() == 1
    screen = Screen(house.command("-tt", "& print('on')\nwhile True: pass"))
    screen.until("on\n")
    screen.types("\x03")
    screen.until("KeyboardInterrupt\n")
    assert screen.exit_code() == 1


def test_a_line_that_the_log_would_cut_is_not_run(house):
    """Whatever is behind so many blanks would be seen by nobody."""
    for blanks in (20_000, 140_000):
        code, out, err = house.ssh("-T", stdin="1" + " " * blanks + "; print('unseen')\n")
        assert (code, out) == (1, "")
        assert err == "a line that is longer than what the log keeps of it is not run\n"
    assert house.service.wait_for("manhole.line_refused")["characters"] > 20_000
    code, out, err = house.ssh("-T", stdin="1" + " " * 10_000 + "; print('seen')\n")
    assert (code, out) == (0, "1\nseen\n")


def test_a_session_can_close_the_manhole_that_it_is_in(folder):
    """The person is told, the port is closed, and the service runs on."""
    with start(folder, "--manhole.open") as service:
        house = House(service, folder)
        house.opened()
        code, _, err = house.ssh("await manhole.close('enough')")
        assert (code, err) == (1, "\n[the manhole closes: enough]\n")
        house.service.wait_for("manhole.logout")
        assert house.service.wait_for("manhole.closed")["sessions"] == 1
        assert house.ssh("1")[0] == 255
        service.signal(signal.SIGTERM)
        assert service.end()[0] == 0


def test_the_signal_opens_and_closes(folder):
    """USR2 on a live process; whoever is in when it closes is told."""
    with start(folder) as service:
        house = House(service, folder)
        house.service.wait_for("service.started")
        service.signal(signal.SIGUSR2)
        event = house.opened()
        assert event["host_key"] == fingerprint(folder / "host")
        screen = Screen(house.command("-tt"))
        screen.until(">>> ")
        service.signal(signal.SIGUSR2)
        screen.until("[the manhole closes: toggled]")
        assert screen.exit_code() == 1
        assert house.service.wait_for("manhole.closed")["reason"] == "toggled"
        service.signal(signal.SIGUSR2)
        house.opened()
        assert house.ssh("1") == (0, "1\n", "")
        service.signal(signal.SIGTERM)
        assert service.end()[0] == 0


def test_what_prevents_opening_does_not_harm_a_live_process(folder, tmp_path):
    """One line of the log at error; the next signal tries again."""
    missing = tmp_path / "none"
    with start(folder, f"--manhole.authorized_keys={missing}") as service:
        house = House(service, folder)
        service.wait_for("service.started")
        service.signal(signal.SIGUSR2)
        failed = service.wait_for("manhole.open_failed")
        assert failed["problem"].startswith(f"--manhole.authorized_keys: '{missing}': no such file")
        assert "exception" not in failed
        missing.write_text((folder / "id.pub").read_text())
        missing.chmod(0o600)
        service.signal(signal.SIGUSR2)
        house.opened()
        assert house.ssh("1") == (0, "1\n", "")


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        (
            "--manhole.authorized_keys=/nowhere/keys",
            "--manhole.authorized_keys: '/nowhere/keys': no such file",
        ),
        (
            "--manhole.host_key={folder}/id.pub",
            "--manhole.host_key: '{folder}/id.pub': group or others can read it",
        ),
        (
            "--manhole.listen=tcp:{port}:interface=127.0.0.1",
            "--manhole.listen: 'tcp:{port}:interface=127.0.0.1': ",
        ),
    ],
)
def test_what_prevents_opening_at_start_fails_the_start(folder, flag, expected):
    """Exit code 1 and one line that names the flag."""
    with socket.create_server(("127.0.0.1", 0)) as busy:
        known = {"folder": folder, "port": busy.getsockname()[1]}
        with start(folder, "--manhole.open", flag.format(**known)) as service:
            code, _, err = service.end()
    assert code == 1
    assert err.startswith(f"child: {expected.format(**known)}")
    assert err.count("\n") == 1


def test_a_unix_socket(folder, tmp_path):
    """The command in the log says how to get there; a peer has no address."""
    path = tmp_path / "manhole.sock"
    relay = tmp_path / "relay.py"
    relay.write_text(RELAY)
    with start(folder, "--manhole.open", f"--manhole.listen=unix:{path}:mode=600") as service:
        house = House(service, folder)
        assert house.opened()["ssh"] == f'ssh -o ProxyCommand="nc -U {path}" me@manhole'
        proxy = f"ProxyCommand={sys.executable} {relay} {path}"
        assert house.ssh("1 + 1", options=(proxy,)) == (0, "2\n", "")
        assert service.wait_for("manhole.login")["peer"] == "unix"


# What `nc -U` does, which is not installed everywhere.
RELAY = """
import os, select, socket, sys
remote = socket.socket(socket.AF_UNIX)
remote.connect(sys.argv[1])
while True:
    ready, _, _ = select.select([0, remote], [], [])
    if 0 in ready:
        data = os.read(0, 65536)
        remote.sendall(data) if data else remote.shutdown(socket.SHUT_WR)
        if not data: break
    if remote in ready:
        data = remote.recv(65536)
        if not data: break
        os.write(1, data)
"""


def test_statements_in_threads(folder):
    """With the flag each runs in one, unless it awaits; Ctrl-C ends it, and the reactor answers meanwhile."""
    with start(folder, "--manhole.open", "--manhole.threaded") as service:
        house = House(service, folder)
        house.opened()
        name = "__import__('threading').current_thread().name"
        assert house.ssh(f"({name}[:8])") == (0, "'manhole-'\n", "")
        assert house.ssh(f"! {name}") == (0, "'MainThread'\n", "")
        awaiting = "from twisted.internet import task; await task.deferLater(reactor, 0, lambda: None)"
        assert house.ssh(f"{awaiting}; {name}") == (0, "'MainThread'\n", "")
        assert house.ssh("threads().startswith('MainThread')") == (0, "True\n", "")
        screen = Screen(house.command("-tt"))
        screen.until(">>> ")
        screen.types("n = 0\rwhile True: n += 1; shown = n == 1 and print('be' + 'gun')\r\r")
        screen.until("begun")
        assert house.ssh("1") == (0, "1\n", "")
        screen.types("\x03")
        screen.until("KeyboardInterrupt\n>>> ")
        screen.types("n > 0\r")
        screen.until("\nTrue\n>>> ")
        screen.types("\x04")
        assert screen.exit_code() == 0


def test_everything_is_in_the_log(folder):
    """Toggles, logins, lines, refusals and what a line set off, each with who and from where."""
    with start(folder, "--manhole.open") as service:
        house = House(service, folder)
        house.opened()
        house.ssh("flags.sample.password = 'swordfish'", key="id")
        shown = house.ssh("flags.sample.password, 'sword' 'fish' in repr(flags)")
        assert shown == (0, "('********', False)\n", "")
        house.ssh("1", key="wrong")
        house.ssh("await manhole.close('done')")
        service.wait_for("manhole.closed")
        events = [each for each in service.events if each["event"].startswith(("manhole.", "flags."))]
    named = {"session", "user", "peer", "fingerprint"}
    told = [each for each in events if each["event"] in ("manhole.login", "manhole.line", "manhole.refused")]
    assert [each["event"] for each in told].count("manhole.refused") == 1
    assert all(named <= each.keys() for each in told), told
    (setting,) = [each for each in events if each["event"] == "flags.set"]
    (line,) = [each for each in told if each.get("line") == "flags.sample.password = '********'"]
    assert line["session"] in setting["manhole"]
    assert "swordfish" not in str(service.events)


def test_what_another_object_called_flags_is_given_is_in_the_log(house):
    """Such an object may run a text that is assigned to it: only that of the real flag is a secret."""
    screen = Screen(house.command("-tt"))
    screen.until(">>> ")
    for line in (
        "class Runs: __setattr__ = lambda self, name, text: exec(text)\r",
        "class Other: sample = Runs()\r",
        "globals()['flags'] = Other()\r",
        "flags.sample.password = 'print(6 * 7)'\r",
    ):
        screen.types(line)
        screen.until("... " if line.startswith("class") else "\n>>> ")
        if line.startswith("class"):
            screen.types("\r")
            screen.until(">>> ")
    screen.types("\x04")
    assert screen.exit_code() == 0
    line = ""
    while not line.startswith("flags.sample.password"):
        line = house.service.wait_for("manhole.line")["line"]
    assert line == "flags.sample.password = 'print(6 * 7)'"


def test_the_last_line_of_a_process_is_in_the_log(folder):
    """Nobody can prevent that a line ends the process, but it is known which one did, and whose it was."""
    with start(folder, "--manhole.open") as service:
        house = House(service, folder)
        house.opened()
        assert house.ssh("import os; os._exit(7)")[0] == 255
        assert service.wait_for("manhole.line")["line"] == "import os; os._exit(7)"
        assert service.end()[0] == 7


def test_a_line_waits_until_the_log_is_written(folder, tmp_path):
    """While nobody reads the log, nothing runs; the person is told; then it runs, and nothing is missing."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(reader, True)
    with start(folder, "--manhole.open", f"--log.file={fifo}") as service, os.fdopen(reader, "rb", 0) as log:
        told = b""
        while b"manhole.opened" not in told:
            told += log.read(4096)
        house = House(service, folder)
        house.port = int(re.search(rb"ssh -p (\d+) ", told)[1])
        # More than the pipe holds: what comes after it has to wait.
        fill = "[__import__('logging').getLogger('x').warning('y' * 500) for _ in range(20)] and None"
        assert house.ssh(fill) == (0, "", "")
        waiting = subprocess.Popen(
            house.command("print('ran')"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with waiting:
            assert waiting.stderr.readline() == "\n"
            assert waiting.stderr.readline() == "[waits until the log is written; Ctrl-C ends that]\n"
            assert not select.select([waiting.stdout], [], [], 0)[0]
            before = b""
            while b"print('ran')" not in before:
                before += log.read(4096)
            assert waiting.stdout.read() == "ran\n"
            assert waiting.wait(PATIENCE) == 0
        assert before.count(b"y" * 500) == 20
        assert b"log.lost" not in before


def test_a_unix_socket_is_private(folder, tmp_path):
    """Its mode is 600 when none is chosen."""
    path = tmp_path / "manhole.sock"
    with start(folder, "--manhole.open", f"--manhole.listen=unix:{path}") as service:
        House(service, folder).opened()
        assert path.stat().st_mode & 0o777 == 0o600
