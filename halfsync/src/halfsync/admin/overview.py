"""The front page for people: how the process is, in HTML that loads and runs nothing else."""

from __future__ import annotations

import time
from html import escape
from typing import TYPE_CHECKING, Any

from halfsync.logs import timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from halfsync.life.process import Process

CONTENT_TYPE = "text/html; charset=utf-8"

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}

MOST = 50
"""Requests that are shown."""

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em;
       color: #222; background: #fff; }
h1 { font-size: 1.5em; margin: 0; } h2 { font-size: 1.1em; margin: 1.6em 0 .3em; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .15em 1em .15em 0; vertical-align: top; border-bottom: 1px solid #ddd; }
.good { color: #176b2c; } .bad { color: #a3121f; } code { font-size: .95em; }
@media (prefers-color-scheme: dark) {
  body { color: #ddd; background: #16181b; } th, td { border-color: #333; }
  a { color: #8ab4f8; } .good { color: #7bd88f; } .bad { color: #ff8a8a; } }
"""


def overview(process: Process, paths: Mapping[str, tuple[str, Mapping[str, Any]]]) -> bytes:
    """Return the page.

    :param paths: what each path is about, and its methods.
    """
    about = process.about
    problems = process.problems()
    state = (
        '<p class="good">ready</p>'
        if not problems
        else f'<ul class="bad">{"".join(f"<li>{escape(each)}</li>" for each in problems)}</ul>'
    )
    now = process.reactor.seconds()
    requests = sorted(process.requests(), key=lambda each: each.since)
    workers = list(process.workers().values())
    busy = sum(each.label is not None for each in workers)
    facts = {
        "state": process.state,
        "started": f"{timestamp(process.started)}, {time.time() - process.started:.0f} s ago",
        "listening": ", ".join(each.address for each in process.sockets.open) or "nothing",
        "requests in flight": len(requests),
        "worker threads": f"{len(workers)} started, {busy} busy" if workers else "none started",
    }
    parts = [
        f"<h1>{escape(about.name)} {escape(about.version)}</h1><p>{escape(about.summary)}</p>{state}",
        _table([], facts.items()),
        "<h2>Requests in flight, oldest first</h2>" if requests else "",
        _table(
            ["age", "part", "request", "client", "thread"],
            (
                (
                    f"{now - each.since:.3f} s",
                    each.part,
                    f"{each.method} {each.path}",
                    each.peer,
                    each.thread or "",
                )
                for each in requests[:MOST]
            ),
        ),
        "<h2>Tasks</h2>" if process.tasks() else "",
        _table(["name", "runs", "failures", "last error"], map(_task, process.tasks().items())),
        "<h2>Paths</h2>",
        "<table>",
        *(_path(path, text, methods) for path, (text, methods) in paths.items()),
        "</table>",
    ]
    head = f'<meta charset="utf-8"><title>{escape(about.name)}</title><style>{_STYLE}</style>'
    return (
        f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'.encode()
    )


def _task(item: tuple[str, Any]) -> tuple[object, ...]:
    name, task = item
    state = task.snapshot()
    return name, state["runs"], state["failures"], state["last_error"] or ""


def _table(names: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    lines = [f"<tr>{''.join(f'<td>{escape(str(each))}</td>' for each in row)}</tr>" for row in rows]
    head = "".join(f"<th>{escape(each)}</th>" for each in names)
    return f"<table>{f'<tr>{head}</tr>' if head else ''}{''.join(lines)}</table>" if lines else ""


def _path(path: str, about: str, methods: Iterable[str]) -> str:
    shown = f'<a href="{escape(path)}">{escape(path)}</a>' if "GET" in methods else escape(path)
    return f"<tr><td>{shown}</td><td>{', '.join(sorted(methods))}</td><td>{escape(about)}</td></tr>"
