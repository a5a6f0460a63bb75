"""A part of the process that listens: several endpoints, one factory, all or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from halfsync import flag
from halfsync.endpoints.connections import open_connections
from halfsync.endpoints.parsing import EndpointError, check, parse
from halfsync.endpoints.sockets import ListenError
from halfsync.life.errors import StartError
from halfsync.life.parts import Part
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.internet.interfaces import IProtocolFactory

    from halfsync.endpoints.ports import Bound
    from halfsync.life.facts import OpenConnection

    _Strings = flag.List[str]
else:
    _Strings = flag.List

log = get_logger(__name__)


class Endpoints(_Strings):
    """The flag of a listener: endpoint strings separated by spaces; none turns it off."""

    def __init__(self, description: str, default: str) -> None:
        super().__init__(flag.String, " ", description, default.split())
        self.type_str = "endpoints"

    def set(self, value: str) -> None:
        """Take endpoint strings that can be read; whether one can listen there is the world's affair."""
        texts = value.split()
        for text in texts:
            try:
                parse(None, text)
            except EndpointError as error:
                # Its message begins with the string, and so does the one that this becomes part of.
                told = str(error).removeprefix(f"{value!r} ")
                raise ValueError(told if len(texts) == 1 else f"is wrong: {told}") from None
        self.value = texts

    def fault(self) -> str | None:
        """Say which of the endpoints the world, as it is, does not allow."""
        for text in self.get():
            try:
                check(text)
            except ListenError as error:
                return str(error)
        return None


class Listener(Part):
    """Endpoint strings that serve one factory.

    A factory that has `async drain()` and `abort()` is told when the process drains and stops;
    one that has not is left alone.
    """

    def __init__(
        self, name: str, *, flag: str, endpoints: Sequence[str], factory: IProtocolFactory, reactor: Any
    ) -> None:
        super().__init__(name)
        self._flag = flag
        self._endpoints = endpoints
        self.factory = factory
        self._reactor = reactor
        self._bound: list[Bound] = []

    async def start(self) -> None:
        """Listen on every endpoint, or on none.

        :raises StartError: naming the flag and the string.
        """
        try:
            for text in self._endpoints:
                self._bound.append(await parse(self._reactor, text).listen(self.factory))
        except BaseException as error:
            await self._close()
            if isinstance(error, (EndpointError, ListenError)):
                raise StartError(f"--{self._flag}: {error}") from error
            raise
        event = f"{self.label}.listening"
        for bound in self._bound:
            log.info(event, address=bound.address)

    async def drain(self) -> None:
        """Stop accepting everywhere, then wait for the factory."""
        for bound in self._bound:
            bound.stop_accepting()
        drain = getattr(self.factory, "drain", None)
        if drain is not None:
            await drain()

    async def stop(self) -> None:
        """Close the endpoints, and the connections that are left."""
        await self._close()
        abort = getattr(self.factory, "abort", None)
        if abort is not None:
            abort()

    def problems(self) -> list[str]:
        """Say which endpoint no longer accepts, and why."""
        return [f"{bound.address}: {problem}" for bound in self._bound if (problem := bound.problem())]

    def connections(self) -> list[OpenConnection]:
        """Return the open connections."""
        return open_connections(self.label, self.factory)

    def addresses(self) -> list[str]:
        """Give each endpoint's address for a person, with the real port."""
        return [bound.address for bound in self._bound]

    def url(self) -> str | None:
        """Give the URL, reachable from this machine, of the first TCP endpoint without TLS."""
        return next((bound.url for bound in self._bound if bound.url and not bound.tls), None)

    async def _close(self) -> None:
        while self._bound:
            await self._bound.pop().close()
