"""Authentication: public keys only. Every refusal says why in the log, though not to the client."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from twisted.conch.error import IgnoreAuthentication, ValidPublicKey
from twisted.conch.ssh.common import getNS
from twisted.conch.ssh.keys import Key
from twisted.conch.ssh.transport import DISCONNECT_NO_MORE_AUTH_METHODS_AVAILABLE
from twisted.conch.ssh.userauth import SSHUserAuthServer
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import ISSHPrivateKey
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import Portal
from twisted.internet.defer import maybeDeferred, succeed
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from halfsync._twisted import logs_to
from halfsync.logs import get_logger
from halfsync.manhole.keys import KeyFileError, fingerprint, read_authorized_keys
from halfsync.manhole.log_filter import conch_log

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

log = get_logger(__name__)

SIGNATURES = (
    b"ssh-ed25519",
    b"sk-ssh-ed25519@openssh.com",
    b"ecdsa-sha2-nistp256",
    b"ecdsa-sha2-nistp384",
    b"ecdsa-sha2-nistp521",
    b"sk-ecdsa-sha2-nistp256@openssh.com",
    b"rsa-sha2-512",
    b"rsa-sha2-256",
)
"""Signature algorithms that a login may use; `ssh-rsa`, which is RSA over SHA-1, is none of them."""

MAX_ATTEMPTS = 10
"""Keys that a connection may offer; an agent offers one after the other all that it holds."""

SLOWED = 0.5
"""Seconds that a refusal takes, so that a client cannot try keys, or fill the log, quickly."""

USER_PRESENT = 0x01


@logs_to(conch_log)
class LoginRefused(UnauthorizedLogin):
    """A login that is refused; the reason is for the log alone."""


@implementer(ICredentialsChecker)
class KeyChecker:
    """Checks user name, key and signature, in this order."""

    credentialInterfaces = (ISSHPrivateKey,)

    def __init__(self, user: str, authorized_keys: str, address: str | None) -> None:
        """Check the logins of one client.

        :param address: its IP address; None when it has none.
        """
        self._user = user.encode()
        self._authorized_keys = authorized_keys
        self._address = address

    def requestAvatarId(self, credentials: Any) -> Deferred[Any]:
        """Return the line of `authorized_keys` that lets the key in.

        :raises LoginRefused: when it may not.
        :raises ValidPublicKey: when it may, and the client asks before it signs (RFC 4252, section 7).
        """
        if credentials.username != self._user:
            raise LoginRefused("not the user's name")
        try:
            authorized = read_authorized_keys(self._authorized_keys)
            key = authorized.admit(credentials.blob, self._address, time.time())
        except (KeyFileError, ValueError) as fault:
            raise LoginRefused(str(fault)) from None
        if not credentials.signature:
            raise ValidPublicKey
        if not _signed(credentials):
            raise LoginRefused("the signature is wrong")
        return succeed(key)


def _signed(credentials: Any) -> bool:
    key = Key.fromString(credentials.blob)
    algorithm, _, rest = getNS(credentials.signature, 2)
    # conch takes any algorithm that fits the key, so the one that was announced must be held to here.
    if algorithm != credentials.algName:
        return False
    # It verifies a security key's flags with the rest, and leaves to us what they say (PROTOCOL.u2f).
    if key.isSecurityKey() and not (rest and rest[0] & USER_PRESENT):
        return False
    return bool(key.verify(credentials.signature, credentials.sigData))


class UserAuth(SSHUserAuthServer):
    """The authentication of one connection (RFC 4252), each refusal logged with peer and fingerprint."""

    transport: Any
    _offered: str | None = None
    _refusals = 0

    def __init__(self) -> None:
        self._slowed: set[Deferred[Any]] = set()

    def serviceStarted(self) -> None:
        """Begin; the time that a login may take is the server's to watch."""
        server = self.transport.factory
        self.clock = server.reactor
        SSHUserAuthServer.serviceStarted(self)
        self.portal = Portal(server, [server.checker(self.transport.address)])

    def serviceStopped(self) -> None:
        """End, with the connection or a login."""
        SSHUserAuthServer.serviceStopped(self)
        for slowed in tuple(self._slowed):
            slowed.cancel()

    def tryAuth(self, kind: bytes, user: bytes, data: bytes) -> Deferred[Any]:
        """Try one way to log in."""
        self._offered = None
        attempt: Deferred[Any] = maybeDeferred(SSHUserAuthServer.tryAuth, self, kind, user, data)
        # Every client begins with "none", to hear which other ways there are.
        return attempt if kind == b"none" else attempt.addErrback(self._note, kind, user)

    def auth_publickey(self, packet: bytes) -> Deferred[Any]:
        """Try a key."""
        algorithm, blob, _ = getNS(packet[1:], 2)
        self._offered = fingerprint(blob)
        if algorithm not in SIGNATURES:
            raise LoginRefused(
                f"signature algorithm {algorithm[:40].decode('ascii', 'replace')!r} is not taken"
            )
        if getNS(blob)[0] != (b"ssh-rsa" if algorithm.startswith(b"rsa-") else algorithm):
            raise LoginRefused("the key is of another type than was said")
        return SSHUserAuthServer.auth_publickey(self, packet)

    def _note(self, failure: Failure, kind: bytes, user: bytes) -> Failure | Deferred[Any]:
        if failure.check(IgnoreAuthentication):
            return failure
        reason = f"{kind[:40].decode('ascii', 'replace')!r} is not a way in"
        if kind == b"publickey":
            reason = (
                str(failure.value) if failure.check(LoginRefused) else "the key or its signature is malformed"
            )
        self.transport.refuse(reason, user=user[:80].decode("utf-8", "replace"), fingerprint=self._offered)
        # Counted before it is slowed: a client need not wait for one answer before it tries again.
        self._refusals += 1
        if self._refusals > MAX_ATTEMPTS:
            self.transport.sendDisconnect(DISCONNECT_NO_MORE_AUTH_METHODS_AVAILABLE, b"too many keys")
            return Failure(IgnoreAuthentication())
        slowed = deferLater(self.clock, SLOWED, lambda: None)
        self._slowed.add(slowed)
        return slowed.addBoth(self._answer, slowed, reason)

    def _answer(self, waited: object, slowed: Deferred[Any], reason: str) -> Failure:
        self._slowed.discard(slowed)
        # The wait is cut short when the connection has gone: then there is no client to answer.
        return Failure(IgnoreAuthentication() if isinstance(waited, Failure) else LoginRefused(reason))
