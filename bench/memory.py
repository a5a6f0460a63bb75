"""Resident memory from /proc."""

from __future__ import annotations

import os
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")


def group_rss(group: int) -> int:
    """Return the resident bytes of all processes in a process group.

    Shared pages count once for each process; what is told are differences, where that falls out.
    """
    return sum(rss for each, rss in _processes() if each == group)


def _processes() -> list[tuple[int, int]]:
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            # The name, in parentheses, may hold spaces; group and resident pages stand behind it.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        found.append((int(fields[2]), int(fields[21]) * PAGE))
    return found
