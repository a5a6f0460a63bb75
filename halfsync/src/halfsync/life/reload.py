"""SIGHUP for flags: the file is read again, and live flags get what it says now."""

from __future__ import annotations

from halfsync import flags
from halfsync.logs import get_audit_logger, get_logger

audit = get_audit_logger(__name__)
log = get_logger(__name__)


def reload_flags() -> None:
    """Read the file again, all or nothing; log what has changed, and what needs another start."""
    try:
        reloaded = flags.reload()
    except flags.FlagError as error:
        log.error("flags.reload_refused", problem=str(error))  # noqa: TRY400  no bug of ours
        return
    if reloaded.changed:
        audit.info("flags.reloaded", changed=reloaded.changed)
    if reloaded.at_start:
        log.warning("flags.need_a_start", flags=reloaded.at_start)
