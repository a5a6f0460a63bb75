"""Which reactor a process runs on, and by which clock; each in an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from children import SOURCES

BEGIN = """
import sys, time
from halfsync.flags import parse
from halfsync.life import reactors
from halfsync.life.about import About

def parsed(*argv):
    parse(About("shop"), argv)

def ticks():
    from twisted.internet import reactor
    return abs(reactor.seconds() - time.monotonic()) < 60
"""
KINDS = {"epoll": "EPollReactor", "asyncio": "AsyncioSelectorReactor"}


def told(code, *argv):
    """Run code after BEGIN, with arguments; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + code, *argv],
        env={"PYTHONPATH": str(SOURCES)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_import_installs_what_the_flag_names(kind):
    """Once: the import machinery is then what it was, and what else is imported was not touched."""
    code = """
before = list(sys.meta_path)
reactors.arrange_reactor("shop")
assert len(sys.meta_path) == len(before) + 1
import twisted.internet.defer, colorsys
assert "twisted.internet.reactor" not in sys.modules
from twisted.internet import reactor
assert sys.meta_path == before
assert sys.modules["twisted.internet.reactor"] is reactor
import twisted.internet.reactor as same
assert same is reactor
parsed(*sys.argv[1:])
assert reactors.install() is reactor
print(type(reactor).__name__, ticks())
"""
    assert told(code, f"--service.reactor={kind}") == [KINDS[kind], "True"]


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_has_to_arrange_it(kind):
    """A program that imports no reactor itself gets it when the flags are read; asyncio's has its loop."""
    code = """
parsed(*sys.argv[1:])
reactor = reactors.install()
loop = getattr(reactor, "_asyncioEventloop", None)
if loop:
    import asyncio
    assert asyncio.get_event_loop() is loop
print(type(reactor).__name__, ticks())
"""
    assert told(code, f"--service.reactor={kind}") == [KINDS[kind], "True"]


def test_without_the_flag_it_is_epoll():
    """Also where the first import comes ahead of the flags."""
    code = 'reactors.arrange_reactor("shop")\nfrom twisted.internet import reactor\n'
    assert told(f"{code}print(type(reactor).__name__)") == ["EPollReactor"]


@pytest.mark.parametrize(("timers", "monotonic"), [(0, "True"), (1, "False")])
def test_a_reactor_that_is_there_counts_monotonically_while_nothing_waits(timers, monotonic):
    """A timer that waits already was set by another clock, and would ring at once, or never."""
    code = f"""
from twisted.internet import reactor
for _ in range({timers}):
    reactor.callLater(5, print)
reactors.arrange_reactor("shop")
parsed()
assert reactors.install() is reactor
print(type(reactor).__name__, ticks())
"""
    assert told(code) == ["EPollReactor", monotonic]


def test_who_imported_another_is_named():
    """The modules that hold it, Twisted's own left out; where none does, something."""
    code = """
import types
from twisted.internet import reactor
parsed("--service.reactor=asyncio")
reactors_of_others = [types.ModuleType(name) for name in ("shop_a", "shop_b")]
def told():
    try:
        reactors.install()
    except reactors.StartError as error:
        return str(error)
    raise AssertionError
wrong = "--service.reactor: 'asyncio': this process runs on epoll, which {} imported before the flags"
assert told().startswith(wrong.format("__main__")), told()
for module in reactors_of_others:
    module.reactor = reactor
    sys.modules[module.__name__] = module
assert told().startswith(wrong.format("__main__, shop_a, shop_b")), told()
for module in reactors_of_others:
    del sys.modules[module.__name__]
del reactor
assert told().startswith(wrong.format("something")), told()
print("done")
"""
    assert told(code) == ["done"]
