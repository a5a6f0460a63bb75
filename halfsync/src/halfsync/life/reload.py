"""SIGHUP: what may have changed on disk is read again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from halfsync import flags, logs
from halfsync.logs import get_audit_logger, get_logger

if TYPE_CHECKING:
    from halfsync.life.process import Process

audit = get_audit_logger(__name__)
log = get_logger(__name__)


def reload_all(process: Process) -> list[str]:
    """Read again the file of flags, and what parts have from disk; go on in a new file of the log.

    :returns: what was refused, which is in the log, too: a line each.
    """
    refused = reload_flags()
    logs.reopen()
    refused += process.reload()
    log.info("service.reloaded")
    return refused


def reload_flags() -> list[str]:
    """Read the file again, all or nothing; log what has changed, and what needs another start."""
    try:
        reloaded = flags.reload()
    except flags.FlagError as error:
        log.error("flags.reload_refused", problem=str(error))  # noqa: TRY400  no bug of ours
        return [str(error)]
    if reloaded.changed:
        audit.info("flags.reloaded", changed=reloaded.changed)
    if reloaded.at_start:
        log.warning("flags.need_a_start", flags=reloaded.at_start)
    return []
