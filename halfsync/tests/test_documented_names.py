"""The names that people outside rely on, of events and metrics, are those in `docs/events.md`."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "halfsync" / "src" / "halfsync"
DOCUMENT = ROOT / "docs" / "events.md"

METHODS = {"debug", "info", "warning", "error", "exception", "critical", "emit"}
METRICS = {"counter": 0, "gauge": 0, "Metric": 1, "InfoMetricFamily": 0}
"""What makes a metric, and which of its arguments is the name."""

EVENT = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+\Z")


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Find every call in the source, with the name of what is called."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield getattr(node.func, "attr", getattr(node.func, "id", "")), node


def text(node: ast.AST) -> str:
    """Return a constant text; of a formatted one, `<part>` for what is filled in; else nothing."""
    if isinstance(node, ast.JoinedStr):
        return "".join(text(each) or "<part>" for each in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def events() -> set[str]:
    """Find the names of events: what loggers are called with, and what is kept as `event` for that."""
    found = {text(each) for name, node in calls() if name in METHODS for each in node.args[:2]}
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "event":
                found.add(text(node.value))
            if isinstance(node, ast.Dict):
                # An event that is put together by hand.
                found |= {
                    text(value)
                    for key, value in zip(node.keys, node.values, strict=True)
                    if key and text(key) == "event"
                }
    return {each for each in found if EVENT.match(each.replace("<part>", "part"))}


def metrics() -> set[str]:
    """Find the names of metrics."""
    return {
        text(node.args[METRICS[name]])
        for name, node in calls()
        if name in METRICS and len(node.args) > METRICS[name]
    } - {""}


def documented(heading: str) -> set[str]:
    """Return the names in the first column of the tables below a heading."""
    section = DOCUMENT.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


SAID_BY_OTHERS = {"deferred.unhandled", "twisted.failed"}
"""Names that stand in for what Twisted says without a text."""


def test_every_event_is_documented_and_every_documented_one_is_there():
    """A name that people alarm on neither appears nor goes without a word in the docs."""
    there = documented("Events")
    missing, gone = events() - there, there - events() - SAID_BY_OTHERS
    assert not missing, f"add to docs/events.md, by area, with level and fields: {sorted(missing)}"
    assert not gone, f"take out of docs/events.md: {sorted(gone)}"
    sources = (SOURCE / "logs" / "sources.py").read_text(encoding="utf-8")
    assert all(f'"{each}"' in sources for each in SAID_BY_OTHERS)


def test_every_metric_is_documented_and_every_documented_one_is_there():
    """The same for what dashboards read."""
    found = {"service_info" if each == "service" else each for each in metrics()}
    there = documented("Metrics")
    missing, gone = found - there, there - found
    assert not missing, f"add to docs/events.md, with kind, meaning and labels: {sorted(missing)}"
    assert not gone, f"take out of docs/events.md: {sorted(gone)}"
