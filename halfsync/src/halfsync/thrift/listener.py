"""The RPC listener, as `--rpc.*` describes it: a part of the process like any other."""

from __future__ import annotations

from dataclasses import replace
from threading import enumerate as threads
from time import monotonic
from typing import TYPE_CHECKING, Any

from halfsync import flag, flags
from halfsync.endpoints.connections import idle
from halfsync.endpoints.listener import Endpoints, Listener
from halfsync.endpoints.parsing import as_endpoint
from halfsync.flags import types as flagtypes
from halfsync.life.errors import StartError, WrongFlagsError
from halfsync.life.facts import Metric, OpenConnection, RunningRequest, Sample, counter, gauge
from halfsync.logs import get_logger
from halfsync.thrift.bounds import Bounds
from halfsync.thrift.counts import BUCKETS
from halfsync.thrift.exposure import exposed
from halfsync.thrift.job import Job
from halfsync.thrift.login import Logins
from halfsync.thrift.mechanisms import ALL
from halfsync.thrift.processor import Processor
from halfsync.thrift.server import RpcServer
from halfsync.thrift.service import Service, lookup
from halfsync.thrift.users import Users, UsersError
from halfsync.workers.pool import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from halfsync.endpoints import Endpoint
    from halfsync.life.sockets import Sockets
    from halfsync.thrift.call import Call

    _Strings = flag.List[str]
else:
    _Strings = flag.List

log = get_logger(__name__)

SAFE = Bounds()

LOGIN_THREADS, LOGIN_QUEUE = 2, 1024


class Mechanisms(_Strings):
    """The flag of SASL's mechanisms, separated by spaces or commas."""

    def __init__(self, description: str) -> None:
        super().__init__(flag.String, " ", description, [])
        self.type_str = "mechanisms"

    def set(self, value: str) -> None:
        """Take names that are known."""
        names = value.replace(",", " ").split()
        for name in names:
            if name not in ALL:
                raise ValueError(f"has {name!r}, which is none of {', '.join(ALL)}")
        self.value = names


class RpcEndpoints(Endpoints):
    """The flag: endpoints that are open to nobody who has not been asked who he is."""

    def fault(self) -> str | None:
        """Say what is wrong on this machine as it is, an endpoint that anybody could use included."""
        return super().fault() or exposed(self.get(), FLAGS.sasl)


NO_USERS = "is empty, and --rpc.sasl needs a file of users"


def _users_fault(path: str) -> str | None:
    if not path:
        return NO_USERS if FLAGS.sasl else None
    try:
        Users(path).verify()
    except UsersError as error:
        return str(error)
    return None


@flags.declare(flag.namespace("rpc"))
class FLAGS:
    """Where RPC is answered, by whom, and what a client may cost."""

    listen = RpcEndpoints("Where Thrift RPC is answered.", default="tcp:9091:interface=127.0.0.1")
    threads = flagtypes.Count("Worker threads that run the handlers.", default=16)
    queue = flagtypes.Count(
        "Clients whose calls may wait for a thread; beyond it `overloaded`.", default=64, minimum=0
    )
    max_frame = flagtypes.Size(
        "A longer frame, or message once unpacked, ends its connection.",
        default=SAFE.max_frame,
        minimum=256,
        maximum=2**30,
    )
    max_connections = flagtypes.Count(
        "Connections open at a time; beyond it a new one is closed.", default=SAFE.max_connections
    )
    memory = flagtypes.Size(
        "Memory for calls and answers of all clients; beyond it the client that holds most is cut.",
        default=SAFE.memory,
        minimum=1024**2,
        maximum=2**40,
    )
    idle_timeout = flagtypes.Seconds(
        "Time that a connection may stay open between calls.", default=SAFE.idle_timeout
    )
    queue_timeout = flagtypes.Seconds(
        "A call that has waited longer for a thread is answered `overloaded`.", default=SAFE.queue_timeout
    )
    sasl = Mechanisms(
        "How clients prove who they are: SCRAM-SHA-256-PLUS (over TLS), SCRAM-SHA-256, PLAIN "
        "(over TLS or a private UNIX socket). Without any, clients must show certificates, or be on loopback "
        "or a private UNIX socket.",
    )
    users = flagtypes.Path(
        "File of users and salted keys, mode 600; `run rpc-user add NAME` adds one.",
        default="",
        check=_users_fault,
    )
    access_log = flag.Bool("One structured event a call.", default=True)


def workers_from_flags(reactor: Any) -> WorkerPool:
    """Make the part `rpc-workers`: the threads of `--rpc.threads` and `--rpc.queue`."""
    return WorkerPool("rpc-workers", threads=FLAGS.threads, queue=FLAGS.queue, reactor=reactor)


class RpcListener(Listener):
    """Services on endpoints."""

    def __init__(
        self,
        services: Service | Sequence[Service],
        workers: WorkerPool,
        *,
        endpoints: Sequence[Endpoint | str],
        sasl: Sequence[str] = (),
        users: str = "",
        bounds: Bounds = SAFE,
        authorize: Callable[[Call], bool] | None = None,
        access_log: bool = True,
        reactor: Any,
        name: str = "rpc",
    ) -> None:
        """Serve.

        :param services: one or more; without a prefix, a method is that of the first service that has it.
        :param authorize: says whether a call may be made; None allows every call. It runs in the thread of
            the handler: for an `async` one, the reactor's. When it raises, the call is not run.
        """
        every = [services] if isinstance(services, Service) else list(services)
        self._sasl = sasl
        self._users = Users(users) if users else None
        self._logins: Logins | None = None
        self._login_workers = WorkerPool(
            f"{name}-logins", threads=LOGIN_THREADS, queue=LOGIN_QUEUE, reactor=reactor
        )
        if self._users is not None and sasl:
            self._logins = Logins(
                sasl, self._users, self._login_workers, longest=bounds.max_login, reactor=reactor
            )
        processor = Processor(
            lookup(every), longest=bounds.max_frame, queue_timeout=bounds.queue_timeout, authorize=authorize
        )
        self.server = RpcServer(
            processor, workers, bounds=bounds, logins=self._logins, access_log=access_log, reactor=reactor
        )
        every_endpoint = [as_endpoint(each).private() for each in endpoints]
        super().__init__(
            name, flag="rpc.listen", endpoints=every_endpoint, factory=self.server, reactor=reactor
        )

    @classmethod
    def from_flags(
        cls,
        services: Service | Sequence[Service],
        workers: WorkerPool,
        reactor: Any,
        *,
        authorize: Callable[[Call], bool] | None = None,
    ) -> RpcListener:
        """Serve where and as the flags say; the part is called `rpc`."""
        bounds = Bounds(
            max_frame=FLAGS.max_frame,
            max_connections=FLAGS.max_connections,
            memory=FLAGS.memory,
            idle_timeout=FLAGS.idle_timeout,
            queue_timeout=FLAGS.queue_timeout,
        )
        return cls(
            services,
            workers,
            endpoints=FLAGS.listen,
            sasl=FLAGS.sasl,
            users=FLAGS.users,
            bounds=bounds,
            authorize=authorize,
            access_log=FLAGS.access_log,
            reactor=reactor,
        )

    async def bind(self, sockets: Sockets) -> None:
        """Bind, unless that would serve clients that nobody has asked who they are.

        :raises StartError: when it would, or users cannot log in.
        """
        self._require_safe()
        await super().bind(sockets)

    async def stop(self) -> None:
        """Close the endpoints, and the connections that are left."""
        await super().stop()
        await self._login_workers.stop()

    def requests(self) -> list[RunningRequest]:
        """Return the calls that are being answered."""
        names = {thread.ident: thread.name for thread in threads()}
        found = []
        for connection in self.server.connections:
            busy = connection.busy
            if busy is None:
                continue
            thread = names.get(busy.ident) if isinstance(busy, Job) else None
            ready = busy.running if isinstance(busy, Job) else busy
            # Without one, the thread is between two calls, or there is none yet.
            name, request_id = (ready.method.label, ready.call.request_id) if ready is not None else ("", "")
            since = self._since(None if ready is None else ready.arrived)
            found.append(RunningRequest(self.label, "call", name, connection.peer, since, thread, request_id))
        return found

    def open_files(self) -> int:
        """Return how many files there may be at most: connections, and threads for logins."""
        return super().open_files() + self.server.bounds.max_connections + LOGIN_THREADS

    def allow_open_files(self, most: int) -> None:
        """Have fewer connections."""
        super().allow_open_files(most)
        server = self.server
        asked = server.bounds.max_connections
        fewer = max(1, min(asked, most - super().open_files() - LOGIN_THREADS))
        server.bounds = replace(server.bounds, max_connections=fewer)
        event = f"{self.label}.max_connections_lowered"
        log.warning(event, asked=asked, used=fewer, open_files=most)

    def connections(self) -> list[OpenConnection]:
        """Return the open connections."""
        now = monotonic()
        return [
            OpenConnection(
                self.label,
                each.peer if each.identity is None else f"{each.identity.name} at {each.peer}",
                age=now - since,
                asked=each.asked,
                at=_at(each.busy),
                idle=idle(each.transport),
                unsent=each.unsent,
                memory=each.held,
            )
            for each, since in self.server.connections.items()
        ]

    def metrics(self) -> Iterator[Metric]:
        """Return counts of calls, connections and logins, and a histogram of durations."""
        server, counts, name = self.server, self.server.counts, {"listener": self.label}
        yield Metric(
            "counter",
            "rpc_calls",
            "Calls answered.",
            [Sample(n, {**name, "method": m, "outcome": o}) for (m, o), n in counts.calls.items()],
        )
        yield Metric(
            "histogram",
            "rpc_call_seconds",
            "From a call's last byte to its answer.",
            [Sample(counts.seconds, name, counts.durations)],
            BUCKETS,
        )
        yield Metric(
            "counter",
            "rpc_refused",
            "Connections ended for what their clients did.",
            [Sample(n, {**name, "reason": reason}) for reason, n in counts.refused.items()],
        )
        yield counter("rpc_sent_bytes", "Bytes of answers.", counts.bytes, **name)
        yield counter("rpc_connections_accepted", "Connections.", counts.connections, **name)
        yield counter("rpc_logins", "Clients that got in.", counts.logins, **name)
        refused = self._logins.refused if self._logins is not None else 0
        yield counter("rpc_logins_refused", "Clients that did not.", refused, **name)
        yield gauge("rpc_connections", "Open connections.", len(server.connections), **name)
        yield gauge("rpc_memory_bytes", "What calls and answers hold.", server.held, **name)

    def _since(self, arrived: float | None) -> float:
        """Return a time of the monotonic clock in the reactor's seconds."""
        now = float(self._reactor.seconds())
        return now if arrived is None else now - (monotonic() - arrived)

    def _require_safe(self) -> None:
        if self._sasl and self._users is None:
            raise WrongFlagsError(f"--rpc.users: {NO_USERS}")
        if self._sasl and self._users is not None:
            try:
                self._users.verify()
            except UsersError as error:
                raise StartError(f"--rpc.users: {error}") from error
        fault = exposed(self._endpoints, self._sasl)
        if fault:
            raise WrongFlagsError(f"--rpc.listen: {fault}")


def _at(busy: Any) -> str:
    if isinstance(busy, Job):
        return busy.running.method.label if busy.running is not None else ""
    return busy.method.label if busy is not None else ""
