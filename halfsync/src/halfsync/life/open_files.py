"""What the system allows a process: open files, of which each connection is one."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING

from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping

log = get_logger(__name__)

ENOUGH = 65_536
"""Open files. A hard limit may be a thousand million, and closing every possible one takes minutes."""


OTHERS = 32
"""Open files for what no part answers for: the log opened anew, names looked up, modules, a child's pipes."""


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


def shares(wanted: Mapping[str, int]) -> dict[str, int]:
    """Return how many open files each part may have, that all together stay within the limit.

    What is open already, and OTHERS, comes first. Of the rest, a part that wants little gets all of it,
    and those that want more than there is get the same.
    :param wanted: at most, by part.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return dict(wanted)
    left = max(0, limit - OTHERS - len(os.listdir("/proc/self/fd")))  # noqa: PTH208  their number only
    given: dict[str, int] = {}
    for part, number in sorted(wanted.items(), key=lambda each: each[1]):
        given[part] = min(number, left // (len(wanted) - len(given)))
        left -= given[part]
    return given
