"""The command `rpc-user`: `run rpc-user add NAME` puts a user into the file of `--rpc.users`."""

from __future__ import annotations

import sys
from getpass import getpass
from typing import TYPE_CHECKING

from scramp import ScramException

from halfsync.life.errors import StartError, WrongFlagsError
from halfsync.thrift.listener import FLAGS
from halfsync.thrift.users import Keys, Users, UsersError

if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE = 2


def rpc_user(arguments: Sequence[str]) -> int:
    """Add a user of RPC, or give one a new password: `add NAME`.

    The password is asked for twice at a terminal; from a pipe it is the first line.
    :raises StartError: when the file or the password cannot be used.
    """
    if len(arguments) != 2 or arguments[0] != "add":
        print("usage: run rpc-user add NAME", file=sys.stderr)  # noqa: T201  for the person who called it
        return USAGE
    name = arguments[1]
    if not FLAGS.users:
        raise WrongFlagsError("--rpc.users: is empty; it names the file of users")
    password = _password(name)
    if not password:
        raise StartError("an empty password is none")
    try:
        Users(FLAGS.users).add(name, Keys.of(password))
    except (UsersError, ScramException) as error:
        raise StartError(str(error).partition("\n")[0]) from error
    print(f"{name} may log in from now on")  # noqa: T201  the same
    return 0


def _password(name: str) -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password = getpass(f"Password of {name}: ")
    if getpass("Again: ") != password:
        raise StartError("the two are not the same")
    return password
