"""How the prompt shows things, and the view of the flags."""

from __future__ import annotations

import time
from functools import singledispatch
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from halfsync import flags, logs
from halfsync.life.process import Process

if TYPE_CHECKING:
    from halfsync.life.facts import PeriodicTask

audit = logs.get_audit_logger(__name__)


class TaskTable(dict[str, "PeriodicTask"]):
    """The periodic tasks of a process, by name."""


class Text(str):
    """Text that a prompt shows as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


@singledispatch
def render(value: object) -> str:
    """Return how the prompt shows a value: as Python does, but for what people look at most."""
    return repr(value)


@render.register
def _(value: Process) -> str:
    """Show the tree of services."""
    up = time.time() - value.started
    lines = [f"{value.about.name} {value.about.version}: {value.state}, up {up:.0f} s"]
    for part in value:
        problems = "; ".join(part.problems())
        lines.append(f"  {part.label}: {type(part).__name__}{', ' + problems if problems else ''}")
    return "\n".join(lines)


@render.register
def _(value: TaskTable) -> str:
    """Show the periodic tasks."""
    lines = []
    for name, each in value.items():
        task = each.snapshot()
        began, upcoming = task["last_started"], task["next_at"]
        parts = [
            f"every {task['interval']:g} s",
            f"{task['runs']} runs",
            f"{task['failures']} failures",
            "running" if task["running"] else "",
            f"last {time.time() - began:.0f} s ago" if began else "",
            f"took {task['last_duration']:.3f} s" if task["last_duration"] is not None else "",
            f"next in {upcoming - time.time():.0f} s" if upcoming else "",
            f"last error: {task['last_error']}" if task["last_error"] else "",
        ]
        lines.append(f"{name}: {', '.join(filter(None, parts))}")
    return "\n".join(lines) or "no tasks"


@render.register
def _(value: Deferred) -> str:  # type: ignore[type-arg]  # singledispatch takes the class
    """Tell how to wait for it."""
    return f"{value!r}: await _ waits for it"


class FlagsView:
    """The process's flags as attributes: read, or set while it runs, validated as at the start."""

    def __init__(self, prefix: str = "") -> None:
        vars(self)["_prefix"] = prefix

    def __getattr__(self, name: str) -> Any:
        full = f"{self._prefix}{name}"
        found = self._settings()
        if full in found:
            setting = found[full]
            value = setting.text if setting.secret else setting.var.get()
            return setting.show(value) if isinstance(value, str) else value
        if any(each.startswith(f"{full}.") for each in found):
            return FlagsView(f"{full}.")
        raise AttributeError(f"no flag is called {full}")

    def __setattr__(self, name: str, value: object) -> None:
        full = f"{self._prefix}{name}"
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if isinstance(value, (list, tuple)):
            text = " ".join(map(str, value))
        flags.set_live(full, text, "manhole")
        audit.info("flags.set", flag=full, value=self._settings()[full].text, source="manhole")

    def __dir__(self) -> list[str]:
        return sorted({each.removeprefix(self._prefix).partition(".")[0] for each in self._settings()})

    def __repr__(self) -> str:
        rows = [
            f"{name} = {setting.text}  ({setting.source}{', live' if setting.live else ''})"
            for name, setting in self._settings().items()
        ]
        return "\n".join(rows) or "no flags"

    def _settings(self) -> dict[str, flags.Setting]:
        return {each.name: each for each in flags.states() if each.name.startswith(self._prefix)}
