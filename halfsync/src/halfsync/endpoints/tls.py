"""Certificates of a listening port that can be read again while it serves, and are watched for their end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfsync.endpoints.certificates import CertificateError
from halfsync.logs import get_logger

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from halfsync.endpoints.certificates import Certificates

log = get_logger(__name__)

SOON = 14 * 86400.0
"""Seconds before its end from which on a certificate is warned of."""

REMINDER = 12 * 3600.0
"""Seconds between two such warnings."""


class ServerTls:
    """TLS of a listening port, with certificates that are replaced as a whole by a `reload` that succeeds.

    :param protocols: what is spoken behind TLS, the best first (ALPN); with none, clients need not offer any.
    :param watch: seconds between two looks whether the files have changed; 0 is never.
    :raises CertificateError: as `Certificates.load`.
    """

    def __init__(
        self, certificates: Certificates, protocols: Sequence[bytes], reactor: Any, *, watch: float = 0
    ) -> None:
        self.protocols = tuple(protocols)
        self._certificates = certificates
        self._loaded = certificates.load(self.protocols)
        self._reactor = reactor
        self._watch_every = watch
        self._timers: dict[str, Any] = {}
        self._seen = self._state()

    @property
    def path(self) -> str:
        """The file or folder with the certificates."""
        return self._certificates.path

    @property
    def context(self) -> ssl.SSLContext:
        """What the next handshake is made with; connections that are open keep theirs."""
        return self._loaded.context

    @property
    def expires(self) -> float:
        """When the first of the certificates in use expires, in seconds since the epoch."""
        return min(each.not_valid_after_utc.timestamp() for each in self._loaded.shown)

    def start(self) -> None:
        """Look at the certificates from time to time."""
        self._remind()
        if self._watch_every:
            self._watch()

    def stop(self) -> None:
        """Look at them no more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def reload(self) -> str | None:
        """Read the files again; when they cannot be used, say so in the log and keep what is in use.

        :returns: why they cannot.
        """
        path = self.path
        self._seen = self._state()
        try:
            self._loaded = self._certificates.load(self.protocols)
        except CertificateError as error:
            log.error("tls.reload_refused", path=path, reason=str(error))  # noqa: TRY400  the reason says it all
            return str(error)
        log.info("tls.reloaded", path=path)
        self._warn()
        return None

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
        self._timers["watch"] = self._reactor.callLater(self._watch_every, self._watch)
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
