"""A client's certificate as variables of the environ, by the names of Apache's mod_ssl."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from halfsync._later import later

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.x509 import oid
else:
    oid = later("cryptography.x509.oid")
    serialization = later("cryptography.hazmat.primitives.serialization")

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@lru_cache(maxsize=256)
def client_variables(certificate: x509.Certificate) -> Mapping[str, str]:
    """Return what mod_ssl tells of a certificate that was found good (its StdEnvVars and ExportCertData).

    Names are as RFC 4514 writes them, times as OpenSSL prints them, the serial number in hexadecimal.
    """
    common = certificate.subject.get_attributes_for_oid(oid.NameOID.COMMON_NAME)
    variables = {
        "SSL_CLIENT_VERIFY": "SUCCESS",
        "SSL_CLIENT_M_VERSION": str(certificate.version.value + 1),
        "SSL_CLIENT_M_SERIAL": _hexadecimal(certificate.serial_number),
        "SSL_CLIENT_S_DN": certificate.subject.rfc4514_string(),
        "SSL_CLIENT_I_DN": certificate.issuer.rfc4514_string(),
        "SSL_CLIENT_V_START": _time(certificate.not_valid_before_utc),
        "SSL_CLIENT_V_END": _time(certificate.not_valid_after_utc),
        "SSL_CLIENT_CERT": certificate.public_bytes(serialization.Encoding.PEM).decode("ascii"),
    }
    if common:
        variables["SSL_CLIENT_S_DN_CN"] = str(common[0].value)
    # PEP 3333: every byte of UTF-8 is a character.
    return {name: value.encode().decode("latin-1") for name, value in variables.items()}


def _hexadecimal(number: int) -> str:
    digits = f"{number:X}"
    return digits if len(digits) % 2 == 0 else f"0{digits}"


def _time(moment: datetime) -> str:
    # strftime would name months in the language of the process.
    return f"{MONTHS[moment.month - 1]} {moment.day:2} {moment:%H:%M:%S} {moment.year} GMT"
