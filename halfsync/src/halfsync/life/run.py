"""From parts to an exit code: start them, serve until told to stop, drain, stop.

Exit codes: 0 a clean stop, 1 failed to start, 2 bad flags (`flags.parse`), 3 a forced stop:
the drain's deadline passed, a second signal came, or a part gave up.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from halfsync import flag, flags, logs
from halfsync._later import later
from halfsync.flags import types as flagtypes
from halfsync.life import allocator, collector, reactors, signals
from halfsync.life import open_files as limits
from halfsync.life.dump import Dumps, work
from halfsync.life.errors import StartError
from halfsync.life.last_resort import PATIENCE, LastResort, left_behind
from halfsync.life.process import Process
from halfsync.life.reload import reload_all
from halfsync.life.sockets import listening_descriptors, unserved
from halfsync.life.stalls import Stalls
from halfsync.life.systemd import Systemd
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from twisted.internet import defer
    from twisted.python.failure import Failure

    from halfsync.life.about import About
else:
    defer = later("twisted.internet.defer")

log = get_logger(__name__)

CLEAN, FAILED_TO_START, FORCED = 0, 1, signals.FORCED


@flags.declare(flag.namespace("service"), at_start=True)
class FLAGS:
    """The process."""

    drain_timeout = flagtypes.Seconds(
        "Deadline for the work in flight when the service is told to stop.", default=30, minimum=0
    )
    stall = flagtypes.Seconds(
        "The reactor busy for longer is logged with the stack seen during it; 0 turns it off.",
        default=0.2,
        minimum=0,
    )
    certificate_watch = flagtypes.Seconds(
        "How often to look whether certificates have changed, and reload them; 0 is at HUP only.",
        default=0,
        minimum=0,
    )


def run(about: About, services: Callable[[Process], None]) -> int:
    """Run a process until it is told to stop, and return its exit code.

    :param services: adds the parts to the process, in the order in which they start.
    """
    allocator.one_arena()
    try:
        logs.start(about)
        limits.raise_open_files()
        reactor = reactors.install()
    except (StartError, logs.LogFileError) as error:
        return _refuse(about, error)
    # systemd's watchdog ends a stuck process with SIGABRT: every thread's stack is then on standard error.
    faulthandler.enable(sys.__stderr__ or 2)
    systemd = Systemd.from_environ(reactor, os.environ)
    process = Process(about, reactor, systemd)
    if FLAGS.stall:
        process.stalls = Stalls(reactor, FLAGS.stall)
    return Run(process, services, drain_timeout=FLAGS.drain_timeout).run()


def _refuse(about: About, error: StartError | logs.LogFileError) -> int:
    print(f"{about.name}: {error}", file=sys.stderr)  # noqa: T201  for the person who started it
    return error.exit_code if isinstance(error, StartError) else FAILED_TO_START


class Run:
    """One life of a process."""

    def __init__(
        self, process: Process, services: Callable[[Process], None], *, drain_timeout: float
    ) -> None:
        self.process = process
        self.systemd = process.systemd
        self.reactor: Any = process.reactor
        self.exit_code = CLEAN
        self._inherited = listening_descriptors()
        self._services = services
        self._drain_timeout = drain_timeout
        self._dumps = Dumps(process)
        self._stop_signals = 0
        self._under_way: defer.Deferred[None] | None = None
        """What is cancelled when the process is told to stop: the start; by force: drain, a part's stop."""
        self._deadline: Any = None
        self._serving = False
        """Whether systemd has been told that the process is ready, and not yet that it stops."""
        self._last_resort = LastResort(process)
        self._over: defer.Deferred[None] = defer.Deferred()
        """Fires when nothing is left to do but to end the reactor."""
        self._reactor_stops = False
        """Whether somebody, we or the service's own code, has called `reactor.stop`."""

    def run(self) -> int:
        """Run the reactor until the process has stopped."""
        early = signals.held()
        signals.handle(self)
        for number in early:
            signals.act(self, number)
        self.reactor.callWhenRunning(self._begin)
        self.reactor.addSystemEventTrigger("before", "shutdown", self._reactor_stopping)
        self.reactor.run()
        # One that comes while the interpreter ends would kill the process, which has ended well.
        signals.ignore()
        if not self._last_resort.ended:
            self._last_resort.exit_code = self.exit_code = FORCED
            log.critical(
                "service.failed", reason="reactor.crash() was called: nothing was drained or stopped"
            )
        if left_behind():
            # The interpreter would wait for them for ever. What they do was given its time: the drain.
            self._last_resort.end()
        return self.exit_code

    def _begin(self) -> None:
        # Twisted installs handlers of its own when the reactor starts.
        signals.handle(self)
        self.process.told_to_stop.addCallback(self._begin_end)
        life = defer.Deferred.fromCoroutine(self._live())
        life.addErrback(self._fail)
        life.addBoth(lambda _: self._leave())

    async def _live(self) -> None:
        if await self._start():
            reason = await self.process.told_to_stop
            await self._drain(reason)
            await self._close()
        if self.process.given_up:
            self.exit_code = FORCED
        if self.process.stalls:
            self.process.stalls.stop()
        self._allow(None)
        self._last_resort.exit_code = self.exit_code
        log.info("service.stopped", exit_code=self.exit_code)

    async def _start(self) -> bool:
        self._under_way = defer.Deferred.fromCoroutine(self._build_and_start())
        if self.process.told_to_stop.called:
            self._under_way.cancel()
        try:
            await self._under_way
        except StartError as error:
            self.exit_code = _refuse(self.process.about, error)
            self.systemd.tell(f"STATUS=not started: {error}")
        except defer.CancelledError:
            log.info("service.start_abandoned", reason=self.process.stop_reason)
        except Exception:
            self.exit_code = FAILED_TO_START
            log.exception("service.start_failed")
            self.systemd.tell("STATUS=not started: a bug, whose traceback is in the log")
        else:
            about = self.process.about
            log.info("service.started", name=about.name, version=about.version, pid=os.getpid())
            self._tell_unserved()
            self.systemd.ready(self._status())
            self._serving = True
            return True
        return False

    def _tell_unserved(self) -> None:
        """Say which inherited sockets nobody serves: their clients would wait for ever."""
        claims = [each for one in flags.states() for each in getattr(one.var, "claims", list)()]
        claimed = [number for each in claims if (number := each.descriptor()) is not None]
        for number in unserved(self._inherited, self.process.sockets, claimed):
            log.warning("listening.unserved", descriptor=number)

    async def _build_and_start(self) -> None:
        if self.process.stop_signalled:
            raise defer.CancelledError
        self.process.sockets.certificate_watch = FLAGS.certificate_watch
        self._services(self.process)
        await self.process.start()
        collector.tune_from_flags()
        if self.process.stalls:
            # What a start does may well take its time.
            self.process.stalls.start()

    def _begin_end(self, reason: str) -> str:
        # What has started is stopped; and `ready` of a part is awaited.
        self._allow(max(self._drain_timeout, PATIENCE))
        if self.process.state == "starting" and self._under_way:
            self._under_way.cancel()
        return reason

    async def _drain(self, reason: str) -> None:
        timeout = self._drain_timeout
        self._serving = False
        log.info("service.draining", reason=reason, timeout=timeout)
        self.systemd.stopping(f"draining for up to {timeout:g} s: {reason}")
        self._allow(timeout)
        self._under_way = defer.Deferred.fromCoroutine(self.process.drain())
        with suppress(defer.CancelledError):
            await self._under_way

    async def _close(self) -> None:
        """Stop the parts, within what is left of the drain's time: one that never ends holds up nothing."""
        if self._deadline.active():
            self._allow(max(self._deadline.getTime() - self.reactor.seconds(), PATIENCE))
        self._under_way = defer.Deferred.fromCoroutine(self.process.close())
        await self._under_way

    def _allow(self, seconds: float | None) -> None:
        """Force the end after that time; None is never."""
        if self._deadline and self._deadline.active():
            self._deadline.cancel()
        if seconds is not None:
            self._deadline = self.reactor.callLater(seconds, self._force, "the drain's deadline has passed")

    def _force(self, reason: str) -> None:
        if self._last_resort.ended:
            return
        self._last_resort.forced = True
        self.exit_code = FORCED
        unfinished = self.process.unfinished()
        log.warning("service.forced", reason=reason, unfinished=unfinished, **work(self.process))
        self._last_resort.arm()
        if self._under_way:
            self._under_way.cancel()

    def _reactor_stopping(self) -> defer.Deferred[None]:
        """Have the reactor run on until the process has drained, whoever stops it."""
        self._reactor_stops = True
        self.process.stop_now("reactor.stop() was called")
        return self._over

    def _leave(self) -> None:
        # From here on only threads can be in the way, those of Twisted's own pool first: it joins them.
        self._last_resort.arm()
        self._over.callback(None)
        if not self._reactor_stops:
            self.reactor.stop()

    def _fail(self, failure: Failure) -> None:
        self.exit_code = FAILED_TO_START if self.process.state == "starting" else FORCED
        self._last_resort.exit_code = self.exit_code
        log.critical("service.failed", exc_info=(failure.type, failure.value, failure.getTracebackObject()))

    def _status(self) -> str:
        """Say in a line what the process does: what it listens on."""
        return "listening on " + (", ".join(each.address for each in self.process.sockets.open) or "nothing")

    # Signals. They come between two bytecodes of the main thread, whatever the reactor is at;
    # callFromThread is the one door of the reactor that may be used there.

    def told_to_stop(self, name: str) -> None:
        """Stop by draining; at the second signal at once."""
        if self._last_resort.ended:
            return
        self._stop_signals += 1
        self.process.stop_signalled = True
        if self._stop_signals == 1:
            self.process.stop_reason = self.process.stop_reason or name
            self.reactor.callFromThread(self.process.stop_now, name)
            return
        # A reactor that is stuck in someone's code would not hear of it.
        self._last_resort.arm()
        self.reactor.callFromThread(self._force, f"{name} once more")

    def told_to_reload(self) -> None:
        """Read again what may have changed on disk."""
        self.reactor.callFromThread(self._reload)

    def told_to_dump(self, interrupted: FrameType | None) -> None:
        """Log where every thread, request and task is; at once, as the reactor may be stuck."""
        self._dumps.dump(interrupted)

    def told_to_toggle(self) -> None:
        """Open or close the manhole."""
        self.reactor.callFromThread(self._toggle)

    def _reload(self) -> None:
        if self._last_resort.ended:
            # Two signals at once come in any order; what has stopped says nothing any more.
            return
        if self._serving:
            self.systemd.reloading()
        refused = reload_all(self.process)
        if self._serving:
            self.systemd.ready("; ".join([self._status(), *(f"refused at HUP: {each}" for each in refused)]))

    def _toggle(self) -> None:
        if self._last_resort.ended:
            return
        reason = "the process stops" if self.process.state == "stopped" else "this process has no manhole"
        try:
            manhole = self.process.part("manhole") if self.process.state != "stopped" else None
        except KeyError:
            manhole = None
        if manhole is None:
            log.warning("signal.ignored", signal="SIGUSR2", reason=reason)
        else:
            manhole.toggle()
