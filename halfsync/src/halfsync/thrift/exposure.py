"""Whether an endpoint is open to clients that nobody has asked who they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from halfsync.endpoints.exposure import is_shared_unix, public_address
from halfsync.endpoints.sockets import Unix
from halfsync.thrift.mechanisms import PLAIN, SCRAM_PLUS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from halfsync.endpoints import Endpoint


def exposed(endpoints: Sequence[Endpoint], mechanisms: Sequence[str]) -> str | None:
    """Say which endpoint anybody could use, or no client could; None when there is none.

    Without a mechanism, the clients must show certificates, or be of this machine:
    on loopback, or on a UNIX socket that is closed to other users. Behind the PROXY protocol
    they come from elsewhere, whatever the address.
    """
    for endpoint in endpoints:
        fault = _fault(endpoint, mechanisms)
        if fault:
            return f"{endpoint.text!r} {fault}"
    return None


def _fault(endpoint: Endpoint, mechanisms: Sequence[str]) -> str | None:
    certificates = endpoint.certificates
    source = endpoint.source
    if not mechanisms:
        asked = getattr(certificates, "client_ca", None) is not None
        asked = asked and not getattr(certificates, "client_optional", False)
        reachable = endpoint.proxied or public_address(source) is not None or is_shared_unix(source)
        if reachable and not asked:
            return (
                "is open to clients that nobody has asked who they are; "
                "set --rpc.sasl=SCRAM-SHA-256 and --rpc.users, or ask for client certificates (clientCA=), "
                "or listen on interface=127.0.0.1 or on a UNIX socket with mode=600"
            )
    elif certificates is None:
        private = isinstance(source, Unix) and not is_shared_unix(source) and not endpoint.proxied
        if not any(each != SCRAM_PLUS and (private or each != PLAIN) for each in mechanisms):
            return f"has no TLS, which {', '.join(mechanisms)} needs"
    return None
