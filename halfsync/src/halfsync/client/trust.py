"""How a peer proves who it is over TLS, and how we do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twisted.internet.ssl import (
    Certificate,
    PrivateCertificate,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)

from halfsync.life.errors import UnusableError


@dataclass(frozen=True, slots=True)
class Trust:
    """How a peer proves who it is, and how we do; both in PEM files."""

    ca_file: str = ""
    """Certificates of the authorities that are believed; empty: those of the system."""
    certificate: str = ""
    """Our certificate followed by its key; empty: none is shown."""

    def options(self, host: str) -> Any:
        """Return how a connection to a host is secured.

        :raises UnusableError: a `ValueError` and `StartError`, when a file cannot be used.
        """
        try:
            root: Any = platformTrust()
            if self.ca_file:
                with open(self.ca_file, "rb") as file:  # noqa: PTH123  a flag's text, as it is
                    root = trustRootFromCertificates(
                        [Certificate.loadPEM(each) for each in _split(file.read())]
                    )
            own = None
            if self.certificate:
                with open(self.certificate, "rb") as file:  # noqa: PTH123  the same
                    own = PrivateCertificate.loadPEM(file.read())
        except Exception as error:
            raise UnusableError(
                f"{self.ca_file or self.certificate!r}: no PEM file that can be used: {error}"
            ) from error
        return optionsForClientTLS(host, root, own)


def _split(pem: bytes) -> list[bytes]:
    end = b"-----END CERTIFICATE-----"
    return [each + end for each in pem.split(end)[:-1]]
