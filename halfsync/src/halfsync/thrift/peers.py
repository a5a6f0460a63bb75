"""Who is at the other end of a connection, and what its TLS says of it."""

from __future__ import annotations

from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import ISSLTransport

from halfsync.thrift.call import Identity


def host(transport: Any) -> str:
    """Return the client's IP address; `unix` for a UNIX socket."""
    address = transport.getPeer()
    return address.host if isinstance(address, (IPv4Address, IPv6Address)) else "unix"


def text(transport: Any) -> str:
    """Return the client's address for a person: `192.0.2.1:4711`, `[::1]:4711` or `unix`."""
    address = transport.getPeer()
    if isinstance(address, IPv4Address):
        return f"{address.host}:{address.port}"
    if isinstance(address, IPv6Address):
        return f"[{address.host}]:{address.port}"
    return "unix"


def identity_of_certificate(certificate: x509.Certificate) -> Identity:
    """Return what a client certificate calls its owner: its first URI, DNS name or address, else its CN."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        found: list[Any] = []
    else:
        found = [
            *names.get_values_for_type(x509.UniformResourceIdentifier),
            *names.get_values_for_type(x509.DNSName),
            *names.get_values_for_type(x509.RFC822Name),
        ]
    found += [each.value for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    name = str(found[0]) if found else certificate.subject.rfc4514_string()
    return Identity(name, "certificate")


def is_tls(transport: Any) -> bool:
    """Say whether a connection is encrypted."""
    return ISSLTransport.providedBy(transport)


def client_certificate(transport: Any) -> x509.Certificate | None:
    """Return what the client has shown of itself; None without TLS, or when it was not asked."""
    if not is_tls(transport):
        return None
    return cast("x509.Certificate | None", transport.getPeerCertificate())


def server_certificate(transport: Any) -> x509.Certificate | None:
    """Return the certificate that was shown to the client; None without TLS."""
    if not is_tls(transport):
        return None
    return cast("x509.Certificate | None", transport.getOwnCertificate())


def end_point(certificate: x509.Certificate) -> bytes:
    """Return the channel binding `tls-server-end-point` (RFC 5929 section 4.1) of a server's certificate."""
    used = certificate.signature_hash_algorithm
    # A signature without a hash of its own (Ed25519) has none that is defined; peers take SHA-256.
    weak = used is None or isinstance(used, (hashes.MD5, hashes.SHA1))
    digest = hashes.Hash(hashes.SHA256() if weak or used is None else used)
    digest.update(certificate.public_bytes(Encoding.DER))
    return digest.finalize()
