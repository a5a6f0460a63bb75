"""How to get in: the command that a person on this machine types."""

from __future__ import annotations

import re
import shlex


def ssh_command(address: str, user: str) -> str:
    """Return what to type, on this machine, to get in at one of the listener's addresses."""
    tcp = re.search(r"tcp:(\[[^\]]*\]|[^:]*):(\d+)", address)
    if tcp:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(tcp[1].strip("[]"), tcp[1].strip("[]"))  # noqa: S104  compared
        return f"ssh -p {tcp[2]} {user}@{host}"
    path = shlex.quote(address.rpartition("unix:")[2].rstrip(")"))
    return f'ssh -o ProxyCommand="nc -U {path}" {user}@manhole'
