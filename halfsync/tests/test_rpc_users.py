"""The file of users: what is written is what logs in, and what others may see is not read."""

from __future__ import annotations

import io
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from halfsync.life.errors import StartError, WrongFlagsError
from halfsync.thrift import rpc_user as module
from halfsync.thrift.users import Keys, Users, UsersError, WrongNameError


@pytest.fixture
def users(tmp_path):
    return Users(str(tmp_path / "users"))


def test_round_trip(users):
    """A user who was added is found, with keys of the password, and no password is in the file."""
    users.add("anna", Keys.of("pencil"))
    users.add("bob", Keys.of("paper"))
    users.add("anna", Keys.of("rubber"))
    assert users.keys("anna").matches("rubber")
    assert not users.keys("anna").matches("pencil")
    assert users.keys("bob").matches("paper")
    text = Path(users.path).read_text()
    assert "rubber" not in text
    assert text.count("anna:") == 1
    assert Path(users.path).stat().st_mode & 0o777 == 0o600
    users.verify()


def test_made_up(users):
    """Nobody's keys have the same salt each time, in another process too, and match nothing."""
    users.add("anna", Keys.of("pencil"))
    one, two = users.keys("nobody"), Users(users.path).keys("nobody")
    assert (one.salt, one.iterations) == (two.salt, two.iterations)
    assert not one.matches("")
    assert users.keys("other").salt != one.salt


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_open_to_others(users, mode):
    users.add("anna", Keys.of("pencil"))
    Path(users.path).chmod(mode)
    with pytest.raises(UsersError, match="must be 600"):
        users.keys("anna")


@pytest.mark.parametrize("line", ["anna", "anna:SCRAM-SHA-256$4096:x$y:z", "a:b:c"])
def test_damaged(users, line):
    """A line that is no user is found at the start."""
    Path(users.path).write_text(line + "\n")
    Path(users.path).chmod(0o600)
    with pytest.raises(UsersError):
        users.verify()


@pytest.mark.parametrize("name", ["", "a:b", "#x", " x", "a\nb", "\u2168", "a\u0627b"])
def test_names(users, name, monkeypatch):
    """What is no name is refused, by the command with exit code 2 and before it asks for a password."""
    with pytest.raises(WrongNameError):
        users.add(name, Keys.of("x"))
    monkeypatch.setattr(module, "FLAGS", SimpleNamespace(users=users.path))
    monkeypatch.setattr(module, "_password", lambda _: pytest.fail("a password was asked for"))
    with pytest.raises(WrongFlagsError):
        module.rpc_user(["add", name])
    assert not Path(users.path).exists()


def test_removed(users):
    """Who is removed is gone; the others, the comments and the made-up salts stay, and so does the mode."""
    for name in ("anna", "bob", "zoë"):
        users.add(name, Keys.of("pencil"))
    with Path(users.path).open("a") as file:
        file.write("# anna:  a comment\n")
    made_up = users.keys("nobody").salt
    users.remove("anna")
    assert users.names() == ["bob", "zoë"]
    assert not users.keys("anna").matches("pencil")
    assert users.keys("bob").matches("pencil")
    assert users.keys("nobody").salt == made_up
    assert "# anna:  a comment\n" in Path(users.path).read_text()
    assert Path(users.path).stat().st_mode & 0o777 == 0o600
    assert list(Path(users.path).parent.iterdir()) == [Path(users.path)]
    before = Path(users.path).read_bytes()
    with pytest.raises(WrongNameError, match="no user 'anna'"):
        users.remove("anna")
    assert Path(users.path).read_bytes() == before
    users.remove("bob")
    users.remove("zoë")
    assert users.names() == []
    users.verify()


def test_a_full_disk_changes_nothing(users, monkeypatch):
    """When the new file cannot take the old one's place, the old one stays, and the line says why."""
    users.add("anna", Keys.of("pencil"))
    before = Path(users.path).read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsersError, match="No space left on device"):
        users.remove("anna")
    assert Path(users.path).read_bytes() == before
    assert list(Path(users.path).parent.iterdir()) == [Path(users.path)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_root_adds_for_the_service(users):
    """The file is the folder's owner's, and stays its own; at a login it must not be somebody else's."""
    path = Path(users.path)
    path.parent.chmod(0o755)
    os.chown(path.parent, 4711, 4712)
    users.add("anna", Keys.of("pencil"))
    assert (path.stat().st_uid, path.stat().st_gid, path.stat().st_mode & 0o777) == (4711, 4712, 0o600)
    os.chown(path, 4713, 4712)
    users.add("bert", Keys.of("pencil"))
    assert path.stat().st_uid == 4713
    users.remove("bert")
    assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (4713, 0o600)
    assert users.names() == ["anna"]
    with pytest.raises(UsersError, match="belongs to another user"):
        users.keys("anna")


def test_command(users, monkeypatch, capsys):
    """The command takes the password from a pipe, and needs the flag."""

    class Flags:
        users = ""

    monkeypatch.setattr(module, "FLAGS", Flags)
    monkeypatch.setattr("sys.stdin", io.StringIO("pencil\n"))
    for wrong in ([], ["add"], ["add", "a", "b"], ["remove"], ["list", "anna"], ["rename", "anna"]):
        assert module.rpc_user(wrong) == 2
        assert capsys.readouterr().err == "usage: run rpc-user add NAME | remove NAME | list\n"
    with pytest.raises(StartError, match=r"--rpc\.users"):
        module.rpc_user(["add", "anna"])
    Flags.users = users.path
    assert module.rpc_user(["add", "anna"]) == 0
    assert users.keys("anna").matches("pencil")
    assert capsys.readouterr().out == "anna may log in from now on\n"
    assert module.rpc_user(["list"]) == 0
    # As it is: names, and nothing of their keys.
    assert capsys.readouterr().out == "anna\n"
    assert module.rpc_user(["remove", "anna"]) == 0
    assert capsys.readouterr().out == "anna may not log in any more; connections that are open stay so\n"
    with pytest.raises(WrongFlagsError) as refused:
        module.rpc_user(["remove", "anna"])
    assert refused.value.exit_code == 2
    assert str(refused.value) == f"{users.path} has no user 'anna'; `run rpc-user list` says who there is"
    assert module.rpc_user(["list"]) == 0
    assert capsys.readouterr().out == ""


def test_names_that_a_terminal_would_obey(users, monkeypatch, capsys):
    """A name with control characters is listed escaped."""
    users.add("anna", Keys.of("pencil"))
    text = Path(users.path).read_text()
    Path(users.path).write_text(text + text.splitlines()[-1].replace("anna", "\x1b[2Jeve") + "\n")
    monkeypatch.setattr(module, "FLAGS", SimpleNamespace(users=users.path))
    assert module.rpc_user(["list"]) == 0
    assert capsys.readouterr().out == "anna\n'\\x1b[2Jeve'\n"


def test_without_a_file(users, monkeypatch):
    """There is nobody to list or remove, and no file is made."""
    monkeypatch.setattr(module, "FLAGS", SimpleNamespace(users=users.path))
    for arguments in (["list"], ["remove", "anna"]):
        with pytest.raises(StartError, match="No such file"):
            module.rpc_user(arguments)
    assert not Path(users.path).exists()
