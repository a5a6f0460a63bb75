"""Whether an endpoint is open to clients that nobody has asked who they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from halfsync.endpoints.exposure import is_shared_unix, public_address
from halfsync.endpoints.sockets import Unix
from halfsync.life.errors import StartError
from halfsync.thrift.mechanisms import PLAIN, SCRAM_PLUS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from halfsync.endpoints import Endpoint


def require_safe(endpoint: Endpoint, mechanisms: Sequence[str]) -> None:
    """Refuse an endpoint that anybody could use, or that no client could.

    Without a mechanism, the clients must show certificates, or be of this machine:
    on loopback, or on a UNIX socket that is closed to other users. Behind the PROXY protocol
    they come from elsewhere, whatever the address.
    :raises StartError: with what would be right.
    """
    certificates = endpoint.certificates
    source = endpoint.source
    if not mechanisms:
        asked = getattr(certificates, "client_ca", None) is not None
        reachable = endpoint.proxied or public_address(source) is not None or is_shared_unix(source)
        if reachable and not asked:
            raise StartError(
                f"--rpc.listen: {endpoint.text!r} is open to clients that nobody has asked who they are; "
                "set --rpc.sasl=SCRAM-SHA-256 and --rpc.users, or ask for client certificates (clientCA=), "
                "or listen on interface=127.0.0.1 or on a UNIX socket with mode=600"
            )
    elif certificates is None:
        private = isinstance(source, Unix) and not is_shared_unix(source) and not endpoint.proxied
        usable = {each for each in mechanisms if each != SCRAM_PLUS and (private or each != PLAIN)}
        if not usable:
            names = ", ".join(mechanisms)
            raise StartError(f"--rpc.listen: {endpoint.text!r} has no TLS, which {names} needs")
