from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from halfsync.manhole import host_key, keys
from halfsync.manhole.options import Terms

ED = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKfZ0FqLGzlyQEGeaHRyU2yN4yQkvI7jRvGGsbr3gJmF"


def keygen(path: Path, *options: str) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-f", path, *options], check=True)
    return path


def parse(text: str) -> keys.AuthorizedKeys:
    return keys.parse_authorized_keys(text)


def test_fingerprints_are_those_of_ssh_keygen(tmp_path):
    """What the log shows is what a person can compare."""
    path = keygen(tmp_path / "key", "-t", "ed25519")
    shown = subprocess.run(["ssh-keygen", "-lf", path], check=True, capture_output=True, text=True).stdout
    (key,) = parse((tmp_path / "key.pub").read_text()).keys
    assert keys.fingerprint(key.blob) == shown.split()[1]


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_the_types_that_ssh_keygen_makes_are_read(tmp_path, kind):
    """A line goes from ssh-keygen into the file as it is."""
    keygen(tmp_path / "key", "-t", kind, "-C", "me at home")
    (key,) = parse((tmp_path / "key.pub").read_text()).keys
    assert (key.comment, key.terms()) == ("me at home", Terms())


def test_a_file_as_people_keep_it():
    """Comments, blank lines, indentation and CRLF are no keys and no faults; line numbers are the file's."""
    parsed = parse(f"# who\r\n\r\n  {ED} a\r\n\t# more\n{ED}\n")
    assert ([key.line for key in parsed.keys], parsed.faults) == ([3, 5], [])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("restrict", (("restrict", None),)),
        ('from="10.0.0.0/8,!10.1.*",No-PTY', (("from", "10.0.0.0/8,!10.1.*"), ("no-pty", None))),
        (r'command="echo \"a b\", c",restrict', (("command", 'echo "a b", c'), ("restrict", None))),
        ('command="ssh-ed25519 AAAA"', (("command", "ssh-ed25519 AAAA"),)),
        ('environment="A=",from=""', (("environment", "A="), ("from", ""))),
        (r'command="c:\\dir x"', (("command", r"c:\\dir x"),)),
    ],
)
def test_options_are_read_as_sshd_reads_them(options, expected):
    """sshd(8): quoted values may hold spaces and commas, and only a quote is escaped."""
    parsed = parse(f"{options} {ED} me")
    assert not parsed.faults
    assert (parsed.keys[0].options, parsed.keys[0].comment) == (expected, "me")


def test_a_key_with_options_that_are_not_honoured_does_not_get_in():
    """A restriction that is not understood is no permission; the reason names line and options."""
    parsed = parse(f'# x\ncommand="x",restrict,verify-required {ED}\n')
    with pytest.raises(ValueError, match="line 2 of authorized_keys") as caught:
        parsed.admit(parsed.keys[0].blob, "10.0.0.1", 0)
    assert str(caught.value).endswith("options that are not honoured: command, verify-required")
    assert [line for line, _ in parsed.unusable()] == [2]


def test_one_line_that_lets_a_key_in_is_enough():
    """The terms are those of that line."""
    parsed = parse(f'command="x" {ED} no\nfrom="10.0.0.2" {ED} a\nrestrict {ED} b\n')
    assert parsed.admit(parsed.keys[0].blob, "10.0.0.1", 0).comment == "b"
    assert parsed.admit(parsed.keys[0].blob, "10.0.0.2", 0).comment == "a"
    with pytest.raises(ValueError, match="the key is not in authorized_keys"):
        parsed.admit(b"another", "10.0.0.1", 0)


@pytest.mark.parametrize(
    "line",
    [
        "garbage",
        "ssh-ed25519",
        "ssh-ed25519 ",
        "ssh-ed25519 !!!!",
        "ssh-ed25519 AAAA",
        "ssh-rsa " + ED.split()[1],
        "ssh-dss AAAAB3NzaC1kc3MAAACBAP",
        f'command="unterminated {ED}',
        f'command="a\\" {ED}',
        f"from=10.0.0.1 {ED}",
        "restrict",
        'restrict,command="a b"',
        "ssh-ed25519-cert-v01@openssh.com " + ED.split()[1],
        "\x00\x01",
    ],
)
def test_a_line_that_is_no_key_is_a_fault(line):
    """It is told by its number, never by its content, and harms no other line."""
    parsed = parse(f"{line}\n{ED}\n")
    assert [number for number, _ in parsed.faults] == [1]
    assert "AAAA" not in parsed.faults[0][1]
    assert [key.line for key in parsed.keys] == [2]


def test_a_weak_rsa_key_is_a_fault(tmp_path):
    """1024 bits are not enough."""
    keygen(tmp_path / "key", "-t", "rsa", "-b", "1024")
    parsed = parse((tmp_path / "key.pub").read_text())
    assert parsed.faults == [(1, "holds an RSA key of fewer than 2048 bits")]


def test_an_authorized_keys_that_cannot_be_trusted_is_refused(tmp_path):
    """Missing, no file, or writable by others: one line that says what would be right."""
    path = tmp_path / "keys"
    with pytest.raises(keys.KeyFileError, match=r"/keys': no such file; put"):
        keys.read_authorized_keys(str(path))
    with pytest.raises(keys.KeyFileError, match=r"not a file"):
        keys.read_authorized_keys(str(tmp_path))
    path.write_text(ED)
    path.chmod(0o664)
    with pytest.raises(keys.KeyFileError, match=r"\(mode 0664\): chmod go-w .*/keys$"):
        keys.read_authorized_keys(str(path))
    path.chmod(0o644)
    assert len(keys.read_authorized_keys(str(path)).keys) == 1


def test_the_folders_are_judged_as_sshd_does(tmp_path):
    """Whoever can write to one on the way, or make a link there, could replace the file."""
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    path = folder / "keys"
    path.write_text(ED)
    path.chmod(0o600)
    (tmp_path / "a").chmod(0o775)
    with pytest.raises(
        keys.KeyFileError, match=r"/a': group or others can write it \(mode 0775\): chmod go-w"
    ):
        keys.read_authorized_keys(str(path))
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(keys.KeyFileError, match="/a': group or others can write it"):
        keys.read_authorized_keys(str(tmp_path / "link"))
    # Where the sticky bit is set, as on /tmp, what is there stays its owner's.
    (tmp_path / "a").chmod(0o1777)
    assert len(keys.read_authorized_keys(str(path)).keys) == 1
    (tmp_path / "a").chmod(0o755)
    assert len(keys.read_authorized_keys(str(tmp_path / "link")).keys) == 1
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(keys.KeyFileError, match="too many levels of symbolic links"):
        keys.read_authorized_keys(str(tmp_path / "loop"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("given", ["keys", "folder", "link"])
def test_what_belongs_to_somebody_else_is_refused(tmp_path, given):
    """The file, a folder on the way, or a link that names it."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "keys").write_text(ED)
    (folder / "link").symlink_to(folder / "keys")
    os.chown(folder if given == "folder" else folder / given, 12345, -1, follow_symlinks=False)
    with pytest.raises(keys.KeyFileError, match="belongs to uid 12345, not to uid 0"):
        keys.read_authorized_keys(str(folder / "link"))


def test_what_is_checked_is_what_is_read(tmp_path, monkeypatch):
    """A file that is put in its place between the check and the reading is not seen."""
    path = tmp_path / "keys"
    path.write_text(ED)
    path.chmod(0o600)
    check = keys.check_writers

    def replace(name, found):
        check(name, found)
        if name == str(path):
            path.rename(tmp_path / "before")
            path.write_text(f"{ED}\n{ED}")

    monkeypatch.setattr(keys, "check_writers", replace)
    assert len(keys.read_authorized_keys(str(path)).keys) == 1


def test_a_fifo_holds_up_nobody(tmp_path):
    """It is no file."""
    os.mkfifo(tmp_path / "keys", 0o600)
    with pytest.raises(keys.KeyFileError, match="not a file"):
        keys.read_authorized_keys(str(tmp_path / "keys"))


def test_a_host_key_is_made_once(tmp_path):
    """An ed25519 key that OpenSSH reads, mode 600 in a folder of mode 700, and the same ever after."""
    path = tmp_path / "state" / "host"
    made = host_key.load_host_key(str(path))
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert host_key.load_host_key(str(path)) == made
    assert [each.name for each in path.parent.iterdir()] == ["host"]
    shown = subprocess.run(["ssh-keygen", "-lf", path], check=True, capture_output=True, text=True).stdout
    assert "(ED25519)" in shown


def test_of_two_makers_of_a_host_key_both_use_the_first(tmp_path):
    """Processes that share the path have one identity."""
    path = tmp_path / "host"
    host_key._make_host_key(path)
    first = path.read_bytes()
    host_key._make_host_key(path)
    assert path.read_bytes() == first
    assert len(list(tmp_path.iterdir())) == 1


def test_a_host_key_that_is_no_secret_is_refused(tmp_path):
    """The message is the command that puts it right."""
    path = tmp_path / "host"
    host_key.load_host_key(str(path))
    path.chmod(0o640)
    with pytest.raises(keys.KeyFileError, match=r"\(mode 0640\): chmod 600 .*/host$"):
        host_key.load_host_key(str(path))


@pytest.mark.parametrize("content", [b"", b"nonsense", b"-----BEGIN OPENSSH PRIVATE KEY-----\n"])
def test_a_host_key_that_is_none_is_refused(tmp_path, content):
    """It is not replaced either: it may be somebody's."""
    path = tmp_path / "host"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(keys.KeyFileError, match="not a private key that can be read; make one"):
        host_key.load_host_key(str(path))
    assert path.read_bytes() == content


def test_a_host_key_of_another_kind_is_refused(tmp_path):
    """An RSA or an encrypted key cannot serve."""
    with pytest.raises(keys.KeyFileError, match="not an ed25519 key"):
        host_key.load_host_key(str(keygen(tmp_path / "rsa", "-t", "rsa")))
    locked = keygen(tmp_path / "locked", "-t", "ed25519")
    subprocess.run(
        ["ssh-keygen", "-q", "-p", "-N", "secret", "-f", locked], check=True, stdout=subprocess.DEVNULL
    )
    with pytest.raises(keys.KeyFileError, match="not a private key that can be read"):
        host_key.load_host_key(str(locked))


def test_a_host_key_that_cannot_be_made(tmp_path):
    """The reason is the system's, in one line."""
    (tmp_path / "file").touch()
    with pytest.raises(keys.KeyFileError, match="not a directory"):
        host_key.load_host_key(str(tmp_path / "file" / "host"))


def test_a_folder_in_the_place_of_the_key_costs_no_descriptor(tmp_path):
    """Each opening of the manhole reads it again."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(keys.KeyFileError, match="is a directory"):
        host_key.read_host_key(str(tmp_path))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (
            {"STATE_DIRECTORY": "/var/lib/a:/var/lib/b", "XDG_STATE_HOME": "/x"},
            "/var/lib/a/svc/manhole_host_key",
        ),
        ({"XDG_STATE_HOME": "/x"}, "/x/svc/manhole_host_key"),
        ({"XDG_STATE_HOME": "relative"}, "~/.local/state/svc/manhole_host_key"),
        ({}, "~/.local/state/svc/manhole_host_key"),
    ],
)
def test_where_the_host_key_is_kept(environ, expected):
    """systemd's state folder before the user's; a relative path is none (XDG base directory)."""
    assert host_key.default_host_key("svc", environ) == str(Path(expected).expanduser())
