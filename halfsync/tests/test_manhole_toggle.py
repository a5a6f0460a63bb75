from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace

from structlog.testing import capture_logs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from children import child
from halfsync.life.about import About
from halfsync.life.errors import StartError
from halfsync.life.process import Process
from halfsync.life.sockets import Sockets
from halfsync.manhole import toggle
from halfsync.manhole.invitation import ssh_command, user_name
from halfsync.manhole.toggle import Manhole


class FakeListener:
    """Stands in for the listener: binds nothing, fails when told to, and drains as the real one does."""

    fail = None

    def __init__(self, name, *, flag, endpoints, factory, reactor):
        self.facts = (name, flag, endpoints, reactor)
        self.factory = factory
        self.calls = []

    async def bind(self, _sockets):
        if FakeListener.fail:
            raise StartError(FakeListener.fail)

    async def unbind(self):
        self.calls.append("unbind")

    async def start(self):
        self.factory.doStart()

    async def drain(self):
        self.calls.append("drain")
        await self.factory.drain()

    async def stop(self):
        self.calls.append("stop")
        self.factory.doStop()

    def addresses(self):
        return ["tcp:127.0.0.1:8022"]


class ToggleTests(TestCase):
    """A manhole in time, without a network."""

    def setUp(self):
        self.clock = Clock()
        self.patch(toggle, "Listener", FakeListener)
        self.patch(toggle.time, "time", self.clock.seconds)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.authorized = self.folder / "authorized_keys"
        self.authorized.write_text('# nobody\nfrom="x" ssh-ed25519 AAAA\n')
        self.authorized.chmod(0o600)

    def manhole(self, **changed):
        process = Process(About("svc", "svc", "1", ""), self.clock)
        named = {
            "listen": ["tcp:8022:interface=127.0.0.1"],
            "authorized_keys": str(self.authorized),
            "host_key": str(self.folder / "host"),
            "ttl": 100,
            "user": "me",
        }
        return process.add(Manhole(process, **{**named, **changed}))

    def run_now(self, coroutine):
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def refused(self, coroutine):
        return str(self.failureResultOf(Deferred.fromCoroutine(coroutine), StartError).value)

    def test_closed_at_start(self):
        """Nothing is opened unless it is asked for."""
        manhole = self.manhole()
        self.run_now(manhole.start())
        assert manhole.state() == {"open": False, "addresses": [], "closes_at": None, "sessions": []}
        assert self.clock.getDelayedCalls() == []

    def test_opening_says_how_to_get_in(self):
        """The command is ready to paste, with the host key's fingerprint, and each unusable line is named."""
        manhole = self.manhole()
        with capture_logs() as logs:
            self.run_now(manhole.open())
        opened = next(each for each in logs if each["event"] == "manhole.opened")
        assert (opened["ssh"], opened["ttl"]) == ("ssh -p 8022 me@127.0.0.1", 100)
        command = ["ssh-keygen", "-lf", self.folder / "host"]
        shown = subprocess.run(command, check=True, capture_output=True, text=True)
        assert opened["host_key"] == shown.stdout.split()[1]
        (skipped,) = [each for each in logs if each["event"] == "manhole.key_skipped"]
        assert (skipped["line"], skipped["log_level"]) == (2, "warning")
        assert manhole.state()["closes_at"] == 100
        self.run_now(manhole.stop())
        assert self.clock.getDelayedCalls() == []

    def test_it_closes_itself(self):
        """When its time is over, and not before."""
        manhole = self.manhole()
        self.run_now(manhole.open(60))
        self.clock.advance(59.9)
        assert manhole.state()["open"]
        with capture_logs() as logs:
            self.clock.advance(0.2)
        assert not manhole.state()["open"]
        assert [(each["event"], each["reason"]) for each in logs] == [("manhole.closed", "its time is over")]

    def test_what_has_stopped_does_not_open(self):
        """Nobody would close it: by USR2 or the admin interface, which goes on until the very end."""
        manhole = self.manhole()
        self.run_now(manhole.start())
        self.run_now(manhole.stop())
        assert self.refused(manhole.open()) == "--manhole.open: the process stops"
        assert not manhole.state()["open"]

    def test_a_start_that_fails_closes_what_usr2_has_opened(self):
        """It may be opened to see why the start hangs."""
        manhole = self.manhole()
        manhole.toggle()
        assert manhole.state()["open"]
        self.run_now(manhole.unbind())
        assert not manhole.state()["open"]
        assert self.clock.getDelayedCalls() == []

    def test_opening_twice_extends(self):
        """The time runs from the second opening, and the log says so; the listener is the same."""
        manhole = self.manhole()
        self.run_now(manhole.open(60))
        listener = manhole._listener
        self.clock.advance(50)
        with capture_logs() as logs:
            self.run_now(manhole.open(30))
        assert [(each["event"], each["ttl"]) for each in logs] == [("manhole.extended", 30)]
        assert manhole._listener is listener
        self.clock.advance(29)
        assert manhole.state()["open"]
        self.clock.advance(2)
        assert not manhole.state()["open"]

    def test_toggling(self):
        """Open, closed, open again."""
        manhole = self.manhole()
        for expected in (True, False, True, False):
            manhole.toggle()
            assert manhole.state()["open"] == expected
        assert manhole.counts.opened == 2

    def test_closing_what_is_closed(self):
        """Harmless and silent."""
        with capture_logs() as logs:
            self.run_now(self.manhole().close("no reason"))
        assert logs == []

    def test_what_prevents_opening_is_one_line_that_names_the_flag(self):
        """Each raises StartError and leaves the manhole closed, ready for the next try."""
        missing = str(self.folder / "missing")
        open_key = str(self.folder / "open")
        Path(open_key).touch(0o644)
        for changed, expected in (
            ({"authorized_keys": missing}, f"--manhole.authorized_keys: '{missing}': no such file; put"),
            ({"host_key": open_key}, f"--manhole.host_key: '{open_key}': group or others can read it"),
            ({"listen": []}, "--manhole.listen: empty; name an endpoint"),
        ):
            manhole = self.manhole(**changed)
            message = self.refused(manhole.open())
            assert message.startswith(expected), message
            assert "\n" not in message
            assert not manhole.state()["open"]

    def test_a_busy_port(self):
        """The listener's own words pass through; at start they end the start, at a signal they are a line."""
        self.patch(FakeListener, "fail", "--manhole.listen: 'tcp:8022': address already in use")
        manhole = self.manhole(open_at_start=True)
        assert "already in use" in self.refused(manhole.bind(Sockets()))
        with capture_logs() as logs:
            manhole.toggle()
        assert [(each["event"], each["log_level"], each["problem"]) for each in logs] == [
            ("manhole.open_failed", "error", FakeListener.fail)
        ]
        assert self.clock.getDelayedCalls() == []
        self.patch(FakeListener, "fail", None)
        manhole.toggle()
        assert manhole.state()["open"]

    def test_what_is_to_be_open_from_the_start_is_bound_before_anything_starts(self):
        """A start that fails elsewhere has let nobody in, and leaves nothing bound."""
        manhole = self.manhole(open_at_start=True)
        self.run_now(manhole.bind(Sockets()))
        assert not manhole.state()["open"]
        bound = manhole._bound
        self.run_now(manhole.start())
        assert (manhole._listener, manhole.state()["open"]) == (bound, True)
        self.run_now(manhole.stop())
        other = self.manhole(open_at_start=True)
        self.run_now(other.bind(Sockets()))
        bound = other._bound
        self.run_now(other.unbind())
        assert (other._bound, bound.calls, other.state()["open"]) == (None, ["unbind"], False)

    def test_drain_leaves_it_open_and_stop_closes(self):
        """A drain that hangs is when one wants to look inside."""
        manhole = self.manhole()
        self.run_now(manhole.open())
        listener = manhole._listener
        self.run_now(manhole.drain())
        assert manhole.state()["open"]
        self.run_now(manhole.stop())
        assert (manhole.state()["open"], listener.calls) == (False, ["drain", "stop"])

    def test_whoever_does_not_go_is_cut_off(self):
        """A client that neither reads nor leaves cannot hold up the close."""
        manhole = self.manhole()
        self.run_now(manhole.open())
        aborted = []
        server = manhole._server
        stuck = SimpleNamespace(
            login=None,
            dismiss=aborted.append,
            transport=SimpleNamespace(
                abortConnection=lambda: (aborted.append("abort"), server.forget(stuck))
            ),
        )
        stuck = _Hashable(stuck)
        server.unauthenticated[stuck] = None
        closing = Deferred.fromCoroutine(manhole.close("done"))
        self.assertNoResult(closing)
        self.clock.advance(1)
        self.successResultOf(closing)
        assert aborted == ["done", "abort"]

    def test_an_opening_that_nobody_waits_for_goes_on(self):
        """Whoever gives up waiting, such as a session that closes itself, leaves no half-closed manhole."""
        manhole = self.manhole()
        gate = Deferred()
        self.patch(FakeListener, "start", lambda _: gate)
        opening = Deferred.fromCoroutine(manhole.open())
        opening.addErrback(lambda _: None)
        opening.cancel()
        assert not manhole.state()["open"]
        gate.callback(None)
        assert manhole.state()["open"]
        self.run_now(manhole.stop())


class _Hashable:
    def __init__(self, inner):
        self.__dict__.update(vars(inner))


class CommandTests(TestCase):
    """How to get in."""

    def test_every_kind_of_address(self):
        """The command works on this machine, wherever the manhole listens."""
        for address, expected in (
            ("tcp:127.0.0.1:8022", "ssh -p 8022 me@127.0.0.1"),
            ("tcp:0.0.0.0:8022", "ssh -p 8022 me@127.0.0.1"),
            ("tcp:[::]:8022", "ssh -p 8022 me@::1"),
            ("fd:3 (tcp:10.0.0.1:22)", "ssh -p 22 me@10.0.0.1"),
            ("unix:/run/x y/m.sock", "ssh -o ProxyCommand=\"nc -U '/run/x y/m.sock'\" me@manhole"),
            ("fd:3 (unix:/run/m.sock)", 'ssh -o ProxyCommand="nc -U /run/m.sock" me@manhole'),
        ):
            assert ssh_command(address, "me") == expected

    def test_a_uid_without_a_name(self):
        """A container may run as any number; the name is then `manhole`."""
        assert user_name()
        self.patch(os, "getuid", lambda: 2**31 - 7)
        assert user_name() == "manhole"


CLOSED = """
from halfsync.manhole import Manhole
from twisted.internet import reactor
readers = reactor.getReaders()
manhole = Manhole(Process(ABOUT, reactor), listen=["tcp:0"], authorized_keys="x")
Deferred.fromCoroutine(manhole.start())
ours = "halfsync.manhole."
print(*sorted(m for m in sys.modules if m.startswith(("twisted.conch", "pydoc", "tracemalloc", ours))))
import threading
print(threading.active_count(), "thread")
assert reactor.getReaders() == readers and not reactor.getDelayedCalls()
"""


def test_a_closed_manhole_imports_nothing_of_conch():
    """It costs no memory, no start-up time, no thread, no timer, no port, and no attack surface."""
    with child(CLOSED) as process:
        _, (modules, threads), err = process.end()
        assert modules.split() == [
            f"halfsync.manhole.{each}"
            for each in ("host_key", "invitation", "keys", "login", "options", "toggle")
        ]
        assert (threads, err) == ("1 thread", "")


CHECKED = """
import halfsync.manhole
main(lambda process: None)
"""


def check_config(*argv: str) -> tuple[int, str, str]:
    with child(CHECKED, "--check_config", *argv) as process:
        code, lines, err = process.end()
        return code, "".join(f"{line}\n" for line in lines), err


def test_check_config_looks_at_the_keys(tmp_path):
    """Each file that could not be used is a line; nothing is made."""
    host = tmp_path / "host"
    host.write_text("nonsense")
    host.chmod(0o600)
    code, _, err = check_config(f"--manhole.authorized_keys={tmp_path}/none", f"--manhole.host_key={host}")
    assert code == 2
    assert f"--manhole.authorized_keys: '{tmp_path}/none': no such file" in err
    assert f"--manhole.host_key: '{host}': not a private key" in err
    assert len(list(tmp_path.iterdir())) == 1


def test_check_config_does_not_ask_for_what_may_never_be_used(tmp_path, monkeypatch):
    """Without a word about the manhole, no key file is needed; with --manhole.open it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert check_config() == (0, "ok\n", "")
    code, _, err = check_config("--manhole.open")
    assert (code, "--manhole.authorized_keys" in err) == (2, True)
    assert check_config(f"--manhole.host_key={tmp_path}/to/be/made")[0] == 0
