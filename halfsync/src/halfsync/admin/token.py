"""The token of the admin interface: a secret in a file, read again whenever one is shown."""

from __future__ import annotations

import hmac
import os
import stat

from halfsync.logs import get_logger

log = get_logger(__name__)

MAX_TOKEN = 4096
"""Bytes of the file that are read."""


class TokenError(Exception):
    """The file of the token cannot be used. One line, for a person."""


def read_token(path: str) -> bytes:
    """Return the token: the first line of a file that nobody else can write to.

    :raises TokenError: naming the file and what is wrong with it.
    """
    try:
        # O_NONBLOCK: a FIFO would block the reactor.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise TokenError(f"{path!r}: {(error.strerror or str(error)).lower()}") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise TokenError(f"{path!r}: not a file; wanted is one whose first line is the token")
        if found.st_mode & 0o022:
            mode = f"{stat.S_IMODE(found.st_mode):04o}"
            raise TokenError(f"{path!r}: group or others can write it (mode {mode}): chmod 600 {path}")
        token = os.read(descriptor, MAX_TOKEN).partition(b"\n")[0].strip()
    except OSError as error:
        raise TokenError(f"{path!r}: {(error.strerror or str(error)).lower()}") from None
    finally:
        os.close(descriptor)
    if not token:
        raise TokenError(f"{path!r}: its first line is empty; wanted is the token")
    return token


def check_token_file(path: str) -> str | None:
    """Say in one line what is wrong with the file of the token; None when nothing is, or it has no name."""
    try:
        if path:
            read_token(path)
    except TokenError as error:
        return str(error)
    return None


def is_token(path: str, authorization: str | None) -> bool:
    """Say whether an Authorization header has the token (RFC 6750).

    :raises TokenError: when there is none to compare with.
    """
    scheme, _, shown = (authorization or "").partition(" ")
    token = read_token(path)
    return scheme.lower() == "bearer" and hmac.compare_digest(shown.strip().encode(), token)
