"""Who may change something: a person or program on this machine, and no web page in a browser on it.

A page of any site can make the browser of someone who sits at this machine send requests to it.
It cannot set a JSON content type on them without asking first (the Fetch standard's "CORS-safelisted" types),
which nothing here answers;
and one that made its own name point here (DNS rebinding) is told by its `Host`.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress
    from twisted.web.http import Request

_LOOPBACK = r"(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?"
_HOST = re.compile(_LOOPBACK, re.IGNORECASE)
_ORIGIN = re.compile(rf"https?://{_LOOPBACK}", re.IGNORECASE)
_JSON = re.compile(r"application/json\s*(;\s*charset=\"?utf-8\"?\s*)?", re.IGNORECASE)

_FORWARDED = (b"Forwarded", b"X-Forwarded-For", b"X-Forwarded-Host", b"X-Real-IP")


class RefusedError(Exception):
    """A request that is not carried out: its status, and why in one line."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def check(request: Request) -> None:
    """Let a changing request pass, or not.

    :raises RefusedError: with 403 or 415.
    """
    peer = request.getClientAddress()
    if not is_local(peer):
        raise RefusedError(403, "peer: changes are made from this machine only")
    host = _one(request, b"Host")
    if not (_HOST.fullmatch(host or "") or isinstance(peer, UNIXAddress)):
        raise RefusedError(403, "Host: changes are made by way of localhost, 127.0.0.1 or [::1] only")
    origin = _one(request, b"Origin")
    if origin is not None and not _ORIGIN.fullmatch(origin):
        raise RefusedError(403, "Origin: changes are not made by pages of other sites")
    if any(request.requestHeaders.hasHeader(name) for name in _FORWARDED):
        # A proxy on this machine is a local peer, whoever stands before it.
        raise RefusedError(403, "Forwarded: changes are not made by way of a proxy")
    if not _JSON.fullmatch(_one(request, b"Content-Type") or ""):
        raise RefusedError(415, "Content-Type: a change is application/json")


def is_local(peer: IAddress | None) -> bool:
    """Say whether an address is this machine's loopback or a unix socket."""
    if isinstance(peer, UNIXAddress):
        return True
    if not isinstance(peer, IPv4Address | IPv6Address):
        return False
    try:
        address = ipaddress.ip_address(peer.host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _one(request: Request, name: bytes) -> str | None:
    """Return a header's only value; the empty text, which nothing accepts, when there are several."""
    values = request.requestHeaders.getRawHeaders(name)
    if not values:
        return None
    return values[0].decode("latin-1").strip() if len(values) == 1 else ""
