"""An endpoint string that was understood: what it means, whether it can be had, and listening there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from halfsync._later import later
from halfsync.endpoints.certificates import CertificateError, Certificates
from halfsync.endpoints.sockets import Inherited, ListenError, Source, Unix, same_socket

if TYPE_CHECKING:
    from twisted.internet.interfaces import IProtocolFactory

    from halfsync.endpoints import ports
    from halfsync.life.sockets import Sockets
else:
    ports = later("halfsync.endpoints.ports")

PRIVATE_MODE = 0o600


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to listen, and what comes before the factory's protocol."""

    text: str
    source: Source
    certificates: Certificates | None
    proxied: bool

    def __str__(self) -> str:
        """Return the string that it was."""
        return self.text

    def private(self) -> Endpoint:
        """Return the same for this user alone: a UNIX socket whose string names no mode has 600."""
        source = self.source
        if isinstance(source, Unix) and source.mode is None:
            return replace(self, source=replace(source, mode=PRIVATE_MODE))
        return self

    def verify(self) -> None:
        """Find what would prevent listening, as far as that shows without binding.

        :raises ListenError: when something would.
        """
        try:
            if self.certificates is not None:
                self.certificates.load()
            self.source.verify()
        except (ListenError, CertificateError) as error:
            raise ListenError(f"{self.text!r}: {error}") from error

    def descriptor(self) -> int | None:
        """Return the descriptor that was inherited; None for a socket of our own, or when there is none."""
        if not isinstance(self.source, Inherited):
            return None
        try:
            return self.source.find()
        except ListenError:
            return None

    def conflicts_with(self, other: Endpoint) -> bool:
        """Say whether both cannot be listened on by different parts of a process."""
        return same_socket(self.source, other.source)

    @property
    def repeatable(self) -> bool:
        """Whether the same part may have it twice: what was inherited is there for all of its endpoints."""
        return isinstance(self.source, Inherited)

    def bind(self, factory: IProtocolFactory, reactor: Any, sockets: Sockets) -> ports.ListeningPort:
        """Bind, or take a socket that the process was given; its `start` begins to accept.

        :param factory: is given each connection.
        :raises ListenError: when it cannot be had; nothing is left behind.
        """
        given = None
        try:
            given = sockets.take(self.source.key)
            listening = given if given is not None else self.source.open()
            try:
                port = ports.ListeningPort(
                    listening,
                    factory,
                    reactor,
                    sockets=sockets,
                    key=self.source.key,
                    inherited=self.source.inherited,
                    certificates=self.certificates,
                    proxied=self.proxied,
                )
            except BaseException:
                listening.close()
                raise
        except (ListenError, CertificateError) as error:
            raise ListenError(f"{self.text!r}: {error}") from error
        # Until the process before retires, it is as much its socket.
        port.shared = given is not None
        return port

    def listen(self, factory: IProtocolFactory, reactor: Any, sockets: Sockets) -> ports.ListeningPort:
        """Bind, and accept at once.

        :raises ListenError: as `bind`.
        """
        port = self.bind(factory, reactor, sockets)
        port.start()
        return port
