"""Certificates and keys, read from PEM files and judged as a whole.

With a file of client authorities, only clients are served whose certificate one of these has signed,
or also those that show none.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from halfsync._later import later

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    from halfsync.endpoints import tls_context
else:
    serialization = later("cryptography.hazmat.primitives.serialization")
    ssl = later("ssl")
    tls_context = later("halfsync.endpoints.tls_context")
    x509 = later("cryptography.x509")

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


class Loaded(NamedTuple):
    """What handshakes need."""

    context: ssl.SSLContext
    shown: list[x509.Certificate]
    """The certificates that a client may be shown."""


class CertificateError(Exception):
    """A certificate or key cannot be used. One line that names the file, for a person."""


class Certificates(Protocol):
    """Where a server's certificates are kept."""

    @property
    def path(self) -> str:
        """The file or folder that a person would look at."""

    def files(self) -> list[str]:
        """Name the files that are read."""

    def load(self, protocols: Sequence[bytes] = ()) -> Loaded:
        """Read everything.

        :param protocols: what is spoken behind TLS, the best first (ALPN).
        :raises CertificateError: when a file is missing or no PEM, or a key is not its certificate's.
        """


@dataclass(frozen=True, slots=True)
class Files:
    """One certificate for every client: a certificate file, a key file, and perhaps a chain file.

    The certificate file may hold its chain too, and the key: what ACME clients call `fullchain.pem` works.
    """

    path: str
    key: str
    chain: str | None = None
    client_ca: str | None = None
    client_optional: bool = False
    """Whether clients without a certificate are served, too."""

    def files(self) -> list[str]:
        """Name the files that are read."""
        return [each for each in (self.path, self.key, self.chain, self.client_ca) if each]

    def load(self, protocols: Sequence[bytes] = ()) -> Loaded:
        """Read the files; see `Certificates.load`."""
        certificate, *chain = _certificates(self.path)
        if self.chain is not None:
            chain += _certificates(self.chain)
        key = _key(_read(self.key), self.key)
        if key.public_key() != certificate.public_key():
            raise CertificateError(f"the key in {self.key} is not that of the certificate in {self.path}")
        context = _context(
            self.path,
            certificate,
            key,
            chain,
            client_ca=self.client_ca,
            client_optional=self.client_optional,
            protocols=protocols,
        )
        return Loaded(context, [certificate])


@dataclass(frozen=True, slots=True)
class Folder:
    """Every `*.pem` below a folder; the server name of the client (SNI, RFC 6066 section 3) chooses.

    A client that names no known server gets the certificate of the first key in order of path.
    """

    path: str
    client_ca: str | None = None
    client_optional: bool = False
    """Whether clients without a certificate are served, too."""

    def files(self) -> list[str]:
        """Name the files that are read."""
        return [
            *map(str, sorted(Path(self.path).rglob("*.pem"))),
            *([self.client_ca] if self.client_ca else []),
        ]

    def load(self, protocols: Sequence[bytes] = ()) -> Loaded:
        """Read the folder; see `Certificates.load`."""
        if not Path(self.path).is_dir():
            raise CertificateError(f"there is no folder {self.path}")
        keys: list[tuple[str, Any]] = []
        found: list[x509.Certificate] = []
        for file in sorted(Path(self.path).rglob("*.pem")):
            for block in _BLOCK.finditer(_read(str(file))):
                if block[1].endswith(b"PRIVATE KEY"):
                    keys.append((str(file), _key(block[0], str(file))))
                elif block[1] == b"CERTIFICATE":
                    found.append(_certificate(block[0], str(file)))
        # When a certificate was renewed with the same key, the later one counts.
        found.sort(key=lambda certificate: certificate.not_valid_after_utc)
        by_name: dict[str, ssl.SSLContext] = {}
        shown: list[x509.Certificate] = []
        first: ssl.SSLContext | None = None
        for path, key in keys:
            own = [one for one in found if one.public_key() == key.public_key()]
            if own:
                context = _context(
                    path,
                    own[-1],
                    key,
                    _chain(own[-1], found),
                    client_ca=self.client_ca,
                    client_optional=self.client_optional,
                    protocols=protocols,
                )
                first = first or context
                shown.append(own[-1])
                by_name.update(dict.fromkeys(_names(own[-1]), context))
        if first is None:
            raise CertificateError(f"{self.path} holds no .pem file with a certificate and its key")

        def choose(name: str | None) -> ssl.SSLContext | None:
            asked = (name or "").lower()
            return by_name.get(asked) or by_name.get("*." + asked.partition(".")[2])

        tls_context.choose_by_name(first, choose)
        return Loaded(first, shown)


def _context(
    path: str,
    certificate: x509.Certificate,
    key: Any,
    chain: Sequence[x509.Certificate],
    *,
    client_ca: str | None,
    client_optional: bool,
    protocols: Sequence[bytes],
) -> ssl.SSLContext:
    authorities = _certificates(client_ca) if client_ca else []
    try:
        return tls_context.server_context(
            certificate,
            key,
            chain,
            authorities=authorities,
            client_optional=client_optional,
            protocols=protocols,
        )
    except ssl.SSLError as error:
        # For example "ee key too small", for an RSA key of 1024 bits.
        reason = (error.reason or str(error)).lower().replace("_", " ")
        raise CertificateError(f"OpenSSL refuses the certificate for {path}: {reason}") from error


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CertificateError(f"cannot read {path}: {os.strerror(error.errno or 0)}") from error


def _certificates(path: str) -> list[x509.Certificate]:
    blocks = [block[0] for block in _BLOCK.finditer(_read(path)) if block[1] == b"CERTIFICATE"]
    if not blocks:
        raise CertificateError(f"{path} holds no certificate in PEM format")
    return [_certificate(block, path) for block in blocks]


def _certificate(pem: bytes, path: str) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        # Both are only read when they are asked for.
        certificate.public_key(), certificate.extensions
    except Exception as error:
        # ValueError for damage, UnsupportedAlgorithm for exotic keys, DuplicateExtension: it cannot be used.
        raise CertificateError(f"{path} holds a damaged certificate") from error
    return certificate


def _key(pem: bytes, path: str) -> Any:
    try:
        return serialization.load_pem_private_key(pem, None)
    except TypeError as error:
        raise CertificateError(f"the key in {path} has a passphrase; a service needs one without") from error
    except Exception as error:
        # ValueError for damage, UnsupportedAlgorithm for exotic keys: both mean that there is no key to use.
        raise CertificateError(f"{path} holds no private key in PEM format that can be used") from error


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return [name.lower() for name in names.value.get_values_for_type(x509.DNSName)]


def _chain(certificate: x509.Certificate, found: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    chain: list[x509.Certificate] = []
    while certificate.issuer != certificate.subject:
        issuer = next((one for one in found if one.subject == certificate.issuer and one not in chain), None)
        if issuer is None:
            break
        chain.append(issuer)
        certificate = issuer
    return chain
