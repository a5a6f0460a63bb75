"""A part of the process that listens: several endpoints, one factory, all or nothing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from halfsync import flag
from halfsync._later import later
from halfsync.endpoints.parsing import EndpointError, as_endpoint, parse
from halfsync.endpoints.sockets import ListenError
from halfsync.life.errors import StartError
from halfsync.life.facts import Metric, Sample
from halfsync.life.parts import Part
from halfsync.life.sockets import Sockets
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from twisted.internet import defer
    from twisted.internet.interfaces import IProtocolFactory
    from twisted.internet.protocol import Factory

    from halfsync.endpoints import connections
    from halfsync.endpoints.endpoint import Endpoint
    from halfsync.endpoints.ports import ListeningPort
    from halfsync.life.facts import OpenConnection

    _List = flag.List[Endpoint]
else:
    connections = later("halfsync.endpoints.connections")
    defer = later("twisted.internet.defer")
    _List = flag.List

log = get_logger(__name__)

HANDSHAKES = 1000
"""Handshakes that a port may have at a time: `handshakes.MOST`."""


class Endpoints(_List):
    """The flag of a listener: endpoint strings separated by spaces; none turns it off."""

    def __init__(self, description: str, default: str) -> None:
        # What oscar makes of the items itself is nothing that `set` leaves to it.
        super().__init__(
            cast("Any", flag.String), " ", description, [parse(each) for each in default.split()]
        )
        self.type_str = "endpoints"

    def set(self, value: str) -> None:
        """Take endpoint strings that can be read; whether one can listen there shows later."""
        texts = value.split()
        try:
            self.value = [parse(text) for text in texts]
        except EndpointError as error:
            # Its message begins with the string, and so does the one that this becomes part of.
            told = str(error).removeprefix(f"{value!r} ")
            raise ValueError(told if len(texts) == 1 else f"is wrong: {told}") from None

    def fault(self) -> str | None:
        """Say which of the endpoints cannot be listened on, on this machine as it is."""
        for endpoint in self.get():
            try:
                endpoint.verify()
            except ListenError as error:
                return str(error)
        return None

    def claims(self) -> list[Endpoint]:
        """Return what no other flag may name, too."""
        return self.get()


class Listener(Part):
    """Endpoints that serve one factory.

    A factory that has `async drain()` and `abort()` is told when the process drains and stops;
    one that has not is left alone. Its `drain` is called again when connections came in the meantime.

    :param flag: the name of the flag that an error names.
    :param endpoints: such a flag's value, or endpoint strings.
    :raises EndpointError: when a string is wrong.
    """

    may_be_off = False
    """Whether an empty flag is a way to turn it off; else it is likely a variable that was not set."""

    def __init__(
        self,
        name: str,
        *,
        flag: str,
        endpoints: Sequence[Endpoint | str],
        factory: IProtocolFactory | Factory,
        reactor: Any,
    ) -> None:
        super().__init__(name)
        self._flag = flag
        self._endpoints = [as_endpoint(each) for each in endpoints]
        self.factory = factory
        self._reactor = reactor
        self._ports: list[ListeningPort] = []
        self._most_handshakes = HANDSHAKES

    def open_files(self) -> int:
        """Return how many files there may be at most but for connections, which a subclass knows of.

        A port has its socket, and one to give up when there is no other; and handshakes, where there are any.
        """
        shaking = sum(each.certificates is not None or each.proxied for each in self._endpoints)
        return 2 * len(self._endpoints) + self._most_handshakes * shaking

    def allow_open_files(self, most: int) -> None:
        """Have fewer handshakes at a time: an eighth of all."""
        self._most_handshakes = max(1, min(HANDSHAKES, most // 8))

    async def bind(self, sockets: Sockets) -> None:
        """Bind every endpoint, or none.

        :raises StartError: naming the flag and the string.
        """
        try:
            for endpoint in self._endpoints:
                port = endpoint.bind(self.factory, self._reactor, sockets)
                self._ports.append(port)
                if self._most_handshakes < HANDSHAKES:
                    port.handshakes.most = self._most_handshakes
                self._refuse_a_second_listener(endpoint, port, sockets)
        except BaseException as error:
            await self.unbind()
            if isinstance(error, ListenError):
                raise StartError(f"--{self._flag}: {error}") from error
            raise

    async def unbind(self) -> None:
        """Let go of every socket."""
        while self._ports:
            await self._ports.pop().close()

    async def start(self) -> None:
        """Accept on every endpoint, or on none; bind first where nobody has."""
        if not self._ports:
            await self.bind(Sockets())
        try:
            for port in self._ports:
                port.start()
        except BaseException:
            await self.unbind()
            raise
        event = f"{self.label}.listening"
        for port in self._ports:
            log.info(event, address=port.address)
        if not self._ports and not self.may_be_off:
            event = f"{self.label}.not_listening"
            log.warning(event, problem=f"--{self._flag} is empty; name an endpoint, such as tcp:8080")

    async def drain(self) -> None:
        """Stop accepting everywhere, then wait for the factory."""
        for port in self._ports:
            port.stop_accepting()
        drain = getattr(self.factory, "drain", None)
        if drain is None:
            return
        handshakes = [port.handshakes for port in self._ports if len(port.handshakes)]
        waited = [drain(), *(each.drain() for each in handshakes)]
        try:
            each = [defer.Deferred.fromCoroutine(each) for each in waited]
            await defer.gatherResults(each, consumeErrors=True)
        except defer.FirstError as error:
            # A drain that is cut is no bug of a part's: the caller looks for CancelledError.
            error.subFailure.raiseException()
        if handshakes:
            # Connections that became the factory's after it had none left.
            await drain()

    async def stop(self) -> None:
        """Close the endpoints, and the connections that are left."""
        for port in self._ports:
            port.handshakes.abort()
        await self.unbind()
        abort = getattr(self.factory, "abort", None)
        if abort is not None:
            abort()

    def reload(self) -> list[str]:
        """Read the certificates again; return which were refused."""
        return [refusal for port in self._ports if port.tls is not None and (refusal := port.tls.reload())]

    def problems(self) -> list[str]:
        """Say which endpoint no longer accepts, and why."""
        return [f"{port.address}: {problem}" for port in self._ports if (problem := port.problem())]

    def connections(self) -> list[OpenConnection]:
        """Return the open connections."""
        return connections.open_connections(self.label, self.factory)

    def metrics(self) -> Iterable[Metric]:
        """Return how handshakes ended, and when certificates expire."""
        tls = [port for port in self._ports if port.tls is not None]
        results = sorted({each for port in tls for each in port.handshakes.results})
        return [
            Metric(
                "gauge",
                "tls_certificate_expires_seconds",
                "When the first certificate expires (epoch).",
                [Sample(port.tls.expires, {"path": port.tls.path}) for port in tls if port.tls is not None],
            ),
            Metric(
                "counter",
                "tls_handshakes",
                "TLS handshakes, by how they ended.",
                [
                    Sample(
                        sum(port.handshakes.results[each] for port in tls),
                        {"listener": self.label, "result": each},
                    )
                    for each in results
                ],
            ),
        ]

    def addresses(self) -> list[str]:
        """Give each endpoint's address for a person, with the real port."""
        return [port.address for port in self._ports]

    def url(self) -> str | None:
        """Give the URL, reachable from this machine, of the first TCP endpoint without TLS."""
        return next((port.url for port in self._ports if port.url and not port.tls), None)

    def _refuse_a_second_listener(self, endpoint: Endpoint, port: ListeningPort, sockets: Sockets) -> None:
        """Two factories on one inherited socket would each get the clients of the other."""
        own = os.fstat(port.fileno()).st_ino
        for other in sockets.open:
            if other not in self._ports and os.fstat(other.fileno()).st_ino == own:
                raise ListenError(f"{endpoint.text!r}: another listener has it already, as {other.address}")
