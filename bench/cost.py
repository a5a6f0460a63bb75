"""What commands and services cost, in processor time, user and system, as the kernel counts it."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

FLAGS = (
    "--web.listen=tcp:0:interface=127.0.0.1",
    "--admin.listen=tcp:0:interface=127.0.0.1",
    "--tasks.interval=3600",
    "--log.format=json",
)
"""Of a service that is measured: ports of its own, no work of its own."""


def of_command(words: Sequence[str], environ: Mapping[str, str], code: int = 0) -> float:
    """Return the seconds that a command takes to its end, its children's included.

    :param code: the exit code that it must have.
    :raises RuntimeError: when it has another one, with what it said.
    """
    before = _of_children()
    done = subprocess.run(words, env=environ, check=False, capture_output=True, text=True)
    if done.returncode != code:
        raise RuntimeError(f"{' '.join(words)}: exit code {done.returncode}: {done.stderr.strip()}")
    return _of_children() - before


def _of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def of_process(pid: int) -> float:
    """Return the seconds of a process that runs, and of its children that have ended, by ticks (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(words: Sequence[str], environ: Mapping[str, str]) -> Iterator[int]:
    """Start a service with `FLAGS`, give its process id once it serves, and stop it after the block.

    :raises RuntimeError: when it ends before it serves.
    """
    with subprocess.Popen(
        [*words, *FLAGS], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as service:
        try:
            events = (json.loads(line)["event"] for line in service.stdout or ())
            if "service.started" not in events:
                raise RuntimeError(f"{words[0]}: it has not started: {service.communicate()[1].strip()}")
            yield service.pid
        finally:
            service.send_signal(signal.SIGTERM)
            service.communicate()
