"""Outgoing RPC to one service that survives what its servers do: `RpcClient`.

    greeter = process.add(RpcClient(Hello.Client, "tcp:hello.internal:9091", reactor=process.reactor,
                                    idempotent=["hello"]))

    text = await greeter.hello("Anna")             # in the reactor
    text = greeter.blocking.hello("Anna")          # in a thread

One deadline holds for all tries together, and never exceeds what is left of the caller's own
(`with halfsync.deadline.within(2): ...`). Many calls share few connections.
"""

from __future__ import annotations

from random import Random
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from structlog.contextvars import get_contextvars
from twisted.internet.threads import deferToThreadPool

from halfsync import deadline as deadlines
from halfsync import request_id as request_ids
from halfsync.client.addresses import Dns, Refreshed, Srv, Static
from halfsync.client.attempts import Attempts, Verdict
from halfsync.client.balancer import Address, Balancer
from halfsync.client.breaker import Breaker
from halfsync.client.budget import RetryBudget
from halfsync.client.errors import Interrupted
from halfsync.client.latencies import Latencies
from halfsync.client.places import Places
from halfsync.client.trust import Trust
from halfsync.life.facts import Metric, Sample, gauge
from halfsync.life.parts import Part
from halfsync.reactor_calls import from_thread
from halfsync.thrift import header as theader
from halfsync.thrift import message as messages
from halfsync.thrift.call import current_call
from halfsync.thrift.client import peer as peers
from halfsync.thrift.client.connection import ClientConnection
from halfsync.thrift.client.errors import RemoteError
from halfsync.thrift.client.faces import Faces
from halfsync.thrift.client.methods import remote_error
from halfsync.thrift.client.pool import Pool
from halfsync.thrift.errors import INTERNAL_ERROR
from halfsync.thrift.header import BINARY
from halfsync.thrift.message import CALL, ONEWAY

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from halfsync.client.addresses import Source
    from halfsync.deadline import DeadlineExceeded
    from halfsync.thrift.client.credentials import Credentials
    from halfsync.thrift.client.methods import RemoteMethod
    from halfsync.thrift.message import Message

    Answer = tuple[Message | None, RemoteError | DeadlineExceeded | None]

C = TypeVar("C")

LARGE = 64 * 1024
"""Bytes of an answer from which on a thread decodes it."""

TRACE = (request_ids.TRACEPARENT, "tracestate")


class RpcClient(Faces[C], Part):
    """A part of the process: calls to one service, in the reactor or, by `blocking`, in threads."""

    def __init__(
        self,
        client: type[C],
        address: str | Sequence[str],
        *,
        reactor: Any,
        name: str | None = None,
        srv: str | None = None,
        idempotent: Collection[str] = (),
        service: str | None = None,
        credentials: Credentials | None = None,
        trust: Trust | None = None,
        server_name: str | None = None,
        theader: bool = True,
        timeout: float = 10.0,
        connect_timeout: float = 5.0,
        retries: int = 2,
        max_connections: int = 4,
        max_calls: int = 256,
        max_waiting: int = 256,
        max_answer: int = 16 * 1024 * 1024,
        hedge: bool = False,
        source: Source | None = None,
        seconds: Callable[[], float] = monotonic,
        random: Random | None = None,
    ) -> None:
        """Reach a service.

        :param client: the class that the compiler made, such as `Hello.Client`.
        :param address: `tcp:host:port`, `tls:host:port` or `unix:/path`; of several, all of one kind,
            the less loaded of two is asked. Of one host, all addresses that DNS has are used.
        :param name: how logs and metrics call it; by default the service's name.
        :param srv: an SRV record that says where the servers are, instead of the address's host and port.
        :param idempotent: the methods that may be made again although a server may have begun them.
        :param service: the name before each method, for a multiplexing server.
        :param credentials: how to log in (SASL); None for a server that wants no login.
        :param trust: whom to believe over TLS, and which certificate to show.
        :param server_name: whose certificate is wanted over TLS; by default the address's host.
        :param theader: False for servers without THeader: framed binary, and nothing goes along with a call.
        :param timeout: seconds for a call, all tries included.
        :param connect_timeout: seconds for a connection, with TLS and login.
        :param retries: how often a call is tried again at most, within the budget.
        :param max_connections: to one address.
        :param max_calls: under way at a time; `max_waiting` more may wait.
        :param max_answer: bytes.
        :param hedge: make an idempotent call a second time when its answer is later than 95 of 100 are;
            for at most one call in a hundred.
        :raises ValueError: when these do not go together; TypeError, when the class is none.
        """
        Faces.__init__(self, client, service)
        Part.__init__(self, name or client.__module__.rpartition(".")[2])
        where = [peers.parse(each) for each in ([address] if isinstance(address, str) else address)]
        kinds = {each.kind for each in where}
        if len(kinds) != 1:
            raise ValueError("address: one, or several of the same kind (tcp, tls or unix)")
        kind = kinds.pop()
        if wrong := sorted(set(idempotent) - self.methods.keys()):
            raise ValueError(f"idempotent: {wrong[0]!r} is no method of {self.label}")
        tls = kind == "tls"
        if credentials and (fault := credentials.fault(tls=tls, private=kind == "unix")):
            raise ValueError(fault)
        trust = trust or Trust()
        if tls:
            trust.options("localhost")  # so that a wrong file is told now
        self.timeout = timeout
        self.breaker = Breaker(seconds=seconds)
        self.budget = RetryBudget(seconds=seconds)
        self.places = Places(reactor, limit=max_calls, waiting=max_waiting, timeout=timeout)
        self._idempotent = frozenset(idempotent)
        self._theader = theader
        self._reactor = reactor
        self._seconds = seconds
        random = random or Random()  # noqa: S311  it chooses addresses
        hosts = {each.address: each.address.host for each in where}

        def connect(address: Address) -> Pool:
            of = server_name or hosts.get(address) or where[0].address.host

            def make(gone: Callable[[ClientConnection], object]) -> ClientConnection:
                return ClientConnection(
                    self.label,
                    tls=tls,
                    credentials=credentials,
                    max_answer=max_answer,
                    reactor=reactor,
                    gone=gone,
                )

            return Pool(
                make,
                lambda: peers.endpoint(
                    reactor, kind, address, trust=trust, server_name=of, connect_timeout=connect_timeout
                ),
                where=f"{address.host}:{address.port}" if address.port else address.host,
                most=max_connections,
                connect_timeout=connect_timeout,
                reactor=reactor,
            )

        self.balancer = Balancer(connect, seconds=seconds, random=random)
        if source is None:
            first = where[0].address
            if srv is not None:
                source = Refreshed(Srv(srv), seconds=seconds)
            elif len(where) > 1 or kind == "unix":
                source = Static([each.address for each in where])
            else:
                source = Refreshed(Dns(reactor, first.host, first.port), seconds=seconds)
        self._attempts: Attempts[Pool] = Attempts(
            self.label,
            reactor=reactor,
            source=source,
            balancer=self.balancer,
            close=Pool.retire,
            breaker=self.breaker,
            budget=self.budget,
            places=self.places,
            latencies=Latencies(),
            retries=retries,
            hedge_budget=RetryBudget(seconds=seconds, share=0.01, minimum=0) if hedge else None,
            seconds=seconds,
            random=random,
        )

    @property
    def counts(self) -> dict[tuple[str, str], int]:
        """How many tries ended how, by kind (`first`, `retry`, `hedge`) and outcome, since the start."""
        return self._attempts.counts

    async def stop(self) -> None:
        """Cut the connections."""
        for member in self.balancer.members:
            member.connector.abort()

    def metrics(self) -> Iterator[Metric]:
        """Return counts of tries, and the open connections."""
        name = {"peer": self.label}
        yield Metric(
            "counter",
            "rpc_client_tries",
            "Tries of outgoing calls.",
            [Sample(n, {**name, "kind": kind, "outcome": each}) for (kind, each), n in self.counts.items()],
        )
        count = sum(len(member.connector.open) for member in self.balancer.members)
        yield gauge("rpc_client_connections", "Open connections to servers.", count, **name)

    # Faces calls these.

    async def _await(self, method: RemoteMethod, *args: Any, **kwargs: Any) -> Any:
        answer = await self._exchange(method, method.encode(BINARY, args, kwargs))
        if answer is None:
            return None
        if len(answer.payload) < LARGE:
            return method.decode(answer)
        pool = self._reactor.getThreadPool()
        value, error = await deferToThreadPool(self._reactor, pool, _decode, method, answer)
        if error is not None:
            raise error
        return value

    def _block(self, method: RemoteMethod, *args: Any, **kwargs: Any) -> Any:
        # Encoding and decoding are this thread's affair.
        answer = from_thread(self._exchange(method, method.encode(BINARY, args, kwargs)))
        return None if answer is None else method.decode(answer)

    # Our own.

    async def _exchange(self, method: RemoteMethod, body: bytes) -> Message | None:
        """Send a call, as often as it takes; return the message that has a result.

        :raises RemoteError: when the server answered with an error.
        :raises DeadlineExceeded: when there was no answer in time.
        :raises CallError: when there is none.
        """
        kind = ONEWAY if method.is_oneway else CALL

        async def once(which: str, tried: list[Address]) -> Answer:
            attempt = await self._attempts.begin(which, tried)
            try:
                connection = await attempt.member.connector.get()
                answer = await connection.ask(kind, lambda number: self._frame(method, kind, number, body))
                error = None if answer is None else remote_error(answer, self.label)
            except BaseException as error:
                attempt.end(error)
                raise
            attempt.answered()
            attempt.end(None if _verdict((answer, error)).ok else Interrupted())
            return answer, error

        answer, error = await self._attempts.within(
            self.timeout,
            lambda: self._attempts.call(
                once, _verdict, idempotent=method.name in self._idempotent, method=method.name, hedge=True
            ),
        )
        if error is not None:
            raise error
        return answer

    def _frame(self, method: RemoteMethod, kind: int, number: int, body: bytes) -> bytes:
        payload = messages.compose(BINARY, kind, method.wire_name, number, body)
        if not self._theader:
            return len(payload).to_bytes(4, "big") + payload
        return theader.wrap(
            payload, sequence=number.to_bytes(4, "big"), protocol=BINARY, headers=self._headers()
        )

    def _headers(self) -> dict[str, str]:
        headers = {}
        if (left := deadlines.remaining(self._seconds)) is not None:
            headers["client_timeout"] = str(max(1, int(left * 1000)))
        if (request_id := get_contextvars().get("request_id")) is not None:
            headers[request_ids.HEADER] = str(request_id)
        try:
            given = current_call().headers
        except LookupError:
            return headers
        headers.update((each, given[each]) for each in TRACE if each in given)
        return headers


def _verdict(answered: Answer) -> Verdict:
    error = answered[1]
    if isinstance(error, RemoteError):
        return Verdict(not error.retryable and error.number != INTERNAL_ERROR, error.retryable)
    return Verdict(error is None)


def _decode(method: RemoteMethod, answer: Message) -> tuple[Any, Exception | None]:
    try:
        return method.decode(answer), None
    except Exception as error:  # noqa: BLE001  a Failure could not hold an exception that is immutable
        return None, error
