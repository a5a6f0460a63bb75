"""One SSH connection from its first byte to its end, hardened and bounded.

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

from twisted.conch.ssh.common import NS, getNS
from twisted.conch.ssh.connection import (
    MSG_CHANNEL_OPEN_FAILURE,
    OPEN_ADMINISTRATIVELY_PROHIBITED,
    SSHConnection,
)
from twisted.conch.ssh.transport import DISCONNECT_BY_APPLICATION, SSHServerTransport
from twisted.internet.address import IPv4Address, IPv6Address

from halfsync._twisted import logs_to
from halfsync.endpoints.addresses import address_text
from halfsync.logs import get_audit_logger
from halfsync.manhole.auth import SIGNATURES
from halfsync.manhole.log_filter import conch_log
from halfsync.manhole.login import Login

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from halfsync.manhole.user import User

audit = get_audit_logger(__name__)

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

MAX_PACKETS = 256
"""Packets before a client is logged in, which takes some 10, and two more for each key that it shows.

Any number of them may be ignored by the protocol, at 30 microseconds each.
"""

MAX_CHANNELS = 10
"""Sessions on one connection."""

FORWARDS = (b"tcpip-forward", b"streamlocal-forward@openssh.com")
"""Requests for a way back to the client (RFC 4254, section 7.1; PROTOCOL of OpenSSH, section 2.4)."""


@logs_to(conch_log)
class ChannelService(SSHConnection):
    """What a login leads to (RFC 4254)."""

    transport: Any

    def serviceStarted(self) -> None:
        """Count the login."""
        SSHConnection.serviceStarted(self)
        self.transport.authenticated()

    def channelClosed(self, channel: Any) -> None:
        """Forget a session, and end with the last one when all are to go.

        Not before: OpenSSH's client drops what it has not shown yet when it is disconnected.
        """
        SSHConnection.channelClosed(self, channel)
        if self.transport.leaving and not self.channels:
            self.transport.dismiss(self.transport.leaving)

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
        audit.warning("manhole.channel_refused", **self.transport.avatar.login.facts(), reason=reason)
        self.transport.sendPacket(
            MSG_CHANNEL_OPEN_FAILURE,
            rest[:4] + struct.pack(">L", OPEN_ADMINISTRATIVELY_PROHIBITED) + NS(reason.encode()) + NS(b""),
        )

    def gotGlobalRequest(self, requestType: bytes, data: bytes) -> Any:
        """Refuse what is for the whole connection; a wish for a way through it is logged."""
        if requestType in FORWARDS:
            reason = f"no {requestType.partition(b'@')[0].decode()} here"
            audit.warning("manhole.channel_refused", **self.transport.avatar.login.facts(), reason=reason)
        return SSHConnection.gotGlobalRequest(self, requestType, data)


@logs_to(conch_log)
class SSHTransport(SSHServerTransport):
    """One connection (RFC 4253)."""

    factory: Any
    """The server."""
    transport: Any
    service: Any
    avatar: User
    # Not Twisted's version: a scanner need not learn it.
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
    _packets = 0
    """How many have come before the login."""
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
        self.factory.unauthenticated[self] = None
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
            self.abort()

    def getPacket(self) -> bytes | None:
        """Return the next packet; none after the end, or what was sent ahead would still be obeyed."""
        packet: bytes | None = None if self._ended else SSHServerTransport.getPacket(self)
        if packet is None or self.login is not None:
            return packet
        self._packets += 1
        if self._packets <= MAX_PACKETS:
            return packet
        self.refuse(f"more than {MAX_PACKETS} packets, and not logged in")
        self.abort()
        return None

    def sendDisconnect(self, reason: int, desc: bytes) -> None:
        """Tell the client why, and end."""
        if not self._ended:
            self._ended = True
            SSHServerTransport.sendDisconnect(self, reason, desc)

    def sendExtInfo(self, _extensions: list[tuple[bytes, bytes]]) -> None:
        """Say which signatures a login may use (RFC 8308, section 3.1).

        conch would name those of the host key, and a client with an RSA key give up.
        """
        SSHServerTransport.sendExtInfo(self, [(b"server-sig-algs", b",".join(SIGNATURES))])

    def receiveError(self, reasonCode: int, description: bytes) -> None:
        """Let the client end the connection; conch logs the usual reason as an error."""

    def authenticated(self) -> None:
        """Count a login."""
        self._grace.cancel()
        self.factory.unauthenticated.pop(self, None)
        self.login = self.avatar.login = Login.begin(self.id, self.avatar.name, self.avatar.key, self.peer)
        self.factory.counts.logins += 1
        self.factory.logins.add(self)
        self._logged_in = self.factory.reactor.seconds()
        audit.info("manhole.login", **self.login.facts())

    def refuse(self, reason: str, **facts: str | None) -> None:
        """Log why a client is not logged in."""
        self.factory.counts.refused += 1
        audit.warning("manhole.refused", session=self.id, peer=self.peer, **facts, reason=reason)

    def dismiss(self, reason: str) -> None:
        """Tell the person, and close."""
        self.leaving = reason
        sessions = list(self.service.channels.values()) if self.login else []
        for session in sessions:
            session.dismiss(f"the manhole closes: {reason}")
        if not sessions:
            self.sendDisconnect(DISCONNECT_BY_APPLICATION, reason.encode())

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Count the login no more."""
        if self._grace.active():
            self._grace.cancel()
        SSHServerTransport.connectionLost(self, reason)
        if self.login:
            seconds = round(self.factory.reactor.seconds() - self._logged_in, 3)
            audit.info("manhole.logout", **self.login.facts(), seconds=seconds)
        self.factory.forget(self)

    def abort(self) -> None:
        """Cut the client off; nothing more that it has sent is obeyed."""
        self._ended = True
        self.transport.abortConnection()

    def _too_late(self) -> None:
        self.refuse(f"not logged in within {LOGIN_GRACE:g} s")
        self.abort()
