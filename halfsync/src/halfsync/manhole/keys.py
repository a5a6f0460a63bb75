"""Keys as files: who may enter (`authorized_keys`), and the key by which the manhole is known (the host key).

Nothing here imports conch: the flags layer checks these files while the manhole is closed.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from halfsync.manhole.options import Terms, terms
from halfsync.path_walk import open_by_steps

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_FILE = 1 << 20
"""Bytes; a longer `authorized_keys` is refused, since it is read in the reactor at each login."""

MIN_RSA_BITS = 2048

TYPES = frozenset(
    {
        "ssh-ed25519",
        "ssh-rsa",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    }
)
"""The types of key that may enter."""


class KeyFileError(Exception):
    """A file of keys cannot be used. One line that names the file and what would be right."""


@dataclass(frozen=True, slots=True)
class AuthorizedKey:
    """A line of `authorized_keys`."""

    line: int
    options: tuple[tuple[str, str | None], ...]
    """Name in lower case, and value without its quotes, in the order of the line."""
    type: str
    blob: bytes
    comment: str

    def terms(self) -> Terms:
        """Return on what terms the key may enter.

        :raises ValueError: when the line asks for what is not honoured.
        """
        try:
            return terms(self.options)
        except ValueError as error:
            raise ValueError(f"line {self.line} of authorized_keys has {error}") from None


@dataclass(frozen=True, slots=True)
class AuthorizedKeys:
    """What an `authorized_keys` file says."""

    keys: list[AuthorizedKey]
    faults: list[tuple[int, str]]
    """(line number, what is wrong with it); never with the line's own text."""

    def admit(self, blob: bytes, address: str | None, now: float) -> AuthorizedKey:
        """Return the first line that lets a key in.

        :param address: the peer's IP address; None when it has none.
        :raises ValueError: with the reason when none does.
        """
        refusals = []
        for key in self.keys:
            if key.blob == blob:
                try:
                    refusal = key.terms().refusal(address, now)
                except ValueError as error:
                    refusal = str(error)
                if refusal is None:
                    return key
                refusals.append(refusal)
        raise ValueError(refusals[0] if refusals else "the key is not in authorized_keys")

    def unusable(self) -> list[tuple[int, str]]:
        """Return (line number, why) of every line that lets nobody in."""
        refused = []
        for key in self.keys:
            try:
                key.terms()
            except ValueError as error:
                refused.append((key.line, str(error)))
        return sorted([*self.faults, *refused])


def fingerprint(blob: bytes) -> str:
    """Return a public key's fingerprint as `ssh-keygen -l` prints it."""
    return "SHA256:" + base64.b64encode(sha256(blob).digest()).decode().rstrip("=")


# authorized_keys: sshd(8), AUTHORIZED_KEYS FILE FORMAT

_TYPE = re.compile(r"(?:ssh|ecdsa|sk)-[\w@.-]+(?=\s)")
# In a quoted value only `\"` is an escape; the possessive `*+` keeps a `\"` from ending it on a second try.
_OPTION = r'[A-Za-z0-9-]+(?:="(?:\\"|[^"])*+")?'
_OPTIONS = re.compile(rf"{_OPTION}(?:,{_OPTION})*(?=\s)")
_EACH_OPTION = re.compile(r'([A-Za-z0-9-]+)(?:="((?:\\"|[^"])*+)")?')


def parse_authorized_keys(text: str) -> AuthorizedKeys:
    """Read the text of an `authorized_keys` file; a line that cannot be read is a fault, not an error."""
    parsed = AuthorizedKeys([], [])
    for number, line in enumerate(text.split("\n"), start=1):
        content = line.strip()
        if not content or content.startswith("#"):
            continue
        try:
            parsed.keys.append(_parse_line(number, content))
        except ValueError as error:
            parsed.faults.append((number, str(error)))
    return parsed


def _parse_line(number: int, line: str) -> AuthorizedKey:
    options: tuple[tuple[str, str | None], ...] = ()
    if not _TYPE.match(line):
        match = _OPTIONS.match(line)
        if not match:
            raise ValueError("is neither a key nor options and a key")
        options = tuple(
            (name.lower(), value.replace('\\"', '"') if quoted else None)
            for name, value, quoted in (
                (each[1], each[2] or "", each[2] is not None) for each in _EACH_OPTION.finditer(match[0])
            )
        )
        line = line[match.end() :].lstrip()
    kind, encoded, comment = (*line.split(None, 2), "", "", "")[:3]
    if kind not in TYPES:
        raise ValueError("has a type of key that is not taken" if _TYPE.match(line) else "holds no key")
    try:
        blob = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise ValueError("holds a key that is not base64") from None
    fields = _fields(blob)
    if not fields or fields[0] != kind.encode():
        raise ValueError("holds a key of another type than it says")
    if kind == "ssh-rsa" and (
        len(fields) < 3 or int.from_bytes(fields[2], "big").bit_length() < MIN_RSA_BITS
    ):
        raise ValueError(f"holds an RSA key of fewer than {MIN_RSA_BITS} bits")
    return AuthorizedKey(number, options, kind, blob, comment)


def _fields(blob: bytes) -> list[bytes]:
    """Take apart a public key: strings, each after its length (RFC 4251, section 5)."""
    fields = []
    while len(blob) >= 4:
        end = 4 + int.from_bytes(blob[:4], "big")
        if end > len(blob):
            return []
        fields.append(blob[4:end])
        blob = blob[end:]
    return [] if blob else fields


def read_authorized_keys(path: str) -> AuthorizedKeys:
    """Read which keys may log in, on the terms of sshd's StrictModes.

    The file and every folder and link on the way to it must be this user's or root's, and nobody else may write them.
    A folder with the sticky bit, such as /tmp, may be anyone's to write: what is in it stays its owner's.
    :raises KeyFileError: when the file is missing, cannot be read, or others could add themselves to it.
    """
    try:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
        descriptor = open_by_steps(path, flags, on_folder=_check_folder, on_link=_check_link)
        with open(descriptor, "rb") as file:  # noqa: PTH123  a descriptor
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise KeyFileError(f"'{path}': not a file; wanted is a list of public keys, one a line")
            _check_writers(path, found)
            data = file.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            raise KeyFileError(f"'{path}': larger than {MAX_FILE} bytes")
        return parse_authorized_keys(data.decode("utf-8", "replace"))
    except FileNotFoundError:
        raise KeyFileError(
            f"'{path}': no such file; put the public keys that may enter there, one a line"
        ) from None
    except OSError as error:
        raise KeyFileError(f"'{path}': {_reason(error)}") from None


def _check_writers(path: str, found: os.stat_result) -> None:
    if found.st_uid not in (0, os.geteuid()):
        ours = f"uid {os.geteuid()}" + (" or root" if os.geteuid() else "")
        raise KeyFileError(
            f"'{path}': belongs to uid {found.st_uid}, and must belong to {ours}: chown {path}"
        )
    if found.st_mode & 0o022:
        mode = f"{stat.S_IMODE(found.st_mode):04o}"
        raise KeyFileError(f"'{path}': group or others can write it (mode {mode}): chmod go-w {path}")


def _check_folder(path: str, folder: os.stat_result) -> None:
    if not (folder.st_mode & stat.S_ISVTX and folder.st_uid in (0, os.geteuid())):
        _check_writers(path, folder)


def _check_link(path: str, _folder: os.stat_result, link: os.stat_result) -> None:
    if link.st_uid not in (0, os.geteuid()):
        _check_writers(path, link)


# The host key


def default_host_key(service: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return where the host key is kept when no flag says so: in the state folder, per service.

    systemd.exec(5) for `$STATE_DIRECTORY`, the XDG base directory specification for the other.
    """
    state = environ.get("STATE_DIRECTORY", "").partition(":")[0] or environ.get("XDG_STATE_HOME", "")
    root = Path(state) if state.startswith("/") else Path("~/.local/state").expanduser()
    return str(root / service / "manhole_host_key")


def read_host_key(path: str) -> bytes:
    """Return the private key of the file, in OpenSSH's format.

    :raises FileNotFoundError: when there is none yet.
    :raises KeyFileError: when it is no ed25519 private key, or not a secret.
    """
    try:
        # A FIFO would block the reactor, hence O_NONBLOCK.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123  a descriptor
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise KeyFileError(f"'{path}': not a file")
            if found.st_uid not in (0, os.geteuid()):
                _check_writers(path, found)
            if found.st_mode & 0o077:
                mode = f"{stat.S_IMODE(found.st_mode):04o}"
                raise KeyFileError(f"'{path}': group or others can read it (mode {mode}): chmod 600 {path}")
            data = file.read(MAX_FILE)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise KeyFileError(f"'{path}': {_reason(error)}") from None
    _check_private_key(path, data)
    return data


def load_host_key(path: str) -> bytes:
    """Return the host key, made first when there is none.

    :raises KeyFileError: when it cannot be used or made.
    """
    try:
        return read_host_key(path)
    except FileNotFoundError:
        try:
            _make_host_key(Path(path))
        except OSError as error:
            raise KeyFileError(f"'{path}': cannot be made: {_reason(error)}; name a path that can") from None
    try:
        return read_host_key(path)
    except FileNotFoundError:
        raise KeyFileError(f"'{path}': disappeared") from None


def _check_private_key(path: str, data: bytes) -> None:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  costs 30 ms; only who opens pays
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415  the same
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key  # noqa: PLC0415  the same

    right = f"make one by: ssh-keygen -t ed25519 -N '' -f {path}"
    try:
        key = load_ssh_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # TypeError: it is encrypted, and there is nobody to ask for its passphrase.
        raise KeyFileError(f"'{path}': not a private key that can be read; {right}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"'{path}': not an ed25519 key; {right}")


def _make_host_key(path: Path) -> None:
    """Make a key that is never seen half-written; of two processes that try, both use the first one's."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415  only who opens pays
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415  the same

    data = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(handle, "wb") as file:  # noqa: PTH123  a descriptor
            file.write(data)
            file.flush()
            os.fsync(handle)
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        Path(temporary).unlink()


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
