"""The paths of the admin interface and what they answer: in JSON unless said."""

from __future__ import annotations

import re
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

from structlog.contextvars import bind_contextvars

from halfsync import built, flags, logs
from halfsync.admin import body, overview
from halfsync.admin.info import info
from halfsync.admin.message import AdminResponse, RefusedError, json_response, prefers_html
from halfsync.life import stacks
from halfsync.life.errors import StartError
from halfsync.metrics import Metrics
from halfsync.periodic import TaskStoppedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from halfsync.admin.access import Access
    from halfsync.admin.message import AdminRequest
    from halfsync.life.process import Process
    from halfsync.manhole import Manhole

    Page = Callable[..., Awaitable["Answer"]]

audit = logs.get_audit_logger(__name__)
log = logs.get_logger(__name__)

Answer = tuple[int, object] | AdminResponse
"""A status, and what becomes JSON; or a whole response."""

HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
"""Of every response."""


class Pages:
    """All paths in one table."""

    def __init__(self, process: Process, access: Access) -> None:
        self._process = process
        self._access = access
        self.metrics = Metrics(process)
        self._paths: dict[str, tuple[str, dict[str, Page]]] = {
            "/": ("these paths; a page for people in a browser", {"GET": self._index}),
            "/health/live": ("200 while the process answers", {"GET": self._live}),
            "/health/ready": ("200 when it is ready for work, else 503 and why", {"GET": self._ready}),
            "/metrics": ("for Prometheus", {"GET": self._show_metrics}),
            "/info": ("version, build, uptime, Python, dependencies", {"GET": self._info}),
            "/info/sbom": ("what it is made of, a bill in CycloneDX", {"GET": self._sbom}),
            "/info/licenses": ("the licences of all that, as text", {"GET": self._licenses}),
            "/flags": ("every flag: value, source, what it overrode", {"GET": self._flags}),
            "/threads": ("every thread: what holds it, its stack", {"GET": self._threads}),
            "/tasks": ("every periodic task: last run, next run, failures", {"GET": self._tasks}),
            "/tasks/<name>/run": ("run a task now and wait for it: {}", {"POST": self._run_task}),
            "/log-level": (
                'the level of the log: {"level": "debug", "logger": "a.b", "duration": 60}',
                {"GET": self._log_level, "PUT": self._set_log_level},
            ),
            "/manhole": (
                'the SSH prompt: {"open": true, "ttl": 600}',
                {"GET": self._manhole, "PUT": self._set_manhole},
            ),
        }
        self._patterns = [
            (re.compile(re.escape(path).replace("<name>", "([^/]+)")), methods)
            for path, (_, methods) in self._paths.items()
        ]

        self._open = frozenset(["/health/live", "/health/ready", "/metrics"])
        """For probes, which come by any name and from anywhere."""

    async def respond(self, request: AdminRequest) -> AdminResponse:
        """Answer any request."""
        method, path = request.method, request.path
        try:
            response = _response(await self._answer(request))
        except RefusedError as refusal:
            response = json_response(refusal.status, {"error": str(refusal)}, refusal.headers)
        except Exception:
            log.exception("admin.failed", method=method, path=path)
            response = json_response(500, {"error": "a bug, which the log tells more about"})
        log.debug("admin.request", method=method, path=path, status=response.status)
        return AdminResponse(response.status, response.kind, response.body, {**HEADERS, **response.headers})

    async def _answer(self, request: AdminRequest) -> Answer:
        method, path = request.method, request.path
        changes = method not in ("GET", "HEAD")
        match, methods = next(
            ((match, methods) for pattern, methods in self._patterns if (match := pattern.fullmatch(path))),
            (None, {}),
        )
        page = methods.get("GET" if method == "HEAD" else method)
        if path not in self._open:
            # What cannot be carried out need not pass as a change, but as a look.
            self._access.check(request, changes=changes and page is not None)
        if match is None:
            raise RefusedError(404, "no such path; GET / lists them")
        if page is None:
            allowed = sorted({*methods, "HEAD"} if "GET" in methods else methods)
            raise RefusedError(405, f"{path} takes {' and '.join(allowed)}", Allow=", ".join(allowed))
        arguments: list[Any] = [unquote(each) for each in match.groups()]
        if changes:
            # Whatever comes of it says in the log by whom it was wanted.
            bind_contextvars(peer=request.peer)
            arguments.append(request.body)
        return await page(*([request] if path in {"/", "/metrics"} else arguments))

    async def _index(self, request: AdminRequest) -> Answer:
        if prefers_html(request.values("accept")):
            page = overview.overview(self._process, self._paths)
            return AdminResponse(200, overview.CONTENT_TYPE, page, {**overview.HEADERS, "Vary": "Accept"})
        return 200, {
            "service": self._process.about.name,
            "paths": {
                path: {"about": about, "methods": sorted(methods)}
                for path, (about, methods) in self._paths.items()
            },
        }

    async def _live(self) -> Answer:
        return 200, {"live": True}

    async def _ready(self) -> Answer:
        problems = self._process.problems()
        return (503 if problems else 200), {"ready": not problems, "problems": problems}

    async def _show_metrics(self, request: AdminRequest) -> Answer:
        content_type, text = self.metrics.text(",".join(request.values("accept")))
        return AdminResponse(200, content_type, text, {"Vary": "Accept"})

    async def _info(self) -> Answer:
        return 200, info(self._process)

    async def _sbom(self) -> Answer:
        return self._built(built.SBOM, "application/vnd.cyclonedx+json; version=1.6")

    async def _licenses(self) -> Answer:
        return self._built(built.LICENSES, "text/plain; charset=utf-8")

    def _built(self, name: str, kind: str) -> AdminResponse:
        text = built.read(self._process.about.package, name)
        if text is None:
            raise RefusedError(404, "this process does not run from a file that make pex has built")
        return AdminResponse(200, kind, text.encode(), {})

    async def _flags(self) -> Answer:
        return 200, {
            state.name: {
                "value": state.text,
                "source": state.source,
                "overrode": [{"source": source, "value": text} for source, text in state.overrode],
                "environment": state.environment,
                "live": state.live,
                "description": state.var.description,
            }
            for state in flags.states()
            if state.environment
        }

    async def _threads(self) -> Answer:
        workers = self._process.workers()
        threads = []
        for thread in stacks.thread_stacks():
            worker = workers.get(thread.ident)
            since = worker.since if worker else None
            threads.append(
                {
                    **asdict(thread),
                    "holds": worker.label if worker else None,
                    "seconds": round(time.time() - since, 3) if since else None,
                }
            )
        return 200, {"threads": threads}

    async def _tasks(self) -> Answer:
        return 200, {"tasks": {name: _dated(task.snapshot()) for name, task in self._process.tasks().items()}}

    async def _run_task(self, name: str, data: bytes) -> Answer:
        body.read(data, {}, {})
        try:
            task = self._process.tasks()[name]
        except KeyError:
            raise RefusedError(404, f"{name!r}: no such task; GET /tasks lists them") from None
        joined = task.busy
        audit.info("admin.changed", what="task run", task=name, joined=joined)
        error = None
        try:
            await task.run_now()
        except TaskStoppedError as stopped:
            raise RefusedError(409, str(stopped)) from None
        except Exception:  # noqa: BLE001  logged as task.failed
            error = task.last_error
        answer = {"task": name, "joined": joined, **_dated(task.snapshot())}
        return (500, {"error": error, **answer}) if error else (200, answer)

    async def _log_level(self) -> Answer:
        return 200, _levels(self._process)

    async def _set_log_level(self, data: bytes) -> Answer:
        fields = body.read(data, {"level": str}, {"logger": str, "duration": float})
        try:
            self._process.log_levels.set(**fields, source="admin")
        except ValueError as error:
            raise RefusedError(400, str(error)) from None
        audit.info(
            "admin.changed",
            what="log level",
            to=fields["level"],
            of=fields["logger"] or "",
            duration=fields["duration"],
        )
        return 200, _levels(self._process)

    async def _manhole(self) -> Answer:
        return 200, _dated(self._manhole_part().state())

    async def _set_manhole(self, data: bytes) -> Answer:
        fields = body.read(data, {"open": bool}, {"ttl": float})
        if fields["ttl"] is not None and not fields["open"]:
            raise RefusedError(400, "ttl: only what is opened has one")
        manhole = self._manhole_part()
        audit.info("admin.changed", what="manhole", open=fields["open"], ttl=fields["ttl"])
        try:
            if fields["open"]:
                await manhole.open(fields["ttl"])
            else:
                await manhole.close("closed by the admin interface")
        except StartError as error:
            raise RefusedError(409, str(error)) from None
        return 200, _dated(manhole.state())

    def _manhole_part(self) -> Manhole:
        try:
            return cast("Manhole", self._process.part("manhole"))
        except KeyError:
            raise RefusedError(404, "this process has no manhole") from None


def _levels(process: Process) -> dict[str, Any]:
    state = process.log_levels.state()
    offset = time.time() - process.reactor.seconds()
    for each in (state, *state["loggers"].values()):
        at = each["reverts_at"]
        each["reverts_at"] = None if at is None else logs.timestamp(at + offset)
    return state


_TIMES = ("last_started", "next_at", "closes_at", "since")


def _dated(value: Any) -> Any:
    """Write times as people and programs read them, ISO 8601."""
    if isinstance(value, list):
        return [_dated(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: logs.timestamp(each) if key in _TIMES and each is not None else _dated(each)
        for key, each in value.items()
    }


def _response(answer: Answer) -> AdminResponse:
    return answer if isinstance(answer, AdminResponse) else json_response(*answer)
