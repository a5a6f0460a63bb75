"""TLS from PEM files that can be read again while the service runs.

Only TLS 1.2 and 1.3, and in TLS 1.2 only forward secrecy (ECDHE) with authenticated encryption
(RFC 9325, sections 3.1.1 and 4.2).
ALPN is left to the factory behind: a site offers `h2` and `http/1.1` by itself.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.ssl import AcceptableCiphers, CertificateOptions, TLSVersion
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from .logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.internet.interfaces import IProtocolFactory

log = get_logger(__name__)

CIPHERS = AcceptableCiphers.fromOpenSSLCipherString("ECDHE+AESGCM:ECDHE+CHACHA20")

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)

_in_use: set[TlsFactory] = set()


class CertificateError(Exception):
    """A certificate or key cannot be used. One line that names the file, for a person."""


class Certificates(Protocol):
    """Where a server's certificates are kept."""

    @property
    def path(self) -> str:
        """The file or folder that a person would look at."""

    def load(self) -> CertificateOptions:
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

    def load(self) -> CertificateOptions:
        """Read the files; see `Certificates.load`."""
        certificate, *chain = _certificates(self.path)
        if self.chain is not None:
            chain += _certificates(self.chain)
        key = _key(_read(self.key), self.key)
        if key.public_key() != certificate.public_key():
            raise CertificateError(f"the key in {self.key} is not that of the certificate in {self.path}")
        return _options(self.path, certificate, key, chain)


@dataclass(frozen=True, slots=True)
class Folder:
    """Every `*.pem` below a folder; the server name of the client (SNI, RFC 6066 section 3) chooses.

    A client that names no known server gets the certificate of the first key in order of path.
    """

    path: str

    def load(self) -> CertificateOptions:
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
        first: tuple[str, x509.Certificate, Any] | None = None
        for path, key in keys:
            own = [one for one in found if one.public_key() == key.public_key()]
            if own:
                first = first or (path, own[-1], key)
                options = _options(path, own[-1], key, _chain(own[-1], found))
                by_name.update(dict.fromkeys(_names(own[-1]), options))
        if first is None:
            raise CertificateError(f"{self.path} holds no .pem file with a certificate and its key")

        def choose(name: bytes | None) -> SSL.Context | None:
            asked = (name or b"").decode("ascii", "replace").lower()
            options = by_name.get(asked) or by_name.get("*." + asked.partition(".")[2])
            return options.getContext() if options else None

        return _options(*first, _chain(first[1], found), choose)


@implementer(IOpenSSLServerConnectionCreator)
class TlsFactory(TLSMemoryBIOFactory):
    """TLS before another factory, with certificates that are replaced as a whole by a `reload` that succeeds.

    :raises CertificateError: as `Certificates.load`.
    """

    def __init__(self, certificates: Certificates, factory: IProtocolFactory, reactor: Any) -> None:
        TLSMemoryBIOFactory.__init__(self, self, isClient=False, wrappedFactory=factory, clock=reactor)
        self._certificates = certificates
        self._options = certificates.load()

    def startFactory(self) -> None:
        """Be among those that `reload_all` reloads."""
        _in_use.add(self)

    def stopFactory(self) -> None:
        """Be no longer among them."""
        _in_use.discard(self)

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """Begin a handshake with the certificates of this moment; connections that are open keep theirs."""
        return self._options.serverConnectionForTLS(protocol)

    def reload(self) -> None:
        """Read the files again; when they cannot be used, say so in the log and keep what is in use."""
        path = self._certificates.path
        try:
            self._options = self._certificates.load()
        except CertificateError as error:
            log.error("tls.reload_refused", path=path, reason=str(error))  # noqa: TRY400  the reason says it all
        else:
            log.info("tls.reloaded", path=path)


def reload_all() -> None:
    """Reload the certificates of every endpoint that listens."""
    for factory in list(_in_use):
        factory.reload()


def _options(
    path: str,
    certificate: x509.Certificate,
    key: Any,
    chain: Sequence[x509.Certificate],
    choose: Callable[[bytes | None], SSL.Context | None] | None = None,
) -> CertificateOptions:
    options = CertificateOptions(
        privateKey=key,
        certificate=certificate,  # type: ignore[arg-type]  # X509 says Twisted; pyOpenSSL deprecates that
        extraCertChain=chain,  # type: ignore[arg-type]
        raiseMinimumTo=TLSVersion.TLSv1_2,
        acceptableCiphers=CIPHERS,
        contextForServerName=choose,
    )
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
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise CertificateError(f"{path} holds a damaged certificate") from error


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
