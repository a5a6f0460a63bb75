"""The manhole: an SSH prompt inside the running process.

    toggle       the part of the process: open, close, time to live; the flags
    keys         authorized_keys and the host key, as files
    options      on what terms a key may enter
    doorway      SSH connections: algorithms, bounds, who is in
    guard        who gets in
    session      what a connection carries: a prompt, a command, a script
    prompt       lines, blocks and keys on a terminal
    editor       one line of it
    completion   what the tab key offers
    interpreter  running what was typed, with `await`
    aside        the same in a thread
    held         a bound on what holds the reactor
    routes       what it prints, to the session it belongs to
    tools        what it finds: the names at hand
    views        how that is shown
    heap         memory: what grows, who holds what
    stalls       when the reactor stood still, and at what
    profiler     where the threads spend their time
    quiet        less of conch's own log

Only `toggle`, `keys` and `options` are imported while it is closed.
"""

from halfsync.manhole.toggle import FLAGS, Manhole

__all__ = ["FLAGS", "Manhole"]
