"""The command `rpc-user`: who is in the file of `--rpc.users`; `add NAME`, `remove NAME`, `list`."""

from __future__ import annotations

import sys
from getpass import getpass
from typing import TYPE_CHECKING

from scramp import ScramException

from halfsync.life.errors import StartError, WrongFlagsError
from halfsync.thrift.listener import FLAGS
from halfsync.thrift.users import Keys, Users, UsersError, WrongNameError, check_name

if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE = 2

TAKES_NAME = {"add": True, "remove": True, "list": False}


def rpc_user(arguments: Sequence[str]) -> int:
    """Change or show who may log in: `add NAME` (again, for a new password), `remove NAME`, `list`.

    The password is asked for twice at a terminal; from a pipe it is the first line.
    What lists are made of are names, one a line, and never keys.
    :raises StartError: when the file or the password cannot be used; WrongFlagsError, when the flag is empty,
        the name is none, or there is nobody to remove.
    """
    verb, *names = arguments or [""]
    if TAKES_NAME.get(verb) is None or len(names) != TAKES_NAME[verb]:
        print("usage: run rpc-user add NAME | remove NAME | list", file=sys.stderr)  # noqa: T201  for a person
        return USAGE
    if not FLAGS.users:
        raise WrongFlagsError("--rpc.users: is empty; it names the file of users")
    users = Users(FLAGS.users)
    try:
        lines = _do(users, verb, *names)
    except WrongNameError as error:
        raise WrongFlagsError(str(error)) from error
    except (UsersError, ScramException) as error:
        raise StartError(str(error).partition("\n")[0]) from error
    for line in lines:
        print(line)  # noqa: T201  the same
    return 0


def _do(users: Users, verb: str, name: str = "") -> list[str]:
    """Do it, and return what to tell."""
    if verb == "list":
        # One that was written by hand may hold what a terminal obeys.
        return [each if each.isprintable() else ascii(each) for each in users.names()]
    if verb == "remove":
        users.remove(name)
        return [f"{name} may not log in any more; connections that are open stay so"]
    # Before anybody types a password for nothing.
    check_name(name)
    password = _password(name)
    if not password:
        raise StartError("an empty password is none")
    users.add(name, Keys.of(password))
    return [f"{name} may log in from now on"]


def _password(name: str) -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password = getpass(f"Password of {name}: ")
    if getpass("Again: ") != password:
        raise StartError("the two are not the same")
    return password
