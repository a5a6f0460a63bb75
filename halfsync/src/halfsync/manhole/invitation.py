"""How to get in: the command that a person on this machine types, and the name that it gives."""

from __future__ import annotations

import os
import pwd
import re
import shlex
from typing import TYPE_CHECKING

from halfsync.manhole import keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from halfsync.manhole.ssh_server import SSHServer


def invitation(server: SSHServer, addresses: Sequence[str], user: str) -> dict[str, object]:
    """Return what the log says of a manhole that was opened: the commands, and the host key to expect."""
    (key,) = server.publicKeys.values()
    commands = [ssh_command(address, user) for address in addresses]
    return {
        "ssh": commands[0] if len(commands) == 1 else commands,
        "host_key": keys.fingerprint(key.blob()),
    }


def user_name() -> str:
    """Return who the process runs as; a container may run as any number, which has no name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return "manhole"


def ssh_command(address: str, user: str) -> str:
    """Return what to type, on this machine, to get in at one of the listener's addresses."""
    tcp = re.search(r"tcp:(\[[^\]]*\]|[^:]*):(\d+)", address)
    if tcp:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(tcp[1].strip("[]"), tcp[1].strip("[]"))  # noqa: S104  compared
        return f"ssh -p {tcp[2]} {user}@{host}"
    path = shlex.quote(address.rpartition("unix:")[2].rstrip(")"))
    return f'ssh -o ProxyCommand="nc -U {path}" {user}@manhole'
