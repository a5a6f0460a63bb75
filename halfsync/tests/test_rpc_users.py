"""The file of users: what is written is what logs in, and what others may see is not read."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from halfsync.life.errors import StartError
from halfsync.thrift import rpc_user as module
from halfsync.thrift.users import Keys, Users, UsersError


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


@pytest.mark.parametrize("name", ["", "a:b", "#x", " x", "a\nb"])
def test_names(users, name):
    with pytest.raises(UsersError):
        users.add(name, Keys.of("x"))


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
    with pytest.raises(UsersError, match="belongs to another user"):
        users.keys("anna")


def test_command(users, monkeypatch, capsys):
    """The command takes the password from a pipe, and needs the flag."""

    class Flags:
        users = ""

    monkeypatch.setattr(module, "FLAGS", Flags)
    monkeypatch.setattr("sys.stdin", io.StringIO("pencil\n"))
    assert module.rpc_user(["remove", "anna"]) == 2
    with pytest.raises(StartError, match=r"--rpc\.users"):
        module.rpc_user(["add", "anna"])
    Flags.users = users.path
    assert module.rpc_user(["add", "anna"]) == 0
    assert users.keys("anna").matches("pencil")
