"""Certificates and keys, read from PEM files and judged as a whole.

Only TLS 1.2 and 1.3, and in TLS 1.2 only forward secrecy (ECDHE) with authenticated encryption
(RFC 9325, sections 3.1.1 and 4.2).
With a file of client authorities, only clients are served whose certificate one of these has signed.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from OpenSSL import SSL
from twisted.internet.ssl import (
    AcceptableCiphers,
    Certificate,
    CertificateOptions,
    TLSVersion,
    trustRootFromCertificates,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CIPHERS = AcceptableCiphers.fromOpenSSLCipherString("ECDHE+AESGCM:ECDHE+CHACHA20")

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


class Options(CertificateOptions):
    """What a handshake needs, and the certificates that it may show."""

    shown: Sequence[x509.Certificate] = ()


class CertificateError(Exception):
    """A certificate or key cannot be used. One line that names the file, for a person."""


class Certificates(Protocol):
    """Where a server's certificates are kept."""

    @property
    def path(self) -> str:
        """The file or folder that a person would look at."""

    def files(self) -> list[str]:
        """Name the files that are read."""

    def load(self) -> Options:
        """Read everything.

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

    def files(self) -> list[str]:
        """Name the files that are read."""
        return [each for each in (self.path, self.key, self.chain, self.client_ca) if each]

    def load(self) -> Options:
        """Read the files; see `Certificates.load`."""
        certificate, *chain = _certificates(self.path)
        if self.chain is not None:
            chain += _certificates(self.chain)
        key = _key(_read(self.key), self.key)
        if key.public_key() != certificate.public_key():
            raise CertificateError(f"the key in {self.key} is not that of the certificate in {self.path}")
        return _options(self.path, certificate, key, chain, client_ca=self.client_ca)


@dataclass(frozen=True, slots=True)
class Folder:
    """Every `*.pem` below a folder; the server name of the client (SNI, RFC 6066 section 3) chooses.

    A client that names no known server gets the certificate of the first key in order of path.
    """

    path: str
    client_ca: str | None = None

    def files(self) -> list[str]:
        """Name the files that are read."""
        return [
            *map(str, sorted(Path(self.path).rglob("*.pem"))),
            *([self.client_ca] if self.client_ca else []),
        ]

    def load(self) -> Options:
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
        by_name: dict[str, CertificateOptions] = {}
        shown: list[x509.Certificate] = []
        first: tuple[str, x509.Certificate, Any] | None = None
        for path, key in keys:
            own = [one for one in found if one.public_key() == key.public_key()]
            if own:
                first = first or (path, own[-1], key)
                shown.append(own[-1])
                options = _options(path, own[-1], key, _chain(own[-1], found), client_ca=self.client_ca)
                by_name.update(dict.fromkeys(_names(own[-1]), options))
        if first is None:
            raise CertificateError(f"{self.path} holds no .pem file with a certificate and its key")

        def choose(name: bytes | None) -> SSL.Context | None:
            asked = (name or b"").decode("ascii", "replace").lower()
            options = by_name.get(asked) or by_name.get("*." + asked.partition(".")[2])
            return options.getContext() if options else None

        chosen = _options(*first, _chain(first[1], found), client_ca=self.client_ca, choose=choose)
        chosen.shown = shown
        return chosen


def _options(
    path: str,
    certificate: x509.Certificate,
    key: Any,
    chain: Sequence[x509.Certificate],
    *,
    client_ca: str | None,
    choose: Callable[[bytes | None], SSL.Context | None] | None = None,
) -> Options:
    authorities = _certificates(client_ca) if client_ca else []
    trusted = [Certificate.loadPEM(each.public_bytes(Encoding.PEM)) for each in authorities]
    options = Options(
        privateKey=key,
        certificate=certificate,  # type: ignore[arg-type]  # X509 says Twisted; pyOpenSSL deprecates that
        extraCertChain=chain,  # type: ignore[arg-type]
        raiseMinimumTo=TLSVersion.TLSv1_2,
        acceptableCiphers=CIPHERS,
        contextForServerName=choose,
        trustRoot=trustRootFromCertificates(trusted) if trusted else None,
    )
    options.shown = [certificate]
    try:
        # Now, not at the first client: OpenSSL finds for example a 1024-bit RSA key "ee key too small".
        options.getContext()
    except SSL.Error as error:
        reason = error.args[0][0][2] if error.args and error.args[0] else "no reason given"
        raise CertificateError(f"OpenSSL refuses the certificate for {path}: {reason}") from error
    return options


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
        return load_pem_private_key(pem, None)
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
