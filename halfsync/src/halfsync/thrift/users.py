"""The users of the RPC listener: a file of names and salted keys, from which no password can be had.

    # comment
    anna:SCRAM-SHA-256$16384:<salt>$<StoredKey>:<ServerKey>

The keys are those of RFC 5802, in PostgreSQL's notation; salt and keys are base64.
The file must be the service's own and closed to all others (mode 600), is read at each login,
and is replaced as a whole, so that no login ever sees half of it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import secrets
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scramp import ScramException, ScramMechanism
from scramp.utils import saslprep

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ITERATIONS = 16_384
"""Of PBKDF2. The client pays for it (8 ms), once a connection; RFC 7677 wants at least 4,096."""

LARGEST = 1024 * 1024
"""Bytes of the file, which is read at each login."""

_LINE = re.compile(r"([^:\s][^:]*):SCRAM-SHA-256\$(\d{4,7}):([^$:]+)\$([^:]+):([^:]+)")
_SEED = re.compile(r"# seed ([0-9a-f]{32,})")


class UsersError(Exception):
    """The file of users cannot be used. One line that names it, for a person."""


class WrongNameError(UsersError):
    """A name is none for a user, or there is nobody of that name. No other try would end better."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What a server keeps of a password."""

    salt: bytes
    stored_key: bytes
    server_key: bytes
    iterations: int

    def __repr__(self) -> str:
        return "<keys>"

    @classmethod
    def of(cls, password: str) -> Keys:
        """Make the keys of a password, with a new salt.

        :raises ScramException: when it holds characters that SASLprep (RFC 4013) prohibits.
        """
        mechanism = ScramMechanism("SCRAM-SHA-256")
        return cls(*mechanism.make_auth_info(password, iteration_count=ITERATIONS, salt=os.urandom(16)))

    def matches(self, password: str) -> bool:
        """Say whether they are those of a password; takes as long either way."""
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), self.salt, self.iterations)
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        return hmac.compare_digest(hashlib.sha256(client_key).digest(), self.stored_key)


def check_name(name: str) -> None:
    """Find out whether a user may have a name.

    :raises WrongNameError: when none may.
    """
    if not name or ":" in name or name.startswith("#") or not name.isprintable() or name != name.strip():
        raise WrongNameError(f"{name!r} is no name of a user: printable, and without a colon")
    try:
        spelled = saslprep(name)
    except ScramException as error:
        raise WrongNameError(f"{name!r} is no name of a user: SASLprep (RFC 4013) prohibits it") from error
    if spelled != name:
        raise WrongNameError(f"{name!r} is not how SASLprep (RFC 4013) spells it; write {spelled!r}")


class Users:
    """The file of users."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._seed = secrets.token_bytes(32)

    def keys(self, name: str) -> Keys:
        """Return the keys of a user, from the file as it is now.

        For a name that nobody has, they are made up, the same each time: nothing tells the two apart.
        :raises UsersError: when the file cannot be read, or is open to others.
        """
        seed = self._seed
        for line in self._lines():
            match = _LINE.fullmatch(line)
            if match is None:
                said = _SEED.fullmatch(line)
                seed = bytes.fromhex(said[1]) if said else seed
            elif match[1] == name:
                return self._read_keys(match)
        salt = hmac.digest(seed, b"salt " + name.encode(), "sha256")[:16]
        return Keys(salt, secrets.token_bytes(32), secrets.token_bytes(32), ITERATIONS)

    def verify(self) -> None:
        """Find what would prevent logins.

        :raises UsersError: when something would, a line that is none included.
        """
        for number, line in enumerate(self._lines(), 1):
            if line and not line.startswith("#"):
                match = _LINE.fullmatch(line)
                if match is None:
                    raise UsersError(
                        f"{self.path}: line {number} is no user; `run rpc-user add NAME` makes one"
                    )
                self._read_keys(match)

    def add(self, name: str, keys: Keys) -> None:
        """Put a user into the file, in the place of the one of the same name.

        What root does is done for the service: the file stays its owner's, a new one is the folder's owner's.
        :raises WrongNameError: when the name is none; UsersError, when the file cannot be read or written.
        """
        check_name(name)
        lines = self._all() if Path(self.path).exists() else [f"# seed {secrets.token_hex(32)}"]
        fields = (keys.salt, keys.stored_key, keys.server_key)
        salt, stored, server = (base64.b64encode(each).decode("ascii") for each in fields)
        made = f"{name}:SCRAM-SHA-256${keys.iterations}:{salt}${stored}:{server}"
        self._replace([*(line for line in lines if _name(line) != name), made])

    def remove(self, name: str) -> None:
        """Take a user out of the file; who is logged in stays so. The file stays its owner's, as with `add`.

        :raises WrongNameError: when there is no such user; UsersError, when the file cannot be used.
        """
        lines = self._all()
        kept = [line for line in lines if _name(line) != name]
        if len(kept) == len(lines):
            raise WrongNameError(f"{self.path} has no user {name!r}; `run rpc-user list` says who there is")
        self._replace(kept)

    def names(self) -> list[str]:
        """Return who is in the file, in its order.

        :raises UsersError: when the file cannot be read.
        """
        return [name for line in self._all() if (name := _name(line))]

    def _all(self) -> list[str]:
        return list(self._lines(for_root=True))

    def _replace(self, lines: Sequence[str]) -> None:
        path = Path(self.path)
        try:
            # mkstemp makes it with mode 600.
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as out:
                    if os.geteuid() == 0:
                        owner = (path if path.exists() else path.parent).stat()
                        os.fchown(out.fileno(), owner.st_uid, owner.st_gid)
                    out.write("\n".join(lines) + "\n")
                    out.flush()
                    os.fsync(out.fileno())
                Path(temporary).replace(path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise UsersError(f"cannot write {self.path}: {error.strerror}") from error

    def _lines(self, *, for_root: bool = False) -> Iterator[str]:
        try:
            with Path(self.path).open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                    mode = stat.S_IMODE(status.st_mode)
                    raise UsersError(
                        f"{self.path} has mode {mode:03o}, and others may see it; it must be 600"
                    )
                if status.st_uid not in (os.geteuid(), 0) and not (for_root and os.geteuid() == 0):
                    raise UsersError(f"{self.path} belongs to another user (uid {status.st_uid})")
                text = file.read(LARGEST + 1)
        except OSError as error:
            raise UsersError(f"cannot read {self.path}: {error.strerror}") from error
        if len(text) > LARGEST:
            raise UsersError(f"{self.path} is longer than {LARGEST} bytes")
        try:
            yield from text.decode("utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise UsersError(f"{self.path} is not UTF-8 text at byte {error.start}") from error

    def _read_keys(self, match: re.Match[str]) -> Keys:
        try:
            salt, stored, server = (base64.b64decode(match[each], validate=True) for each in (3, 4, 5))
        except binascii.Error as error:
            raise UsersError(f"{self.path}: the keys of {match[1]!r} are damaged") from error
        if len(stored) != 32 or len(server) != 32 or len(salt) < 12:
            raise UsersError(f"{self.path}: the keys of {match[1]!r} are damaged")
        return Keys(salt, stored, server, int(match[2]))


def _name(line: str) -> str:
    """Return whose line it is; nothing for a comment and what has no keys."""
    name, colon, _ = line.partition(":")
    return name if colon and not line.startswith("#") else ""
