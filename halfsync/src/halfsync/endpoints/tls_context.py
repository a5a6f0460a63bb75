"""What a server's side of TLS needs, as the standard library's `ssl` takes it.

Only TLS 1.2 and 1.3, and in TLS 1.2 only forward secrecy (ECDHE) with authenticated encryption
(RFC 9325, sections 3.1.1 and 4.2).
"""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cryptography import x509

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


class ServerContext(ssl.SSLContext):
    """A context that knows the certificate that it shows: `ssl` tells it to clients only."""

    certificate: x509.Certificate


def server_context(
    certificate: x509.Certificate,
    key: Any,
    chain: Sequence[x509.Certificate],
    *,
    authorities: Sequence[x509.Certificate] = (),
    client_optional: bool = False,
    protocols: Sequence[bytes] = (),
) -> ServerContext:
    """Return a context that shows a certificate with its chain.

    :param authorities: with any, only clients are served whose certificate one of these has signed.
    :param client_optional: serve clients that show no certificate, too; a bad one is refused all the same.
    :param protocols: what is spoken here, the best first, for ALPN.
    :raises ssl.SSLError: when OpenSSL refuses the certificate or its key; it finds one too weak, for example.
    """
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.certificate = certificate
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    if protocols:
        context.set_alpn_protocols([each.decode("ascii") for each in protocols])
    _load(context, b"".join(each.public_bytes(Encoding.PEM) for each in (certificate, *chain)), key)
    if authorities:
        context.verify_mode = ssl.CERT_OPTIONAL if client_optional else ssl.CERT_REQUIRED
        context.load_verify_locations(
            cadata=b"".join(each.public_bytes(Encoding.DER) for each in authorities)
        )
    return context


def choose_by_name(context: ssl.SSLContext, choose: Callable[[str | None], ssl.SSLContext | None]) -> None:
    """Have the server name of the client (SNI, RFC 6066 section 3) choose; None keeps the context itself."""

    def on_name(connection: Any, name: str | None, _context: ssl.SSLContext) -> None:
        chosen = choose(name)
        if chosen is not None:
            connection.context = chosen

    context.sni_callback = on_name


def _load(context: ssl.SSLContext, certificates: bytes, key: Any) -> None:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    # `ssl` reads keys from files only. This one has no name, and is never on a disk.
    number = os.memfd_create("certificate", os.MFD_CLOEXEC)
    with os.fdopen(number, "wb", buffering=0) as file:
        file.write(certificates + pem)
        context.load_cert_chain(f"/proc/self/fd/{number}")
