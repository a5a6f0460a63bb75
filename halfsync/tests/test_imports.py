"""Which part of the library may import which, without circles; imports for types count, too."""

from __future__ import annotations

import graphlib
import subprocess
import sys
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1] / "src" / "halfsync"

LAYERS: tuple[tuple[str, ...], ...] = (
    ("__init__", "serving", "dev", "testing", "build", "recipes"),
    ("admin",),
    ("manhole", "metrics"),
    ("tasks", "background", "commands"),
    ("periodic", "web"),
    ("in_memory",),
    ("http", "thrift", "handover"),
    ("client",),
    ("endpoints", "workers", "reactor_calls"),
    ("life",),
    ("logs", "deadline", "request_id", "request_body"),
    ("flags",),
    ("flag", "path_walk", "_later", "built", "service_process", "_twisted"),
)
"""From the top down: what stands on a line imports only from the lines below, and from itself."""

WORKERS: tuple[tuple[str, ...], ...] = (
    ("pool",),
    ("threads",),
    ("calls", "queue", "client_waits", "share", "stuck"),
    ("lines", "refusals"),
)
"""The same within the room `workers`."""

FACTS = frozenset({"halfsync.life.about", "halfsync.life.errors"})
"""Plain values without an import of their own, which stand below everything."""

LONGEST = 320
"""Lines of a module."""


def imports() -> dict[str, set[str]]:
    """Return what each module imports of the library, wherever the statement stands."""
    graph = grimp.build_graph("halfsync", cache_dir=None)
    return {each: graph.find_modules_directly_imported_by(each) for each in graph.modules}


def room(module: str) -> str:
    return [*module.split("."), "__init__"][1]


def test_every_room_has_its_layer():
    """And no layer names what is not there."""
    rooms = {room(each) for each in imports()}
    named = {each for layer in LAYERS for each in layer}
    assert rooms <= named
    assert named == rooms


def test_nothing_imports_what_stands_above_or_beside_it():
    """So that a layer can be understood, and tested, without those above."""
    height = {each: -index for index, layer in enumerate(LAYERS) for each in layer}
    wrong = sorted(
        f"{module} imports {other}"
        for module, others in imports().items()
        for other in others - FACTS
        if room(module) != room(other)
        and height[room(other)] >= height[room(module)]
        # The public face imports its names when they are asked for.
        and height[room(module)] < 0
    )
    assert wrong == []


def test_the_room_of_the_workers_has_layers_of_its_own():
    """The queue knows nothing of threads, and its lines nothing of the queue."""
    height = {f"halfsync.workers.{each}": -index for index, layer in enumerate(WORKERS) for each in layer}
    within = {each: others for each, others in imports().items() if each.startswith("halfsync.workers.")}
    assert set(within) == set(height)
    wrong = [
        f"{module} imports {other}"
        for module, others in within.items()
        for other in others
        if room(other) == "workers" and height[other] >= height[module]
    ]
    assert wrong == []


def test_the_plain_values_below_everything_import_nothing():
    """Else they could not be used by every layer."""
    assert {each: imports()[each] for each in FACTS} == {each: set() for each in FACTS}


def test_no_circles():
    """Of modules: each can be understood before those that use it."""
    graphlib.TopologicalSorter(imports()).prepare()


def test_each_module_is_short():
    """Whoever opens one can read it in one go; more than one idea has more than one module."""
    lines = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in ROOT.rglob("*.py")}
    assert {path: count for path, count in lines.items() if count > LONGEST} == {}


def test_an_import_changes_nothing_in_the_process():
    """No thread, no reactor, no handler of a signal, no configuration of `logging` or structlog."""
    # The modules that import conch, which imports the reactor, are imported while one runs.
    late = {"auth", "editor", "prompt", "session", "ssh_server", "ssh_transport"}
    early = sorted(each for each in imports() if each.rpartition(".")[2] not in late)
    code = f"""
import importlib, logging, signal, sys, threading, warnings
import structlog
def state():
    return (
        [signal.getsignal(each) for each in sorted(signal.valid_signals())],
        threading.active_count(), list(logging.root.handlers), logging.root.level,
        str(structlog.get_config()["processors"]), sys.excepthook, threading.excepthook, sys.unraisablehook,
        sys.stdout, sys.stderr, warnings.showwarning,
    )
before = state()
for name in {early!r}:
    importlib.import_module(name)
    assert "twisted.internet.reactor" not in sys.modules, name
    assert state() == before, name
"""
    environ = {"PYTHONPATH": str(ROOT.parent)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environ
    )
    assert done.returncode == 0, done.stderr
