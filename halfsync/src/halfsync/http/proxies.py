"""Proxies in front, and what they say of a client: its address, its scheme, the host that it asked for.

Anyone can send these headers, so they count only from a peer that `--web.trusted_proxies` names.
Of the two families of headers only one is read:
a proxy sets those it knows, and lets the client's other ones pass.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, NamedTuple

from halfsync import flag
from halfsync._later import later

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from ipaddress import IPv4Address

    from twisted.internet import address as addresses

    _Strings = flag.List[str]
else:
    addresses = later("twisted.internet.address")
    _Strings = flag.List

X_FORWARDED = "x-forwarded"
FORWARDED = "forwarded"

MOST_HOPS = 32
"""Entries that are looked at: the nearest ones."""

UNIX = "unix"

SAID = frozenset(("for", "proto", "host"))
"""What a proxy says unless more or less is named: the client's address, its scheme, the host it asked for."""

ASKABLE = SAID | {"prefix"}
"""What a proxy can say, as well: the path that it took off the target, below which the service is mounted.

Few proxies set that header or drop the client's, so it is believed only where it is named.
"""

_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?\Z")
# Absolute, of segments that are not empty: `//evil` would name another host in a redirect.
_PREFIX = re.compile(r"(?:/(?:[A-Za-z0-9._~!$&'()*+;=:@-]|%[0-9A-Fa-f]{2})+){1,16}\Z")
# RFC 7239 section 4: pairs separated by semicolons, elements by commas, values that may be quoted.
_PAIR = re.compile(
    r"""[ \t]*([!#$%&'*+.^_`|~\w-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s",;]*))[ \t]*([,;]|\Z)""", re.ASCII
)


class Origin(NamedTuple):
    """What the proxies say; None where they say nothing that can be believed."""

    client: addresses.IPv4Address | addresses.IPv6Address | None = None
    secure: bool | None = None
    host: str | None = None
    prefix: str | None = None


class TrustedProxies(_Strings):
    """Addresses, networks (`10.0.0.0/8`, `fd00::/8`), and `unix` for peers on UNIX sockets.

    `10.0.0.7=for,proto` is a proxy that sets only those two, and lets the client's own of the others pass.
    """

    def __init__(self, description: str) -> None:
        super().__init__(flag.String, " ", description, [])
        self.type_str = "addresses"

    def set(self, value: str) -> None:
        """Take what names proxies without doubt: a network with host bits is two different meanings."""
        texts = value.split()
        for text in texts:
            name, equals, said = text.partition("=")
            if equals and not set(said.split(",")) <= ASKABLE:
                raise ValueError(f"has {text!r}; after the = are some of for,proto,host,prefix")
            if name == UNIX:
                continue
            try:
                ip_network(name)
            except ValueError as error:
                told = str(error)
                reason = told if "host bits" in told else "is no IP address or network"
                raise ValueError(
                    f"has {text!r}, which {reason}; right are 10.0.0.7, 10.0.0.0/8, fd00::/8=for,proto, unix"
                ) from None
        self.value = texts


class Proxies:
    """The proxies that are believed."""

    def __init__(self, trusted: Iterable[str], *, headers: str = X_FORWARDED) -> None:
        """Believe those that TrustedProxies takes, in the headers of one family."""
        self._unix: frozenset[str] | None = None
        self._networks: list[tuple[IPv4Network | IPv6Network, frozenset[str]]] = []
        """Proxies, and which of address, scheme and host each of them says."""
        for text in trusted:
            name, equals, said = text.partition("=")
            believed = frozenset(said.split(",")) if equals else SAID
            if name == UNIX:
                self._unix = believed
            else:
                self._networks.append((ip_network(name), believed))
        self._read = _forwarded if headers == FORWARDED else _x_forwarded

    def origin(self, peer: object, variables: Mapping[str, str]) -> Origin:
        """Say where a request comes from that this peer has sent, by its headers as WSGI names them."""
        believed = self._believed(peer)
        if not believed:
            return Origin()
        client, secure, host, prefix = self._read(self, variables)
        return Origin(
            client if "for" in believed else None,
            secure if "proto" in believed else None,
            host if "host" in believed else None,
            prefix if "prefix" in believed else None,
        )

    def trusts(self, peer: object) -> bool:
        """Whether a peer is one of them."""
        return bool(self._believed(peer))

    def _believed(self, peer: object) -> frozenset[str]:
        if not isinstance(peer, (addresses.IPv4Address, addresses.IPv6Address)):
            return self._unix or frozenset()
        found = _parsed(peer.host)
        if found is None:
            return frozenset()
        return frozenset().union(*(said for network, said in self._networks if found[0] in network))

    def client(self, hops: Sequence[str]) -> tuple[int, addresses.IPv4Address | addresses.IPv6Address | None]:
        """Go from the nearest hop outwards to the first that is no proxy of ours; give its place and address.

        What is no address ends the way: who is behind it cannot be known.
        """
        place, client = len(hops), None
        for index in range(len(hops) - 1, max(-1, len(hops) - 1 - MOST_HOPS), -1):
            found = _parsed(hops[index])
            if found is None:
                break
            place, client = index, found
            if not self._trusts(found[0]):
                break
        if client is None:
            return place, None
        host, port = client
        kind = addresses.IPv6Address if isinstance(host, IPv6Address) else addresses.IPv4Address
        return place, kind("TCP", str(host), port)

    def _trusts(self, host: IPv4Address | IPv6Address) -> bool:
        return any(host in network for network, _ in self._networks)


def _x_forwarded(proxies: Proxies, variables: Mapping[str, str]) -> Origin:
    _, client = proxies.client(_listed(variables, "HTTP_X_FORWARDED_FOR"))
    schemes = _listed(variables, "HTTP_X_FORWARDED_PROTO")
    hosts = _listed(variables, "HTTP_X_FORWARDED_HOST")
    prefixes = _listed(variables, "HTTP_X_FORWARDED_PREFIX")
    return Origin(
        client,
        _secure(schemes[-1]) if schemes else None,
        _host(hosts[-1]) if hosts else None,
        _prefix(prefixes[-1]) if prefixes else None,
    )


def _forwarded(proxies: Proxies, variables: Mapping[str, str]) -> Origin:
    elements = list(_elements(variables.get("HTTP_FORWARDED", "")))
    place, client = proxies.client([element.get("for", "") for element in elements])
    # What the hop says by whom the client was received; without an address, what the nearest one says.
    said = elements[min(place, len(elements) - 1)] if elements else {}
    return Origin(client, _secure(said.get("proto", "")), _host(said.get("host", "")))


def _elements(text: str) -> Iterator[dict[str, str]]:
    """Parse Forwarded; an element that cannot be parsed says nothing."""
    elements: list[dict[str, str]] = [{}]
    position = 0
    while position < len(text):
        match = _PAIR.match(text, position)
        if match is None:
            comma = text.find(",", position)
            elements[-1] = {}
            if comma < 0:
                break
            elements.append({})
            position = comma + 1
            continue
        name, quoted, plain, end = match.groups()
        elements[-1][name.lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
        if end == ",":
            elements.append({})
        position = match.end()
    yield from elements


def _listed(variables: Mapping[str, str], name: str) -> list[str]:
    value = variables.get(name)
    return [] if value is None else [each.strip(" \t") for each in value.split(",")]


def _parsed(text: str) -> tuple[IPv4Address | IPv6Address, int] | None:
    """Return address and port, 0 when there is none: `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`."""
    port = ""
    if text.startswith("["):
        text, _, rest = text[1:].partition("]")
        if rest and not rest.startswith(":"):
            return None
        port = rest[1:]
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
    try:
        host = ip_address(text)
    except ValueError:
        return None
    if isinstance(host, IPv6Address) and host.ipv4_mapped is not None:
        # How an IPv6 socket that serves both names a client of IPv4.
        host = host.ipv4_mapped
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
    return host, number if number < 65536 else 0


def _secure(scheme: str) -> bool | None:
    return {"https": True, "http": False, "wss": True, "ws": False}.get(scheme.lower())


def _prefix(text: str) -> str | None:
    text = text.rstrip("/")
    return text if _PREFIX.match(text) else None


def _host(text: str) -> str | None:
    return text if _HOST.match(text) else None
