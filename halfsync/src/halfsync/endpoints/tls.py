"""TLS whose certificates can be read again while the service runs, and are watched for their end.

ALPN is left to the factory behind: a site offers `h2` and `http/1.1` by itself.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from halfsync import flag, flags
from halfsync.endpoints.certificates import CertificateError
from halfsync.flags import types as flagtypes
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from OpenSSL import SSL
    from twisted.internet.interfaces import IProtocolFactory

    from halfsync.endpoints.certificates import Certificates

log = get_logger(__name__)

SOON = 14 * 86400.0
"""Seconds before its end from which on a certificate is warned of."""

REMINDER = 12 * 3600.0
"""Seconds between two such warnings."""

_in_use: set[TlsFactory] = set()


@flags.declare(flag.namespace("service"), at_start=True)
class FLAGS:
    """The process."""

    certificate_watch = flagtypes.Seconds(
        "How often to look whether certificates have changed, and reload them; 0 is at HUP only.",
        default=0,
        minimum=0,
    )


@implementer(IOpenSSLServerConnectionCreator)
class TlsFactory(TLSMemoryBIOFactory):
    """TLS before another factory, with certificates that are replaced as a whole by a `reload` that succeeds.

    :raises CertificateError: as `Certificates.load`.
    """

    def __init__(self, certificates: Certificates, factory: IProtocolFactory, reactor: Any) -> None:
        TLSMemoryBIOFactory.__init__(self, self, isClient=False, wrappedFactory=factory, clock=reactor)
        self._certificates = certificates
        self._options = certificates.load()
        self._reactor = reactor
        self._timers: dict[str, Any] = {}
        self._seen = self._state()

    @property
    def path(self) -> str:
        """The file or folder with the certificates."""
        return self._certificates.path

    @property
    def expires(self) -> float:
        """When the first of the certificates in use expires, in seconds since the epoch."""
        return min(each.not_valid_after_utc.timestamp() for each in self._options.shown)

    def startFactory(self) -> None:
        """Be among those that `reload_all` reloads, and look at the certificates from time to time."""
        _in_use.add(self)
        self._remind()
        if FLAGS.certificate_watch:
            self._watch()

    def stopFactory(self) -> None:
        """Be no longer among them."""
        _in_use.discard(self)
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """Begin a handshake with the certificates of this moment; connections that are open keep theirs."""
        return self._options.serverConnectionForTLS(protocol)

    def reload(self) -> None:
        """Read the files again; when they cannot be used, say so in the log and keep what is in use."""
        path = self.path
        self._seen = self._state()
        try:
            self._options = self._certificates.load()
        except CertificateError as error:
            log.error("tls.reload_refused", path=path, reason=str(error))  # noqa: TRY400  the reason says it all
        else:
            log.info("tls.reloaded", path=path)
            self._warn()

    def _remind(self) -> None:
        self._timers["remind"] = self._reactor.callLater(REMINDER, self._remind)
        self._warn()

    def _warn(self) -> None:
        left = self.expires - time.time()
        if left < 0:
            log.error("tls.expired", path=self.path, days=round(-left / 86400, 1))
        elif left < SOON:
            log.warning("tls.expires_soon", path=self.path, days=round(left / 86400, 1))

    def _watch(self) -> None:
        self._timers["watch"] = self._reactor.callLater(FLAGS.certificate_watch, self._watch)
        if self._state() != self._seen:
            self.reload()

    def _state(self) -> list[tuple[str, int, int, int]]:
        """Return what changes when a file is written or replaced."""
        state = []
        for path in self._certificates.files():
            try:
                status = Path(path).stat()
            except OSError:
                continue
            state.append((path, status.st_mtime_ns, status.st_size, status.st_ino))
        return state


def reload_all() -> None:
    """Reload the certificates of every endpoint that listens."""
    for factory in list(_in_use):
        factory.reload()


def in_use() -> list[TlsFactory]:
    """Return every endpoint's TLS, in order of path."""
    return sorted(_in_use, key=lambda factory: factory.path)
