"""The manhole: an SSH prompt inside the running process.

    toggle         the part of the process: open, close, time to live; the flags
    keys           authorized_keys
    host_key       the key by which clients know it again
    invitation     the command by which a person gets in
    options        on what terms a key may log in
    login          a login and what is counted
    ssh_server     which connections there are
    ssh_transport  one connection: algorithms, bounds, login
    auth           public keys, checked
    user           the authenticated user, as conch meets it
    session        a prompt, a command or a script on one connection
    prompt         lines, blocks and keys on a terminal
    editor         one line of it
    completion     what the tab key offers
    interpreter    running what was typed, with `await`
    threads        the same in a thread
    time_limit     how long a statement may hold the reactor
    stdout         what it prints, to the session it belongs to
    tools          the names at hand in a session
    views          how values are shown
    masking        secrets that are typed, kept out of the log
    heap           memory: what grows, who refers to what
    profiler       where the threads spend their time
    log_filter     less of conch's own log

Only the first six are imported while it is closed.
"""

from halfsync.manhole.toggle import FLAGS, Manhole

__all__ = ["FLAGS", "Manhole"]
