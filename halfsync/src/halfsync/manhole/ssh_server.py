"""The SSH server: connections from their first byte to their end, hardened, bounded and counted.

Offered is what `ssh-audit` does not fail, and no compression,
since before anyone has logged in a few bytes of it could be made to fill the memory.
The Terrapin attack (CVE-2023-48795) needs ChaCha20-Poly1305, or CBC with encrypt-then-MAC.
AES in counter mode with a plain HMAC, which is what conch has, is not open to it,
so that the countermeasure which conch lacks (strict key exchange) is not missed.
"""

from __future__ import annotations

import secrets
import struct
from typing import TYPE_CHECKING, Any

from twisted.conch.interfaces import IConchUser
from twisted.conch.ssh.common import NS, getNS
from twisted.conch.ssh.connection import (
    MSG_CHANNEL_OPEN_FAILURE,
    OPEN_ADMINISTRATIVELY_PROHIBITED,
    SSHConnection,
)
from twisted.conch.ssh.factory import SSHFactory
from twisted.conch.ssh.keys import Key
from twisted.conch.ssh.transport import DISCONNECT_BY_APPLICATION, SSHServerTransport
from twisted.cred.portal import IRealm, Portal
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from zope.interface import implementer

from halfsync.http.request import address_text
from halfsync.logs import get_logger
from halfsync.manhole.auth import SIGNATURES, KeyChecker, LoginRefused, UserAuth
from halfsync.manhole.log_filter import conch_log
from halfsync.manhole.login import Login
from halfsync.manhole.session import ManholeSession
from halfsync.manhole.user import User

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress
    from twisted.python.failure import Failure

    from halfsync.manhole.login import ManholeCounts
    from halfsync.manhole.tools import Tools

log = get_logger(__name__)

KEY_EXCHANGES = [
    name
    for name in SSHServerTransport.supportedKeyExchanges
    # The first is there when the cryptography package has ML-KEM.
    if name in (b"mlkem768x25519-sha256", b"curve25519-sha256", b"curve25519-sha256@libssh.org")
]
CIPHERS = [b"aes256-ctr", b"aes192-ctr", b"aes128-ctr"]
MACS = [b"hmac-sha2-512", b"hmac-sha2-256"]
COMPRESSIONS = [b"none"]

LOGIN_GRACE = 60.0
"""Seconds from connecting to being logged in."""

MAX_UNAUTHENTICATED = 10
"""Connections that are not logged in; more are closed at once."""

MAX_LOGINS = 10
"""Connections that are logged in."""

MAX_CHANNELS = 10
"""Sessions on one connection."""

FAREWELL = 1.0
"""Seconds in which a client may take the last words before it is cut off."""


class ChannelService(SSHConnection):
    """What a login leads to (RFC 4254)."""

    _log = conch_log
    transport: Any

    def serviceStarted(self) -> None:
        """Count the visit."""
        SSHConnection.serviceStarted(self)
        self.transport.authenticated()

    def channelClosed(self, channel: Any) -> None:
        """Forget a session, and end with the last one when all are to go.

        Not before: OpenSSH's client drops what it has not shown yet when it is disconnected.
        """
        SSHConnection.channelClosed(self, channel)
        if self.transport.leaving and not self.channels:
            self.transport.farewell(self.transport.leaving)

    def ssh_CHANNEL_OPEN(self, packet: bytes) -> None:
        """Open a session; refuse in one line what conch would refuse with a traceback in the log."""
        kind, rest = getNS(packet)
        if kind == b"session" and len(self.channels) < MAX_CHANNELS:
            SSHConnection.ssh_CHANNEL_OPEN(self, packet)
            return
        name = kind[:40].decode("ascii", "replace")
        reason = (
            "too many sessions on the connection" if kind == b"session" else f"no channels of type {name!r}"
        )
        log.warning("manhole.channel_refused", **self.transport.avatar.login.facts(), reason=reason)
        self.transport.sendPacket(
            MSG_CHANNEL_OPEN_FAILURE,
            rest[:4] + struct.pack(">L", OPEN_ADMINISTRATIVELY_PROHIBITED) + NS(reason.encode()) + NS(b""),
        )


class SSHTransport(SSHServerTransport):
    """One connection (RFC 4253)."""

    _log = conch_log
    factory: SSHServer
    transport: Any
    service: Any
    avatar: User
    # Not Twisted's version: whoever scans need not learn it.
    ourVersionString = b"SSH-2.0-Twisted"
    supportedKeyExchanges = KEY_EXCHANGES
    supportedCiphers = CIPHERS
    supportedMACs = MACS
    supportedCompressions = COMPRESSIONS
    peer = ""
    address: str | None = None
    """The peer's IP address, when it has one."""
    login: Login | None = None
    leaving: str | None = None
    """Why, once it is told to."""
    since = 0.0
    """When it was opened, in the reactor's seconds."""
    _logged_in = 0.0
    _ended = False

    def connectionMade(self) -> None:
        """Begin, with the clock running."""
        self.id = secrets.token_hex(4)
        peer = self.transport.getPeer()
        self.peer = address_text(peer)
        if isinstance(peer, (IPv4Address, IPv6Address)):
            # A socket for both families shows IPv4 peers as ::ffff:192.0.2.1.
            self.address = (
                peer.host.removeprefix("::ffff:") if "." in peer.host else peer.host.partition("%")[0]
            )
        self.since = self.factory.reactor.seconds()
        self.factory.unauthenticated.add(self)
        self._grace = self.factory.reactor.callLater(LOGIN_GRACE, self._too_late)
        if hasattr(self.transport, "setTcpKeepAlive"):
            self.transport.setTcpKeepAlive(True)
        SSHServerTransport.connectionMade(self)

    def dataReceived(self, data: bytes) -> None:
        """Take bytes from anyone; what is no SSH ends the connection, in one line of the log."""
        if self._ended:
            return
        try:
            SSHServerTransport.dataReceived(self, data)
        except Exception as error:  # noqa: BLE001  conch raises struct.error, ValueError, TypeError … on such bytes
            self.refuse(f"malformed: {type(error).__name__}: {error}"[:200])
            self._ended = True
            self.transport.abortConnection()

    def getPacket(self) -> bytes | None:
        """Return the next packet; none after the end, or what was sent ahead would still be obeyed."""
        return None if self._ended else SSHServerTransport.getPacket(self)

    def sendDisconnect(self, reason: int, desc: bytes) -> None:
        """Say farewell and end."""
        if not self._ended:
            self._ended = True
            SSHServerTransport.sendDisconnect(self, reason, desc)

    def sendExtInfo(self, _extensions: list[tuple[bytes, bytes]]) -> None:
        """Say which signatures a login may use (RFC 8308, section 3.1).

        conch would name those of the host key, and a client with an RSA key give up.
        """
        SSHServerTransport.sendExtInfo(self, [(b"server-sig-algs", b",".join(SIGNATURES))])

    def receiveError(self, reasonCode: int, description: bytes) -> None:
        """Let the client end the connection; conch logs the usual farewell as an error."""

    def authenticated(self) -> None:
        """Count a visit."""
        self._grace.cancel()
        self.factory.unauthenticated.discard(self)
        self.login = self.avatar.login = Login.begin(self.id, self.avatar.name, self.avatar.key, self.peer)
        self.factory.counts.logins += 1
        self.factory.logins.add(self)
        self._logged_in = self.factory.reactor.seconds()
        log.info("manhole.login", **self.login.facts())

    def refuse(self, reason: str, **facts: str | None) -> None:
        """Log why somebody does not get in."""
        self.factory.counts.refused += 1
        log.warning("manhole.refused", session=self.id, peer=self.peer, **facts, reason=reason)

    def farewell(self, reason: str) -> None:
        """Tell the person, and close."""
        self.leaving = reason
        sessions = list(self.service.channels.values()) if self.login else []
        for session in sessions:
            session.dismiss(f"the manhole closes: {reason}")
        if not sessions:
            self.sendDisconnect(DISCONNECT_BY_APPLICATION, reason.encode())

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Count the visit no more."""
        if self._grace.active():
            self._grace.cancel()
        SSHServerTransport.connectionLost(self, reason)
        if self.login:
            seconds = round(self.factory.reactor.seconds() - self._logged_in, 3)
            log.info("manhole.logout", **self.login.facts(), seconds=seconds)
        self.factory.forget(self)

    def _too_late(self) -> None:
        self.refuse(f"not logged in within {LOGIN_GRACE:g} s")
        self._ended = True
        self.transport.abortConnection()


SERVICES: dict[bytes, Any] = {b"ssh-userauth": UserAuth, b"ssh-connection": ChannelService}


@implementer(IRealm)
class SSHServer(SSHFactory):
    """Makes connections, and knows them all."""

    _log = conch_log
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
        self.unauthenticated: set[SSHTransport] = set()
        self.logins: set[SSHTransport] = set()
        self.reason = "it is done"
        """Told to everyone who is in when the server closes."""
        self._crowded = False
        self._empty: list[Deferred[None]] = []

    def checker(self, address: str | None) -> KeyChecker:
        """Return a guard against a peer."""
        return KeyChecker(self.user, self._authorized_keys, address)

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Make a connection, or refuse it."""
        if len(self.unauthenticated) < MAX_UNAUTHENTICATED:
            self._crowded = False
            return SSHFactory.buildProtocol(self, addr)
        self.counts.refused += 1
        # Once for all of a flood, or it would flood the log too.
        if not self._crowded:
            self._crowded = True
            reason = f"{MAX_UNAUTHENTICATED} others are not logged in yet"
            log.warning("manhole.refused", peer=address_text(addr), reason=reason)
        return None

    def getService(self, transport: Any, service: bytes) -> Any:
        """Give a login to a stranger, once; sessions to whoever is logged in, once."""
        logged_in = hasattr(transport, "avatar")
        if service == (b"ssh-connection" if logged_in else b"ssh-userauth") and not transport.login:
            return self.services[service]
        return None

    def requestAvatar(self, avatarId: Any, _mind: object, *_interfaces: object) -> Any:
        """Let in whom the guard has let pass (IRealm)."""
        if len(self.logins) >= MAX_LOGINS:
            raise LoginRefused(f"{MAX_LOGINS} are in already")
        user = User(self.user, avatarId, session=ManholeSession, tools=self.tools, reactor=self.reactor)
        return IConchUser, user, lambda: None

    def forget(self, transport: SSHTransport) -> None:
        """Note that a connection has ended."""
        self.unauthenticated.discard(transport)
        self.logins.discard(transport)
        if not self.unauthenticated | self.logins:
            while self._empty:
                self._empty.pop().callback(None)

    async def drain(self) -> None:
        """Tell everyone, and return when all have gone; whoever does not go is cut off."""
        for transport in self.unauthenticated | self.logins:
            transport.farewell(self.reason)
        if self.unauthenticated | self.logins:
            deadline = self.reactor.callLater(FAREWELL, self.abort)
            empty: Deferred[None] = Deferred()
            self._empty.append(empty)
            try:
                await empty
            finally:
                if deadline.active():
                    deadline.cancel()

    def abort(self) -> None:
        """Cut off whoever is left."""
        for transport in self.unauthenticated | self.logins:
            transport.transport.abortConnection()
