"""`authorized_keys`: which keys may log in, and on what terms.

Nothing here imports conch: the flags layer checks these files while the manhole is closed.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
from dataclasses import dataclass
from hashlib import sha256

from halfsync.manhole.options import Terms, terms
from halfsync.path_walk import open_by_steps

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
        """Return (line number, why) of every line that no key can log in by."""
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

    The file and every folder and link on the way to it must be this user's or root's alone to write.
    A folder with the sticky bit, such as /tmp, may be anyone's to write: what is in it stays its owner's.
    :raises KeyFileError: when the file is missing, cannot be read, or others could add themselves to it.
    """
    try:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
        descriptor = open_by_steps(path, flags, on_folder=_check_folder, on_link=_check_link)
        try:
            data = _read(path, descriptor)
        finally:
            os.close(descriptor)
        if len(data) > MAX_FILE:
            raise KeyFileError(f"'{path}': larger than {MAX_FILE} bytes")
        return parse_authorized_keys(data.decode("utf-8", "replace"))
    except FileNotFoundError:
        raise KeyFileError(
            f"'{path}': no such file; put the public keys that may enter there, one a line"
        ) from None
    except OSError as error:
        raise KeyFileError(f"'{path}': {reason(error)}") from None


def _read(path: str, descriptor: int) -> bytes:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise KeyFileError(f"'{path}': not a file; wanted is a list of public keys, one a line")
    check_writers(path, found)
    return os.read(descriptor, MAX_FILE + 1)


def check_writers(path: str, found: os.stat_result) -> None:
    """Make sure that nobody but this user and root can write to a file or folder.

    :raises KeyFileError: naming the path and what is wrong with it.
    """
    if found.st_uid not in (0, os.geteuid()):
        ours = f"uid {os.geteuid()}" + (" or root" if os.geteuid() else "")
        raise KeyFileError(f"'{path}': belongs to uid {found.st_uid}, not to {ours}: chown it")
    if found.st_mode & 0o022:
        mode = f"{stat.S_IMODE(found.st_mode):04o}"
        raise KeyFileError(f"'{path}': group or others can write it (mode {mode}): chmod go-w {path}")


def _check_folder(path: str, folder: os.stat_result) -> None:
    if not (folder.st_mode & stat.S_ISVTX and folder.st_uid in (0, os.geteuid())):
        check_writers(path, folder)


def _check_link(path: str, _folder: os.stat_result, link: os.stat_result) -> None:
    if link.st_uid not in (0, os.geteuid()):
        check_writers(path, link)


def reason(error: OSError) -> str:
    """Return what the system says, for the middle of a line."""
    return (error.strerror or str(error)).lower()
