"""From parts to an exit code: start them, serve until a signal, drain, stop.

Exit codes: 0 a clean stop, 1 failed to start, 2 bad flags (`flags.parse`), 3 a forced stop:
the drain's deadline passed, or a second signal came.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import CancelledError, Deferred

from halfsync import flag, flags, logs, stacks
from halfsync.endpoints import ports, tls
from halfsync.flags import types as flagtypes
from halfsync.life import collector, handover, reactors
from halfsync.life import open_files as limits
from halfsync.life.errors import StartError
from halfsync.life.parts import Process
from halfsync.life.systemd import Systemd
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from twisted.python.failure import Failure

    from halfsync.life.about import About
    from halfsync.manhole import Manhole

log = get_logger(__name__)

CLEAN, FAILED_TO_START, FORCED = 0, 1, 3

LAST_RESORT = 2.0
"""Seconds that a forced stop may take before the process ends without it."""


@flags.declare(flag.namespace("service"))
class FLAGS:
    """The process."""

    drain_timeout = flagtypes.Seconds(
        "Deadline for the work in flight when the service is told to stop.", default=30, minimum=0
    )


def run(about: About, services: Callable[[Process], None]) -> int:
    """Run a process until a signal stops it, and return its exit code.

    :param services: adds the parts to the process, in the order in which they start.
    """
    try:
        logs.start(about)
        limits.raise_open_files()
        reactor = reactors.install()
    except (StartError, logs.LogFileError) as error:
        return _refuse(about, error)
    # systemd's watchdog ends a stuck process with SIGABRT: every thread's stack is then on standard error.
    faulthandler.enable(sys.__stderr__ or 2)
    return Run(Process(about, reactor), services, Systemd.from_environ(reactor, os.environ)).run()


def _refuse(about: About, error: Exception) -> int:
    print(f"{about.name}: {error}", file=sys.stderr)  # noqa: T201  for the person who started it
    return FAILED_TO_START


class Run:
    """One life of a process."""

    def __init__(self, process: Process, services: Callable[[Process], None], systemd: Systemd) -> None:
        self.process = process
        self.systemd = systemd
        self.handover = handover.Handover(process, systemd, self._stop, handover.FLAGS.handover)
        self.reactor: Any = process.reactor
        self.exit_code = CLEAN
        self._services = services
        self._told_to_stop: Deferred[str] = Deferred()
        self._stop_signals = 0
        self._under_way: Deferred[None] | None = None
        """What a signal to stop cancels: the start, then the drain."""

    def run(self) -> int:
        """Run the reactor until the process has stopped."""
        # Twisted installs its own handlers when the reactor starts; ours take the time before, and then over.
        self._handle_signals()
        self.reactor.callWhenRunning(self._begin)
        self.reactor.run()
        if threads := _left_behind():
            # The interpreter would wait for them for ever. What they do was given its time: the drain.
            log.warning("service.threads_left", threads=threads)
            self._end()
        return self.exit_code

    def _begin(self) -> None:
        self._handle_signals()
        life = Deferred.fromCoroutine(self._live())
        life.addErrback(self._fail)
        life.addBoth(lambda _: self._leave())

    async def _live(self) -> None:
        if await self._start():
            reason = await self._told_to_stop
            await self._drain(reason)
            await self.process.stop()
        log.info("service.stopped", exit_code=self.exit_code)

    async def _start(self) -> bool:
        self._under_way = Deferred.fromCoroutine(self._build_and_start())
        try:
            await self._under_way
        except StartError as error:
            self.exit_code = _refuse(self.process.about, error)
            self.systemd.tell(f"STATUS=not started: {error}")
        except CancelledError:
            log.info("service.start_abandoned")
        except Exception:
            self.exit_code = FAILED_TO_START
            log.exception("service.start_failed")
        else:
            about = self.process.about
            log.info("service.started", name=about.name, version=about.version, pid=os.getpid())
            self.systemd.ready(_status())
            return True
        return False

    async def _build_and_start(self) -> None:
        self._services(self.process)
        try:
            self.handover.take()
            await self.process.start()
            if self._stop_signals:
                # The reactor hears of it after us. For one that ends, the process before must not retire.
                raise CancelledError  # noqa: TRY301  it is how `_stop` abandons a start, too
            await self.handover.ready()
        except BaseException:
            await self.handover.close()
            if self.process.state == "running":
                await self.process.stop()
            raise
        collector.tune_from_flags()

    async def _drain(self, reason: str) -> None:
        timeout = FLAGS.drain_timeout
        log.info("service.draining", reason=reason, timeout=timeout)
        self.systemd.stopping(f"draining for up to {timeout:g} s: {reason}")
        await self.handover.close()
        deadline = self.reactor.callLater(timeout, self._force, "the drain's deadline has passed")
        self._under_way = Deferred.fromCoroutine(self.process.drain())
        try:
            await self._under_way
        except CancelledError:
            pass
        finally:
            if deadline.active():
                deadline.cancel()

    def _stop(self, reason: str) -> None:
        """Stop by draining; at the second signal at once."""
        if not self._told_to_stop.called:
            self._told_to_stop.callback(reason)
            if self.process.state == "starting" and self._under_way:
                self._under_way.cancel()
        elif self._stop_signals > 1:
            # The first one may well come to a process that drains already, as another has taken over.
            self._force(f"{reason} once more")

    def _force(self, reason: str) -> None:
        self.exit_code = FORCED
        log.warning("service.forced", reason=reason, unfinished=self.process.unfinished())
        self._end_soon()
        if self._under_way:
            self._under_way.cancel()

    def _leave(self) -> None:
        # From here on only threads can be in the way, those of Twisted's own pool first: it joins them.
        self._end_soon()
        self.reactor.stop()

    def _end_soon(self) -> None:
        timer = threading.Timer(LAST_RESORT, self._end)
        timer.daemon = True
        timer.start()

    def _end(self) -> None:
        logs.flush()
        os._exit(self.exit_code)

    def _fail(self, failure: Failure) -> None:
        self.exit_code = FAILED_TO_START if self.process.state == "starting" else FORCED
        log.critical("service.failed", exc_info=(failure.type, failure.value, failure.getTracebackObject()))

    # Signals. A handler runs between two bytecodes of the main thread, whatever the reactor is at;
    # callFromThread is the one door of the reactor that may be used there.

    def _handle_signals(self) -> None:
        for number, handler in (
            (signal.SIGTERM, self._on_stop),
            (signal.SIGINT, self._on_stop),
            (signal.SIGHUP, self._calling(self._reload)),
            (signal.SIGUSR1, self._calling(self._dump)),
            (signal.SIGUSR2, self._calling(self._toggle_manhole)),
        ):
            signal.signal(number, handler)

    def _calling(self, action: Callable[[], None]) -> Callable[[int, FrameType | None], None]:
        return lambda _number, _frame: self.reactor.callFromThread(action)

    def _on_stop(self, number: int, _frame: FrameType | None) -> None:
        self._stop_signals += 1
        if self._stop_signals > 1:
            # A reactor that is stuck in someone's code would not hear of it.
            self.exit_code = FORCED
            self._end_soon()
        self.reactor.callFromThread(self._stop, signal.Signals(number).name)

    def _reload(self) -> None:
        running = self.process.state == "running"
        if running:
            self.systemd.reloading()
        logs.reopen()
        tls.reload_all()
        self.process.reload()
        log.info("service.reloaded")
        if running:
            self.systemd.ready(_status())

    def _dump(self) -> None:
        stacks.dump(self.process)

    def _toggle_manhole(self) -> None:
        manhole = cast("Manhole", self.process.part("manhole"))
        Deferred.fromCoroutine(manhole.toggle())


def _status() -> str:
    """Say in a line what the process does: what it listens on."""
    return "listening on " + (", ".join(bound.address for bound in ports.listening) or "nothing")


def _left_behind() -> list[str]:
    """Name the threads for which the interpreter would wait."""
    main = threading.main_thread()
    return [thread.name for thread in threading.enumerate() if thread is not main and not thread.daemon]
