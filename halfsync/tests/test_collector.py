"""The collector, the C library's memory and the limit of open files, each in a process of its own."""

from __future__ import annotations

import ctypes
import gc
import resource
from ctypes import CDLL
from types import SimpleNamespace

import pytest

from children import child
from halfsync.life.allocator import one_arena

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
    [((), [5000, 2, 300], True), (("--service.gc=python",), list(gc.get_threshold()), False)],
)
def test_a_process(argv, threshold, frozen):
    """Tuned, what is alive at the start is frozen; Python's way is left alone; open files are raised."""
    with child(TELL, *argv) as process:
        told = process.wait_for("told")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert told["soft"] == (65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536))
    assert told["frozen"] is frozen
    assert told["threshold"] == threshold


GARBAGE = """
class Cycle:
    def __init__(self):
        self.me = self
    def __del__(self):
        print("freed", flush=True)
class Leaves(Part):
    async def start(self):
        Cycle()
main(lambda process: process.add(Leaves("leaves")))
"""


def test_what_a_start_leaves_behind_is_freed():
    """Before the rest is frozen: a cycle among that is never freed."""
    with child(GARBAGE) as process:
        process.wait_for("freed")
        process.wait_for("service.started")


ARENAS = """
import re, threading
from ctypes import CDLL, c_void_p
from pathlib import Path
class Look(Part):
    async def start(self):
        threads = [threading.Thread(target=lambda: kept.append(bytes(100_000))) for _ in range(8)]
        kept = []
        for each in threads: each.start()
        for each in threads: each.join()
        libc = CDLL(None)
        libc.fopen.restype = c_void_p
        file = libc.fopen(TOLD.encode(), b"w")
        libc.malloc_info(0, c_void_p(file))
        libc.fclose(c_void_p(file))
def parts(process):
    process.add(Look("look"))
main(parts)
"""


@pytest.mark.skipif(not hasattr(CDLL(None), "malloc_info"), reason="no glibc")
@pytest.mark.parametrize(("said", "fewest", "most"), [({}, 1, 1), ({"MALLOC_ARENA_MAX": "4"}, 2, 4)])
def test_threads_share_their_memory(tmp_path, said, fewest, most):
    """What a thread frees is there for the others: one arena, unless the environment says otherwise."""
    told = tmp_path / "arenas.xml"
    with child(ARENAS.replace("TOLD", repr(str(told))), more_environ=said) as process:
        process.wait_for("service.started")
    assert fewest <= told.read_text().count("<heap nr=") <= most


@pytest.mark.parametrize("environ", [{}, {"MALLOC_ARENA_MAX": ""}])
def test_the_arena_is_chosen_where_nobody_has(monkeypatch, environ):
    """Whatever the environment says counts, and the C library is then not asked."""
    asked = []
    library = SimpleNamespace(mallopt=lambda *arguments: asked.append(arguments))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library if name is None else None)
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    one_arena()
    # M_ARENA_MAX, of malloc.h, has this number.
    assert asked == ([] if environ else [(-8, 1)])


@pytest.mark.parametrize("error", [OSError, AttributeError])
def test_without_glibc_there_is_nothing_to_choose(monkeypatch, error):
    """The process starts all the same: musl has no mallopt, and a static Python no library to open."""

    def missing(_name):
        raise error

    monkeypatch.setattr(ctypes, "CDLL", missing)
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    one_arena()
