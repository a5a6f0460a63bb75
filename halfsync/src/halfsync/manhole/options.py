"""Options of a line in `authorized_keys`, as sshd(8) has them: what they demand of a login.

An option restricts what a key may do, so one that is not understood keeps the key out.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import re
import time
from calendar import timegm
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# What they forbid or allow is nothing that there is here: forwarding, and sshd's own files.
WITHOUT_EFFECT = frozenset(
    f"{no}{what}" for no in ("", "no-") for what in ("agent-forwarding", "port-forwarding", "user-rc")
) | {"no-x11-forwarding", "x11-forwarding"}

_TIME = re.compile(r"(\d{8})(?:(\d{4})(\d{2})?)?(Z?)")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern of `from=`."""

    negated: bool
    network: Network | None
    """None when it is one with wildcards."""
    text: str

    def matches(self, address: str) -> bool:
        """Say whether an IP address is among those that are meant."""
        if self.network is None:
            return fnmatch.fnmatchcase(address, self.text)
        return ipaddress.ip_address(address) in self.network


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a key may enter."""

    sources: tuple[tuple[Pattern, ...], ...] = ()
    """Each is a `from=`, and all have to hold."""
    expires: float | None = None
    """Seconds since the epoch."""
    terminal: bool = True
    """Whether it may have one; without, it runs commands and scripts."""

    def refusal(self, address: str | None, now: float) -> str | None:
        """Say why a login may not be; None when it may.

        :param address: the peer's IP address; None when it has none, as on a UNIX socket.
        """
        if self.expires is not None and now >= self.expires:
            return "the key has expired (expiry-time)"
        if self.sources and address is None:
            return "the key is bound to addresses (from), and the peer has none"
        if not all(_among(str(address), patterns) for patterns in self.sources):
            return "the key may not come from this address (from)"
        return None


def _among(address: str, patterns: tuple[Pattern, ...]) -> bool:
    hits = {pattern.negated for pattern in patterns if pattern.matches(address)}
    return hits == {False}


def terms(options: Iterable[tuple[str, str | None]]) -> Terms:
    """Understand options, names in lower case.

    :raises ValueError: in words that can go to the log: which one is not honoured, or what is wrong with it.
    """
    sources: list[tuple[Pattern, ...]] = []
    expires: float | None = None
    terminal = True
    unknown: list[str] = []
    for name, value in options:
        if name == "from" and value is not None:
            sources.append(tuple(_pattern(each.strip()) for each in value.split(",")))
        elif name == "expiry-time" and value is not None:
            ends = _time(value)
            expires = ends if expires is None else min(expires, ends)
        elif name in ("restrict", "no-pty", "pty") and value is None:
            terminal = name == "pty"
        elif name not in WITHOUT_EFFECT or value is not None:
            unknown.append(name)
    if unknown:
        raise ValueError(f"options that are not honoured: {', '.join(unknown)}")
    return Terms(tuple(sources), expires, terminal)


def _pattern(text: str) -> Pattern:
    bare = text.removeprefix("!").lower()
    negated = bare != text.lower()
    try:
        return Pattern(negated, ipaddress.ip_network(bare), bare)
    except ValueError:
        # Names would have to be looked up, and the DNS server of the client's address would decide.
        if re.fullmatch(r"[0-9a-f.:*?]*[*?][0-9a-f.:*?]*", bare):
            return Pattern(negated, None, bare)
    raise ValueError("a from= that holds something else than addresses, networks and their patterns")


def _time(text: str) -> float:
    """Return when a time of ssh-keygen(1)'s form is: YYYYMMDD, HHMM and SS optional, Z for UTC."""
    match = _TIME.fullmatch(text)
    try:
        if match:
            parsed = time.strptime(f"{match[1]}{match[2] or '0000'}{match[3] or '00'}", "%Y%m%d%H%M%S")
            return timegm(parsed) if match[4] else time.mktime(parsed)
    except (ValueError, OverflowError):
        pass
    raise ValueError("an expiry-time= that is no YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS, with Z for UTC")
