"""The public face: its names, their signatures, and what type checkers make of a service that uses them.

When a test here fails, something that services rely on has changed: see the promise in `docs/library.md`.
"""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import halfsync
from checkers import mypy, pyright
from children import ROOT, SOURCES
from halfsync import client, flags, testing

DOCUMENT = ROOT / "docs" / "library.md"

MEMBERS = {
    "About": ["__init__"],
    "Admin": ["from_flags", "url"],
    "Background": ["__init__", "start_soon"],
    "BackgroundFull": [],
    "Busy": [],
    "DeadlineExceeded": [],
    "Endpoints": ["__init__"],
    "EventStream": ["__init__", "clients", "publish", "publish_from_thread"],
    "Gateway": ["__init__"],
    "Listener": ["__init__", "addresses", "url"],
    "Manhole": ["from_flags"],
    "Mount": ["__init__"],
    "Part": ["__init__", "start", "drain", "stop", "problems"],
    "Periodic": ["__init__"],
    "Process": ["add", "part", "problems", "stop", "draining", "on_drain"],
    "StartError": [],
    "StaticFiles": ["__init__"],
    "Tasks": ["__init__", "__getitem__"],
    "WebListener": ["from_flags", "another", "addresses", "url"],
    "WebSockets": ["__init__"],
    "WorkerPool": ["__init__", "run", "submit"],
    **{
        f"client.{name}": []
        for name in ("CallError", "CircuitOpen", "DeadlineExceeded", "Interrupted", "NoAddress")
    },
    "client.FakePeer": ["__init__", "answers"],
    "client.HttpClient": ["__init__", "request", "get", "post", "put", "delete", "open", "pieces"],
    "client.Overloaded": [],
    "client.Response": ["__init__", "text", "json", "header"],
    "client.StreamedResponse": [],
    "client.Trust": ["__init__"],
    "client.Unreachable": [],
    "flags.Choice": ["__init__"],
    "flags.Count": ["__init__"],
    "flags.FlagError": [],
    "flags.Path": ["__init__"],
    "flags.Seconds": ["__init__"],
    "flags.Size": ["__init__"],
    "testing.AsyncClient": [
        "__init__",
        *("request", "get", "post", "put", "patch", "delete", "head", "options"),
    ],
    "testing.Client": [
        "__init__",
        *("request", "get", "post", "put", "patch", "delete", "head", "options"),
        *("stream", "websocket"),
    ],
    "testing.InlineWorkers": [],
    "testing.Response": ["__init__", "text", "json"],
    "testing.ServiceProcess": ["__init__", "wait_for", "address", "get", "stop"],
    "testing.StreamedResponse": ["close"],
    "testing.Unanswered": [],
    "testing.WebSocket": ["send", "receive", "close"],
}
"""What is promised of each public class: more that it has may change."""

FLAGS = ("Choice", "Count", "FlagError", "Path", "Seconds", "Size", "declare", "parse")
TESTING = (
    "AsyncClient",
    "Client",
    "InlineWorkers",
    "Response",
    "ServiceProcess",
    "StreamedResponse",
    "Unanswered",
    "WebSocket",
    "flags_set",
)


def face() -> list[str]:
    """Return a line for each public name and each promised member: its signature."""
    things = {name: getattr(halfsync, name) for name in halfsync.__all__ if name not in ("flag", "flags")}
    things |= {f"flags.{name}": getattr(flags, name) for name in FLAGS}
    things |= {f"client.{name}": getattr(client, name) for name in client.__all__}
    things |= {f"testing.{name}": getattr(testing, name) for name in TESTING}
    lines = []
    for name, thing in sorted(things.items(), key=lambda item: item[0].casefold()):
        if not inspect.isclass(thing):
            lines.append(f"{name}{signature(thing)}")
            continue
        members = MEMBERS[name]
        lines.append(f"{name}{signature(thing.__init__, bound=True)}" if "__init__" in members else name)
        for member in members:
            value = inspect.getattr_static(thing, member)
            if isinstance(value, property):
                lines.append(f"{name}.{member}")
            elif member != "__init__":
                waits = "await " if inspect.iscoroutinefunction(value) else ""
                lines.append(
                    f"{waits}{name}.{member}{signature(getattr(thing, member), bound=callable(value))}"
                )
    return lines


class _Bare(str):
    """An annotation that is shown without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def signature(function, *, bound: bool = False) -> str:
    """Return a signature as it is written, and without `self`."""
    told = inspect.signature(function)
    bare = [
        each.replace(annotation=_Bare(each.annotation) if each.annotation is not each.empty else each.empty)
        for each in list(told.parameters.values())[bound:]
    ]
    result = told.return_annotation
    none = result in (None, "None", told.empty)
    return str(told.replace(parameters=bare, return_annotation=told.empty if none else _Bare(result)))


def test_names_and_signatures_are_those_of_the_document():
    """`docs/library.md` shows each public name with its signature; a change is a new version's affair."""
    block = re.search(r"<!-- face -->\n```text\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert block, "docs/library.md has lost its list"
    assert block[1].splitlines() == face(), "write instead:\n" + "\n".join(face())


def test_every_name_is_explained():
    """Each has a row in the document's tables, and a docstring."""
    text = DOCUMENT.read_text()
    for name in halfsync.__all__:
        assert f"`{name}" in text, name
        assert name == "flag" or inspect.getdoc(getattr(halfsync, name)), name


def test_every_name_of_the_client_is_explained():
    """In its own table."""
    text = DOCUMENT.read_text()
    for name in client.__all__:
        assert f"`{name}" in text, name
        assert inspect.getdoc(getattr(client, name)), name


def test_importing_the_library_changes_nothing():
    """No reactor and no flag comes with it: what a service does not use is not there."""
    code = (
        "import sys; before = set(sys.modules); import halfsync;"
        "after = sys.modules.keys() - before;"
        "print([name for name in after if name.startswith(('twisted', 'halfsync', 'oscar'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(SOURCES)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "['halfsync']\n"


@pytest.mark.parametrize("face", [halfsync, client])
def test_no_name_is_a_module_too(face):
    """Else whoever imports that module first would put it in the place of what has its name."""
    modules = {path.stem for path in Path(face.__path__[0]).iterdir()}
    assert modules & set(face.__all__) <= {"flag", "flags"}


def test_a_name_that_is_not_there_is_an_error():
    with pytest.raises(AttributeError, match="nope"):
        _ = halfsync.nope
    assert set(halfsync.__all__) <= set(dir(halfsync))


def test_the_face_is_clean_for_mypy(tmp_path):
    """`mypy --strict`, without mypy-zope or any setting of ours, finds nothing in a service that uses it."""
    assert mypy(SERVICE, tmp_path) == []


def test_the_face_is_clean_for_pyright(tmp_path):
    """And pyright in its strict mode finds nothing either."""
    assert pyright(SERVICE, tmp_path) == []


SERVICE = '''
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from halfsync import (
    About,
    Admin,
    Busy,
    EventStream,
    Gateway,
    Manhole,
    Mount,
    Part,
    Periodic,
    Process,
    StartError,
    Tasks,
    WebListener,
    WorkerPool,
    arrange_reactor,
    flag,
    flags,
    get_logger,
    hold_signals,
    run,
    serve_resource,
    serve_wsgi,
    workers_from_flags,
)
from halfsync.testing import Client, flags_set

log = get_logger(__name__)


@flags.declare(flag.namespace(__name__))
class FLAGS:
    """What the front page says."""

    greeting = flag.String("The word of welcome.", default="Hello")
    every = flags.Seconds("Time between two.", default=30)


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [FLAGS.greeting.encode()]


class Cache(Part):
    async def start(self) -> None:
        log.info("cache.filled", entries=12)
        if not FLAGS.greeting:
            raise StartError("--greeting: empty")

    async def drain(self) -> None:
        """Nothing waits."""

    def problems(self) -> list[str]:
        return ["cold"]


class Pages:
    isLeaf = True

    def render(self, request: Any) -> bytes:
        return b"Hello"

    def getChildWithDefault(self, path: bytes, request: Any) -> "Pages":
        return self


async def tick() -> None:
    log.info("ticked")


def parts(process: Process) -> None:
    process.add(Admin.from_flags(process))
    process.add(Manhole.from_flags(process))
    process.add(Cache("cache"))
    workers: WorkerPool = process.add(workers_from_flags(process.reactor))
    events = process.add(EventStream("events", reactor=process.reactor))
    both = Mount({"/": Gateway(app, workers), "/events": events.resource})
    web = process.add(WebListener.from_flags(both, process.reactor))
    url: str | None = web.url()
    print(url)
    try:
        process.add(Tasks(Periodic("tick", FLAGS.every, tick, reactor=process.reactor)))
    except Busy as busy:
        print(busy.retry_after)


ABOUT = About("shop", version="1.4")


def main(argv: Sequence[str] | None = None) -> int:
    hold_signals()
    arrange_reactor("shop")
    return run(ABOUT, parts, argv=argv)


def make_app() -> Callable[..., Iterable[bytes]]:
    return app


def other() -> None:
    serve_wsgi(app, ABOUT, parts=parts)
    serve_wsgi(make_app, ABOUT, factory=True)
    serve_resource(Pages(), ABOUT)
    serve_resource(Pages, ABOUT, factory=True)


def test_front() -> None:
    with flags_set({"greeting": "Hi"}):
        assert Client(app).get("/").text == "Hi"


if __name__ == "__main__":
    sys.exit(main())
'''
