"""An exchange in memory, without sockets, for `halfsync.testing`."""

from __future__ import annotations

from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, execute
from twisted.internet.testing import StringTransport

from halfsync.http.connection import H1Connection
from halfsync.in_memory.steps import STEPS
from halfsync.workers.client_waits import ClientWaits

if TYPE_CHECKING:
    from collections.abc import Callable

    from halfsync.http.context import Context
    from halfsync.http.h1_stream import H1Stream

Ps = ParamSpec("Ps")
T = TypeVar("T")


class Unanswered(AssertionError):  # noqa: N818  a test's assertion
    """The handler has not answered: it waits for something that the test must make happen."""


class InlineWorkers:
    """Makes every call at once, where a service has threads.

    `Gateway(app, InlineWorkers())`, `Periodic(..., reactor=Clock(), pool=InlineWorkers())`.
    """

    threads = 1

    def __init__(self) -> None:
        self.client_waits = ClientWaits(self.threads)

    def submit(
        self,
        call: Callable[[], object],
        label: str | Callable[[], str],
        *,
        patient: bool = False,
        deadline: float | None = None,
        critical: bool = False,
    ) -> None:
        """Make a call, in a context of its own, as the threads of the pool do."""
        del label, patient, deadline, critical
        steps, run = STEPS.get(), copy_context().run
        if steps is None:
            run(call)
        else:
            steps.begin(partial(run, call))

    def run(self, fn: Callable[Ps, T], *args: Ps.args, **kwargs: Ps.kwargs) -> Deferred[T]:
        """Make a call at once; return a Deferred of what it returned or raised, as a pool does."""
        call: Callable[[], T] = partial(copy_context().run, fn, *args, **kwargs)
        return execute(call)

    def retry_after(self) -> int:
        """Return 1; it is never busy."""
        return 1

    def in_reactor(self, function: Callable[..., object], *args: object) -> None:
        """Make a call of the reactor's at once, too."""
        steps = STEPS.get()
        if steps is None:
            function(*args)
        else:
            steps.hand_over(partial(function, *args))

    def skipped(self) -> None:
        """Count nothing."""

    def progress(self, *, waiting: bool = False) -> None:
        """Watch nothing."""


class Transport(StringTransport):
    """A connection to nowhere that tells when the server is done with it."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            IPv4Address("TCP", "127.0.0.1", 80), IPv4Address("TCP", "127.0.0.1", 50000), lenient=True
        )
        self._ended = connection.ended
        self.protocol: Any = connection
        """Who reads: the connection, until a websocket stands in its place."""
        self.aborted = False

    def take(self) -> bytes:
        """Return what has been written since the last time."""
        data: bytes = self.value()
        self.clear()
        return data

    def loseConnection(self) -> None:
        """Hear that the server is done."""
        self.disconnecting = True
        self._ended()

    def abortConnection(self) -> None:
        """Hear that the server cuts the connection."""
        self.aborted = True
        self._ended()


class Connection(H1Connection):
    """A connection for one exchange."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.answered: Deferred[None] = Deferred()

    def written(self, stream: H1Stream) -> None:
        """Hear that the response is whole."""
        super().written(stream)
        self.ended()

    def ended(self) -> None:
        """Tell that the exchange is over."""
        if not self.answered.called:
            self.answered.callback(None)
