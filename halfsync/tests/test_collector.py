"""The collector and the limit of open files, each in a process of its own."""

from __future__ import annotations

import gc
import resource

import pytest

from children import child

TELL = """
import gc, resource
class Look(Part):
    async def start(self):
        self.reactor.callLater(0, self.tell)
    def tell(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        log.info("told", threshold=list(gc.get_threshold()), frozen=gc.get_freeze_count() > 1000, soft=soft)
from halfsync.logs import get_logger
log = get_logger("child")
def parts(process):
    look = Look("look")
    look.reactor = process.reactor
    process.add(look)
resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
main(parts)
"""


@pytest.mark.parametrize(
    ("argv", "threshold", "frozen"),
    [((), [5000, 10, 100], True), (("--service.gc=python",), list(gc.get_threshold()), False)],
)
def test_a_process(argv, threshold, frozen):
    """Tuned, what is alive at the start is frozen; Python's way is left alone; open files are raised."""
    with child(TELL, *argv) as process:
        told = process.wait_for("told")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert told["soft"] == (65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536))
    assert told["frozen"] is frozen
    assert told["threshold"] == threshold
