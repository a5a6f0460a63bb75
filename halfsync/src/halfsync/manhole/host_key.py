"""The host key, by which clients know the manhole again: a file, made when there is none.

Nothing here imports conch: the flags layer checks the file while the manhole is closed.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from halfsync.manhole.keys import KeyFileError, check_writers, reason
from halfsync.path_walk import at_once

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_KEY = 1 << 16
"""Bytes that are read of the file."""


def default_host_key(service: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return where the host key is kept when no flag says so: in the state folder, per service.

    systemd.exec(5) for `$STATE_DIRECTORY`, the XDG base directory specification for the other.
    """
    state = environ.get("STATE_DIRECTORY", "").partition(":")[0] or environ.get("XDG_STATE_HOME", "")
    # Of a user without a home, it stays `~`: Path.expanduser would raise, and the manhole may never open.
    root = state if state.startswith("/") else os.path.expanduser("~/.local/state")  # noqa: PTH111
    return str(Path(root) / service / "manhole_host_key")


def read_host_key(path: str) -> bytes:
    """Return the private key of the file, in OpenSSH's format.

    :raises FileNotFoundError: when there is none yet.
    :raises KeyFileError: when it is no ed25519 private key, or not a secret.
    """
    try:
        # A FIFO would block the reactor.
        with open(path, "rb", opener=at_once) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise KeyFileError(f"'{path}': not a file")
            if found.st_uid not in (0, os.geteuid()):
                check_writers(path, found)
            if found.st_mode & 0o077:
                mode = f"{stat.S_IMODE(found.st_mode):04o}"
                raise KeyFileError(f"'{path}': group or others can read it (mode {mode}): chmod 600 {path}")
            data = file.read(MAX_KEY)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise KeyFileError(f"'{path}': {reason(error)}") from None
    _check_private_key(path, data)
    return data


def check_host_key(path: str) -> str | None:
    """Say in one line what is wrong with the host key's file; None when nothing is, or it is to be made."""
    if not path:
        return None
    try:
        read_host_key(path)
    except FileNotFoundError:
        return None
    except KeyFileError as fault:
        return str(fault)
    return None


def load_host_key(path: str) -> bytes:
    """Return the host key, made first when there is none.

    :raises KeyFileError: when it cannot be used or made.
    """
    if path.startswith("~"):
        raise KeyFileError(f"'{path}': this user has no home; name a path that can be written to")
    try:
        return read_host_key(path)
    except FileNotFoundError:
        try:
            _make_host_key(Path(path))
        except OSError as error:
            raise KeyFileError(f"'{path}': cannot be made: {reason(error)}; name a path that can") from None
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
        # TypeError: the key is encrypted, and a service has no terminal to ask for the passphrase.
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
