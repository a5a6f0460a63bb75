"""The manhole: an SSH prompt inside the running process.

    toggle       the part of the process: open, close, time to live; the flags
    keys         authorized_keys and the host key, as files
    doorway      SSH connections: algorithms, bounds, who is in
    guard        who gets in
    session      what a connection carries: a prompt, a command, a script
    prompt       lines, blocks and keys on a terminal
    interpreter  running what was typed, with `await`
    routes       what it prints, to the session it belongs to
    tools        what it finds: the names at hand
    quiet        less of conch's own log

Only `toggle` and `keys` are imported while it is closed.
"""

from .toggle import FLAGS, Manhole

__all__ = ["FLAGS", "Manhole"]
