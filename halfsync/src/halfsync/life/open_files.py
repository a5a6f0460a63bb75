"""What the system allows a process: open files, of which each connection is one."""

from __future__ import annotations

import resource

from halfsync.logs import get_logger

log = get_logger(__name__)

ENOUGH = 65_536
"""Open files. A hard limit may be a thousand million, and closing every possible one takes minutes."""


def raise_open_files() -> int:
    """Raise the soft limit of open files (getrlimit(2)) to the hard one, or to ENOUGH; return what it is.

    The soft limit is 1,024 by tradition, for the sake of select(2), which cannot name higher descriptors:
    code that calls it itself, instead of poll(2), fails once there are more.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    wanted = ENOUGH if hard == unlimited else min(hard, ENOUGH)
    if soft == unlimited or soft >= wanted:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError) as error:
        # Some sandboxes forbid it. The service works, for fewer clients.
        log.warning("limits.open_files", soft=soft, hard=hard, reason=str(error))
        return soft
    log.debug("limits.open_files", soft=wanted, before=soft)
    return wanted
