"""The head of an HTTP/1.1 request, read strictly (RFC 9112 sections 2 to 6), in one pass.

Whatever two readers could understand differently is refused rather than repaired:
a proxy in front and an application behind must see the same request,
with the same target, the same host, and the same end.

Where the RFC leaves room, this is what is done with it:

- Lines end in CR LF. A bare LF, a bare CR, a folded line, and a control character anywhere are refused.
- A method has no lower-case letters: methods are case-sensitive, and a reader that folds their case,
  as some do, would see another one.
- A target is printable ASCII without `#`: what follows it is a path for one reader and none for another.
  An absolute one has no user name or password (RFC 9110 section 4.2.4).
- A minor version above 1 is served as 1.1 (RFC 9110 section 2.5).
- `Transfer-Encoding` is exactly `chunked`: other codings are for no one here to undo.
- `Transfer_Encoding` and the like are refused: behind CGI-like variables they are what frames the body.
- A second `Content-Type` is refused: a reader takes the first of them, or the last, or both joined.
"""

from __future__ import annotations

import re

from halfsync.http.stream import RequestHead

KNOWN_NAMES = 1000
"""How many header names, and hosts, are remembered; clients choose them, so there is a bound."""

LONGEST_NAME = 256
"""Bytes of a header's name; beyond it 431."""

LONGEST_HOST = 261
"""Bytes of a host and its port: a name has 255 at most (RFC 1035 section 2.3.4); beyond it 400."""

LENGTH_DIGITS = 18
"""Of a Content-Length; more of them is no length of anything."""

PLAIN = bytes([9, *range(32, 127), *range(128, 256)])
"""What a head is made of, apart from its line ends: tab, printable ASCII, and what is not ASCII."""

_REQUEST_LINE = re.compile(r"([!$%&'*+.^_`|~0-9A-Z-]+) ([!-\"$-~]+) HTTP/1\.([0-9])\Z")
_OTHER_VERSION = re.compile(r"[^ ]+ [^ ]+ HTTP/[0-9]\.[0-9]\Z")
_ABSOLUTE = re.compile(r"[Hh][Tt][Tt][Pp][Ss]?://([^/?]+)([/?].*)?\Z")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_HOST = re.compile(
    r"(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})+(?::[0-9]{0,5})?\Z"
    r"|\[(?:[0-9A-Fa-f:.]+|v[0-9A-Fa-f]+\.[A-Za-z0-9._~!$&'()*+,;=:-]+)\](?::[0-9]{0,5})?\Z"
)

SINGLE = frozenset(("host", "content-length", "transfer-encoding", "content-type"))
"""Headers of which there is at most one."""

FRAMING = frozenset(("host", "content-length", "transfer-encoding"))
"""What decides where a request goes and where it ends."""

SPECIAL = SINGLE | {"connection", "expect", "x-request-id", "traceparent", "cookie"}
"""Headers that a server looks at itself, or joins in a way of their own."""

KNOWN_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"))
"""Those of RFC 9110 and RFC 5789, but for CONNECT, which is not served; others are looked at longer."""

KNOWN_BLOCKS = 256
KNOWN_SIZE = 2048
"""How many blocks of header lines are remembered, and how long they are at most.

On a connection, most requests have the same lines as the one before: 10 headers take 2 microseconds, not 8.
"""

CONTROL = "a control character, or a line end that is not CR LF"
LINE = "no request line of HTTP/1.1"
MANY = "more headers or trailers than max_headers"
TARGET = "a target that this method does not have"
"""Reasons for more than one refusal."""

_blocks: dict[bytes, Fields] = {}
_names: dict[str, tuple[str | None, str | None]] = {}
_hosts: set[str] = set()


class Refused(Exception):  # noqa: N818  the request is, by us
    """A request that gets a status instead of being served; its connection is closed.

    :param reason: for the log, in words of ours: nothing of what the client sent.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


def read(data: bytes, max_headers: int) -> RequestHead:
    """Read a head: the request line and the header lines, without the empty line after them.

    :raises Refused: 400; 431 for too many headers; 501 for CONNECT and for transfer codings;
        505 for versions other than 1.x.
    """
    at = data.find(b"\r\n")
    raw, block = (data, b"") if at < 0 else (data[:at], data[at:])
    line = raw.decode("latin-1")
    # No more often than tells that there are too many: a line may be nothing but spaces.
    words = line.split(" ", 3)
    method, target, version = words if len(words) == 3 else ("", "", "")
    if not (
        version == "HTTP/1.1"
        and method in KNOWN_METHODS
        and target.startswith("/")
        # As `_REQUEST_LINE` has it, in a third of the time.
        and target.isascii()
        and target.isprintable()
        and "#" not in target
    ):
        if raw.translate(None, PLAIN):
            raise Refused(400, CONTROL)
        method, target, version = read_request_line(line)
    fields = _blocks.get(block) or _fields(block)
    if len(fields.lines) > max_headers:
        raise Refused(431, MANY)
    if fields.host is None and version == "HTTP/1.1":
        raise Refused(400, "no Host")
    if fields.length is None and version == "HTTP/1.0":
        # RFC 9112 section 6.1: the two readings of it are how requests are smuggled.
        raise Refused(400, "Transfer-Encoding in HTTP/1.0")
    variables = fields.variables
    if not target.startswith("/"):
        target, variables = _path_of(method, target, variables)
    return RequestHead(method, target, version, variables, fields.special, fields.length, fields.listed)


class Fields:
    """The header lines of a request; many requests have the same, and share them: nothing here is changed."""

    __slots__ = ("host", "length", "lines", "special", "variables")

    def __init__(self, lines: list[str], variables: dict[str, str], special: dict[str, str]) -> None:
        self.lines = lines
        self.variables = variables
        self.special = special
        self.host = special.get("host")
        # An empty one is what a client sends that has no name for us (RFC 9112 section 3.2).
        if self.host and not is_host(self.host):
            raise Refused(400, "Host is no host")
        self.length = _length(special)

    def listed(self) -> list[tuple[str, str]]:
        """Return every header."""
        found = []
        for line in self.lines:
            name, _, value = line.partition(":")
            found.append((name, value.strip("\t ")))
        return found


def _fields(block: bytes) -> Fields:  # noqa: C901  one pass: calls would cost more
    lines = block.decode("latin-1").split("\r\n")
    if block.translate(None, PLAIN) != b"\r\n" * (len(lines) - 1):
        # Something that is neither plain nor one of the line ends just found.
        raise Refused(400, CONTROL)
    del lines[0]
    variables: dict[str, str] = {}
    special: dict[str, str] = {}
    names = _names
    for line in lines:
        raw, colon, value = line.partition(":")
        if not colon:
            raise Refused(400, "a header without a colon")
        variable, kind = names.get(raw) or variable_of(raw)
        value = value.strip("\t ")
        joint = ", "
        if kind is not None:
            if kind not in special:
                special[kind] = value
            elif kind in SINGLE:
                raise Refused(400, f"{kind} twice")
            elif kind == "cookie":
                joint = "; "
            else:
                special[kind] += ", " + value
        if variable is not None:
            variables[variable] = f"{variables[variable]}{joint}{value}" if variable in variables else value
    fields = Fields(lines, variables, special)
    if len(block) <= KNOWN_SIZE:
        if len(_blocks) >= KNOWN_BLOCKS:
            _blocks.clear()
        _blocks[block] = fields
    return fields


def is_host(value: str) -> bool:
    """Say whether a value is a host with or without a port (RFC 9110 section 7.2).

    A comma, which the RFC allows in names, is not: no name has one, two hosts made one by a proxy do.
    """
    if value in _hosts:
        return True
    if len(value) > LONGEST_HOST or _HOST.match(value) is None:
        return False
    if len(_hosts) < KNOWN_NAMES:
        _hosts.add(value)
    return True


def in_disguise(name: str) -> bool:
    """Say whether a name passes for one that frames a request, where underscores are dashes."""
    return "_" in name and name.replace("_", "-").lower() in FRAMING


def read_request_line(line: str) -> tuple[str, str, str]:
    """Return method, target and version.

    :raises Refused: 400; 501 for CONNECT; 505 for versions other than 1.x.
    """
    match = _REQUEST_LINE.match(line)
    if match is None:
        if _OTHER_VERSION.match(line) and "HTTP/1." not in line:
            raise Refused(505, "another version of HTTP")
        raise Refused(400, LINE)
    method, target, minor = match.groups()
    if not target.startswith("/"):
        _check_target(method, target)
    elif method == "CONNECT":
        raise Refused(400, TARGET)
    return method, target, "HTTP/1.0" if minor == "0" else "HTTP/1.1"


def _check_target(method: str, target: str) -> None:
    if method == "CONNECT":
        raise Refused(501, "CONNECT is not served") if is_host(target) else Refused(400, TARGET)
    if target == "*":
        if method != "OPTIONS":
            raise Refused(400, TARGET)
        return
    absolute = _ABSOLUTE.match(target)
    if absolute is None or not is_host(absolute[1]):
        raise Refused(400, TARGET)


def _path_of(method: str, target: str, variables: dict[str, str]) -> tuple[str, dict[str, str]]:
    """Return path and query of a target that does not begin with a slash, and the variables with its host.

    The host of an absolute target replaces the header (RFC 9112 section 3.2.2).
    """
    match = _ABSOLUTE.match(target)
    if match is None:
        return target, variables
    rest = match[2] or ""
    if not rest and method == "OPTIONS":
        # It asks about the server, as `*` does (RFC 9112 section 3.2.4).
        rest = "*"
    elif not rest.startswith("/"):
        rest = "/" + rest
    return rest, {**variables, "HTTP_HOST": match[1]}


def variable_of(raw: str) -> tuple[str | None, str | None]:
    """Return the WSGI variable of a header, and what a server knows it as; None where there is none.

    A name with an underscore has no variable: `X_User` and `X-User` would be one,
    and a proxy that removes the one may let the other pass.
    :raises Refused: 400 for what is no name, 431 for one that is too long.
    """
    # Whitespace before the colon, and at the start of a folded line, is no part of a token either.
    if _NAME.match(raw) is None or in_disguise(raw):
        raise Refused(400, "a header's name that is none")
    if len(raw) > LONGEST_NAME:
        raise Refused(431, "a header's name that is too long")
    lower = raw.lower()
    kind = lower if lower in SPECIAL else None
    variable: str | None = "HTTP_" + raw.upper().replace("-", "_")
    if lower == "content-type":
        variable = "CONTENT_TYPE"
    elif "_" in raw or lower in {"content-length", "transfer-encoding"}:
        # Those describe the body as it came over the wire; an application gets it decoded and counted.
        variable = None
    if len(_names) < KNOWN_NAMES:
        _names[raw] = variable, kind
    return variable, kind


def _length(special: dict[str, str]) -> int | None:
    digits = special.get("content-length")
    coding = special.get("transfer-encoding")
    if coding is not None:
        if digits is not None:
            raise Refused(400, "both Content-Length and Transfer-Encoding")
        if coding.lower() == "chunked":
            return None
        last = coding.lower().rpartition(",")[2].strip("\t ")
        raise Refused(501 if last == "chunked" else 400, "Transfer-Encoding is not chunked alone")
    if digits is None:
        return 0
    if not (digits.isascii() and digits.isdigit()) or len(digits) > LENGTH_DIGITS:
        raise Refused(400, "Content-Length is no length")
    return int(digits)
