r"""One grammar for every address that the service listens on.

The strings are Twisted's (`tcp:`, `tcp6:`, `unix:`, `ssl:`, `tls:`, `systemd:`, `haproxy:`), and three more:
- `fd:N`, an inherited listening socket of any family;
- `tls-over:cert=FILE:key=FILE:` before any other, which puts TLS over it;
- an IPv6 address as a person types it: `tcp:8080:interface=::1`.
A backslash takes the meaning from a colon, as in Twisted.

Two things are done otherwise than Twisted does:
the PROXY header is expected before the TLS handshake wherever `haproxy:` stands,
because that is where proxies send it (PROXY protocol specification, section 2.2);
and `unix:` needs and makes no lock file.
"""

from __future__ import annotations

import inspect
import ipaddress
import os
import re
from typing import TYPE_CHECKING

from halfsync._later import later
from halfsync.endpoints.certificates import Certificates, Files, Folder
from halfsync.endpoints.endpoint import Endpoint
from halfsync.endpoints.sockets import Inherited, ListenError, Source, Tcp, Unix

if TYPE_CHECKING:
    from collections.abc import Callable

    from halfsync import _twisted
else:
    _twisted = later("halfsync._twisted")

EXAMPLES = "tcp:8080, tcp:8080:interface=127.0.0.1, unix:/run/x.sock, fd:3"
BACKLOG = "1024"
"""Twisted's 50 makes the clients of a burst wait a second for a lost SYN; the kernel caps it at somaxconn."""

REQUIRED, OPTIONAL = "required", "optional"
"""Whether clients must show certificates, where they are asked for one."""

_ARGUMENT = re.compile(r"((?:[^=\\]|\\.)*)=(.*)", re.DOTALL)
_SUN_PATH = 107
"""The longest path of a UNIX socket, in bytes (unix(7))."""


class EndpointError(ValueError):
    """The string is no endpoint. One line that says what would be right, for a person."""


def parse(text: str) -> Endpoint:
    """Understand a string, without a look at the machine.

    :raises EndpointError: when it is wrong.
    """
    try:
        source, certificates, proxied = _parse(text)
    except ValueError as error:
        raise EndpointError(f"{text!r} {error}") from None
    return Endpoint(text, source, certificates, proxied)


def as_endpoint(value: Endpoint | str) -> Endpoint:
    """Return what a flag has parsed already, or parse it.

    :raises EndpointError: as `parse`.
    """
    return parse(value) if isinstance(value, str) else value


def _parse(text: str) -> tuple[Source, Certificates | None, bool]:
    certificates: Certificates | None = None
    proxied = False
    segments = _split(text)
    while segments[0] in ("haproxy", "tls-over"):
        if segments.pop(0) == "haproxy":
            if proxied:
                raise ValueError("has haproxy: twice; once is right")
            proxied = True
        else:
            if certificates is not None:
                raise ValueError("has TLS twice; once is right")
            certificates = _tls_over(segments)
        if not segments:
            raise ValueError(f"ends too early; write after it for example {EXAMPLES}")
    kind = segments[0]
    if kind not in _KINDS:
        raise ValueError(f"is no endpoint; write for example {EXAMPLES}")
    build, usage = _KINDS[kind]
    args, keywords = _arguments(segments[1:])
    try:
        # bind() says what is missing or unknown better than the call would.
        inspect.signature(build).bind(*args, **keywords)
        source, own = build(*args, **keywords)
    except (TypeError, ValueError) as error:
        raise ValueError(f"is wrong, {error}; write {usage}") from None
    if own is not None and certificates is not None:
        raise ValueError("has TLS twice; once is right")
    return source, own or certificates, proxied


def _split(text: str) -> list[str]:
    if not re.fullmatch(r"(?:[^\\]|\\.)*", text, re.DOTALL):
        raise ValueError("ends in a backslash; write \\\\ for one that is meant")
    return re.findall(r"(?:^|:)((?:[^:\\]|\\.)*)", text, re.DOTALL)


def _arguments(segments: list[str]) -> tuple[list[str], dict[str, str]]:
    args: list[str] = []
    keywords: dict[str, str] = {}
    while segments:
        segment = segments.pop(0)
        pair = _ARGUMENT.fullmatch(segment)
        if pair is None:
            args.append(_unescape(segment))
            continue
        key, value = _unescape(pair[1]), pair[2]
        if key == "interface":
            value = _interface(value, segments)
        if key in keywords:
            raise ValueError(f"has {key}= twice; once is right")
        keywords[key] = _unescape(value)
    return args, keywords


def _interface(value: str, following: list[str]) -> str:
    """Give an IPv6 address back the colons that the split took, without its brackets."""
    for more in range(len(following), -1, -1):
        whole = ":".join([value, *following[:more]])
        bare = whole[1:-1] if whole.startswith("[") and whole.endswith("]") else whole
        try:
            ipaddress.IPv6Address(bare)
        except ValueError:
            continue
        del following[:more]
        return bare
    return value


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


def _tls_over(segments: list[str]) -> Certificates:
    """Take the `key=value` segments that stand before the inner endpoint."""
    given: dict[str, str] = {}
    while segments and (pair := _ARGUMENT.fullmatch(segments[0])) is not None:
        if pair[1] not in ("cert", "key", "chain", "clientCA", "clientVerify") or pair[1] in given:
            usage = (
                "tls-over:cert=FILE:key=FILE:chain=FILE:clientCA=FILE:clientVerify=optional: and an endpoint"
            )
            raise ValueError(f"is wrong at {segments[0]!r}; write {usage}")
        given[pair[1]] = _unescape(pair[2])
        segments.pop(0)
    if not given.get("cert"):
        raise ValueError("names no certificate; write tls-over:cert=FILE:key=FILE: and an endpoint")
    authorities = given.get("clientCA")
    optional = _client_optional(authorities, given.get("clientVerify", REQUIRED))
    return Files(given["cert"], given.get("key") or given["cert"], given.get("chain"), authorities, optional)


def _client_optional(authorities: str | None, verify: str) -> bool:
    if verify not in {REQUIRED, OPTIONAL}:
        raise ValueError(f"clientVerify must be {REQUIRED} or {OPTIONAL}, not {verify!r}")
    if verify == OPTIONAL and authorities is None:
        raise ValueError(
            "has clientVerify=optional without clientCA=FILE, which says what certificates are good"
        )
    return verify == OPTIONAL


def _number(what: str, text: str, low: int, high: int) -> int:
    # int() alone would take "8_0", " 80" and the digits of every script.
    if not (text.isascii() and text.isdigit() and low <= int(text[:10]) <= high):
        raise ValueError(f"{what} must be a whole number from {low} to {high}, not {text!r}")
    return int(text)


_Built = tuple[Source, "Certificates | None"]


def _tcp(port: str, interface: str = "", backlog: str = BACKLOG) -> _Built:
    if interface == "localhost":
        interface = "127.0.0.1"
    try:
        # Names are not taken: to resolve one may block the reactor, and finds a mistake only then.
        ipaddress.ip_address(interface or "::")
    except ValueError:
        raise ValueError(
            f"interface must be an address such as 127.0.0.1 or ::1, not {interface!r}"
        ) from None
    return Tcp(interface, _number("the port", port, 0, 65535), _number("backlog", backlog, 1, 65535)), None


def _tcp6(port: str, backlog: str = BACKLOG, interface: str = "::") -> _Built:
    if ":" not in interface:
        raise ValueError(f"interface must be an IPv6 address, not {interface!r}")
    return _tcp(port, interface, backlog)


def _unix(
    address: str,
    mode: str | None = None,
    backlog: str = BACKLOG,
    lockfile: str = "1",
    *,
    user: str = "",
    group: str = "",
) -> _Built:
    _number("lockfile", lockfile, 0, 1)
    if not address or "\0" in address or len(os.fsencode(address)) > _SUN_PATH:
        raise ValueError(f"the path must have 1 to {_SUN_PATH} bytes")
    if mode is not None and not re.fullmatch("0?[0-7]{3}", mode):
        raise ValueError(f"mode must be three octal digits such as 660, not {mode!r}")
    return Unix(
        address, None if mode is None else int(mode, 8), _number("backlog", backlog, 1, 65535), user, group
    ), None


def _ssl(
    port: str,
    privateKey: str = "server.pem",
    certKey: str | None = None,
    *,
    extraCertChain: str | None = None,
    clientCA: str | None = None,
    clientVerify: str = REQUIRED,
    interface: str = "",
    backlog: str = BACKLOG,
) -> _Built:
    optional = _client_optional(clientCA, clientVerify)
    certificates = Files(certKey or privateKey, privateKey, extraCertChain, clientCA, optional)
    return _tcp(port, interface, backlog)[0], certificates


def _tls(
    path: str,
    port: str = "443",
    backlog: str = BACKLOG,
    interface: str = "::",
    clientCA: str | None = None,
    *,
    clientVerify: str = REQUIRED,
) -> _Built:
    return _tcp(port, interface, backlog)[0], Folder(path, clientCA, _client_optional(clientCA, clientVerify))


def _fd(number: str) -> _Built:
    descriptor = _number("the number", number, 0, 2**20)
    return Inherited(f"fd:{descriptor}", lambda: descriptor), None


def _systemd(domain: str, index: str | None = None, name: str | None = None) -> _Built:
    if domain not in ("INET", "INET6", "UNIX"):
        raise ValueError(f"domain must be INET, INET6 or UNIX, not {domain!r}")
    if (index is None) == (name is None):
        raise ValueError("either index or name must be given")
    which = f"index={_number('index', index, 0, 1023)}" if index is not None else f"name={name}"

    def find() -> int:
        handed_over = _twisted.systemd_sockets()
        found = [
            number
            for at, (number, own) in enumerate(handed_over)
            if (own == name if index is None else at == int(index))
        ]
        if not found:
            raise ListenError(f"systemd handed over no socket with {which} (see LISTEN_FDNAMES)")
        if len(found) > 1:
            raise ListenError(f"systemd handed over {len(found)} sockets with {which}; write index=NUMBER")
        return found[0]

    return Inherited(f"systemd:{which}", find), None


_KINDS: dict[str, tuple[Callable[..., _Built], str]] = {
    "tcp": (_tcp, "tcp:PORT:interface=ADDRESS:backlog=NUMBER, all but PORT optional"),
    "tcp6": (_tcp6, "tcp6:PORT:interface=ADDRESS:backlog=NUMBER, all but PORT optional"),
    "unix": (_unix, "unix:PATH:mode=660:user=NAME:group=NAME:backlog=NUMBER, all but PATH optional"),
    "ssl": (
        _ssl,
        "ssl:PORT:privateKey=FILE:certKey=FILE:extraCertChain=FILE:clientCA=FILE:clientVerify=optional",
    ),
    "tls": (
        _tls,
        "tls:FOLDER:PORT:interface=ADDRESS:clientCA=FILE:clientVerify=optional, all but FOLDER optional",
    ),
    "systemd": (_systemd, "systemd:domain=INET:index=0 or systemd:domain=INET:name=NAME"),
    "fd": (_fd, "fd:NUMBER, for example fd:3"),
}
