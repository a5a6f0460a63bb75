"""The SSH server: which connections there are, what each may be, and how they end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.conch.interfaces import IConchUser
from twisted.conch.ssh.factory import SSHFactory
from twisted.conch.ssh.keys import Key
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred
from zope.interface import implementer

from halfsync import logs
from halfsync._twisted import logs_to
from halfsync.manhole.auth import KeyChecker, LoginRefused, UserAuth
from halfsync.manhole.log_filter import conch_log
from halfsync.manhole.session import ManholeSession
from halfsync.manhole.ssh_transport import ChannelService, SSHTransport
from halfsync.manhole.user import User

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress

    from halfsync.manhole.login import ManholeCounts
    from halfsync.manhole.tools import Tools

audit = logs.get_audit_logger(__name__)

MAX_UNAUTHENTICATED = 10
"""Connections that are not logged in; for one more, the oldest is closed."""

MAX_LOGINS = 10
"""Connections that are logged in."""

MAX_BEHIND = 20_000
"""Lines that may wait for the log before no more connections are taken: what each logs is never dropped."""

FAREWELL = 1.0
"""Seconds in which a client may take the last words before it is cut off."""


SERVICES: dict[bytes, Any] = {b"ssh-userauth": UserAuth, b"ssh-connection": ChannelService}


@implementer(IRealm)
@logs_to(conch_log)
class SSHServer(SSHFactory):
    """Makes connections, and knows them all."""

    noisy = False
    protocol = SSHTransport
    primes = None
    services = SERVICES

    def __init__(
        self,
        *,
        host_key: bytes,
        user: str,
        authorized_keys: str,
        tools: Tools,
        counts: ManholeCounts,
        reactor: Any,
    ) -> None:
        """Prepare to be listened with.

        :param host_key: an ed25519 private key.
        """
        self.user = user
        self._authorized_keys = authorized_keys
        key = Key.fromString(host_key)
        self.privateKeys = {key.sshType(): key}
        self.publicKeys = {key.sshType(): key.public()}
        self.portal = Portal(self, [self.checker(None)])
        self.tools = tools
        self.counts = counts
        self.reactor = reactor
        self.unauthenticated: dict[SSHTransport, None] = {}
        """In the order in which they came."""
        self.logins: set[SSHTransport] = set()
        self.reason = "it is done"
        """Told to every client when the server closes."""
        self._crowded = False
        self._empty: list[Deferred[None]] = []

    def checker(self, address: str | None) -> KeyChecker:
        """Return what checks the logins of one client."""
        return KeyChecker(self.user, self._authorized_keys, address)

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Make a connection; when too many are not logged in yet, the oldest of those makes room."""
        running = logs.running()
        if running and running.behind > MAX_BEHIND:
            self.counts.refused += 1
            return None
        if len(self.unauthenticated) < MAX_UNAUTHENTICATED:
            self._crowded = False
        else:
            self._make_room()
        return SSHFactory.buildProtocol(self, addr)

    def _make_room(self) -> None:
        # Before any whose keys are exchanged: to say nothing costs a client nothing.
        silent = [each for each in self.unauthenticated if not each.isEncrypted("in")]
        oldest = next(iter(silent or self.unauthenticated))
        self.counts.refused += 1
        # Once for all of a flood, or it would flood the log too.
        if not self._crowded:
            self._crowded = True
            reason = f"{MAX_UNAUTHENTICATED} others are not logged in yet, and this is the oldest"
            audit.warning("manhole.refused", session=oldest.id, peer=oldest.peer, reason=reason)
        del self.unauthenticated[oldest]
        oldest.abort()

    def getService(self, transport: Any, service: bytes) -> Any:
        """Offer authentication to a client that is not logged in, and sessions to one that is, each once."""
        logged_in = hasattr(transport, "avatar")
        if service == (b"ssh-connection" if logged_in else b"ssh-userauth") and not transport.login:
            return self.services[service]
        return None

    def requestAvatar(self, avatarId: Any, _mind: object, *_interfaces: object) -> Any:
        """Return the user whose key was accepted (IRealm)."""
        if len(self.logins) >= MAX_LOGINS:
            raise LoginRefused(f"{MAX_LOGINS} are in already")
        user = User(self.user, avatarId, session=ManholeSession, tools=self.tools, reactor=self.reactor)
        return IConchUser, user, lambda: None

    def forget(self, transport: SSHTransport) -> None:
        """Note that a connection has ended."""
        self.unauthenticated.pop(transport, None)
        self.logins.discard(transport)
        if not self.unauthenticated and not self.logins:
            while self._empty:
                self._empty.pop().callback(None)

    async def drain(self) -> None:
        """Tell every client, and return when all have gone; after a second the others are cut off."""
        for transport in [*self.unauthenticated, *self.logins]:
            transport.dismiss(self.reason)
        if self.unauthenticated or self.logins:
            deadline = self.reactor.callLater(FAREWELL, self.abort)
            empty: Deferred[None] = Deferred()
            self._empty.append(empty)
            try:
                await empty
            finally:
                if deadline.active():
                    deadline.cancel()

    def abort(self) -> None:
        """Cut off the clients that are left."""
        for transport in [*self.unauthenticated, *self.logins]:
            transport.transport.abortConnection()
