"""The environ of a request: PEP 3333, on the variables of CGI/1.1 (RFC 3875)."""

from __future__ import annotations

from io import SEEK_END
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from twisted.internet.address import IPv4Address, IPv6Address

from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from halfsync.http.request import Request

log = get_logger(__name__)

KNOWN_NAMES = 1000
"""How many header names are remembered; clients choose them, so there is a bound."""

_variables: dict[bytes, str | None] = {
    b"Content-Type": "CONTENT_TYPE",
    # Both describe the body as it came over the wire; the application gets it decoded and counted.
    b"Content-Length": None,
    b"Transfer-Encoding": None,
}


class Errors:
    """`wsgi.errors`: what the application writes becomes events of the log."""

    def write(self, text: str) -> int:
        """Log a text, unless it is the line break that `print` writes on its own."""
        line = text.rstrip("\n")
        if line:
            log.error("wsgi.errors", text=line)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Log each line."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Nothing is held back."""


class FileWrapper:
    """`wsgi.file_wrapper`: a file as an iterable of blocks.

    The gateway reads the file itself, in blocks of its own size, when it gets this back unwrapped.
    """

    def __init__(self, filelike: Any, block_size: int = 8192) -> None:
        self.filelike = filelike
        self._block_size = block_size

    def __iter__(self) -> FileWrapper:
        return self

    def __next__(self) -> bytes:
        block: bytes = self.filelike.read(self._block_size)
        if not block:
            raise StopIteration
        return block

    def close(self) -> None:
        """Close the file, if it can be."""
        close = getattr(self.filelike, "close", None)
        if close is not None:
            close()


ALWAYS: dict[str, Any] = {
    "GATEWAY_INTERFACE": "CGI/1.1",
    "wsgi.version": (1, 0),
    "wsgi.errors": Errors(),
    "wsgi.multithread": True,
    # Several processes may share an inherited socket, but this one cannot know.
    "wsgi.multiprocess": False,
    "wsgi.run_once": False,
    "wsgi.file_wrapper": FileWrapper,
    # The input ends where the body ends: reading without a length is safe.
    "wsgi.input_terminated": True,
}


def build(request: Request, body: IO[bytes], *, secure: bool) -> dict[str, Any]:
    """Describe a request whose body has arrived in whole; for any thread."""
    environ = ALWAYS.copy()
    raw_path, _, query = request.uri.partition(b"?")
    script, path = _split(raw_path, len(request.prepath or ()))
    environ["REQUEST_METHOD"] = request.method.decode("ascii")
    environ["REQUEST_URI"] = request.uri.decode("latin-1")
    environ["SCRIPT_NAME"] = script
    environ["PATH_INFO"] = path
    environ["QUERY_STRING"] = query.decode("latin-1")
    environ["SERVER_PROTOCOL"] = request.clientproto.decode("ascii")
    environ["wsgi.url_scheme"] = "https" if secure else "http"
    environ["wsgi.input"] = body
    _add_addresses(environ, request, secure=secure)
    _add_headers(environ, request)
    environ["HTTP_X_REQUEST_ID"] = request.request_id
    if _announced_body(request):
        body.seek(0, SEEK_END)
        environ["CONTENT_LENGTH"] = str(body.tell())
        body.seek(0)
    return environ


def _split(path: bytes, depth: int) -> tuple[str, str]:
    """Return SCRIPT_NAME and PATH_INFO of a gateway that is `depth` segments below the root."""
    if b"%" in path:
        # PEP 3333: decoded from percents, then every byte is a character.
        segments = path.split(b"/", depth + 1)
        decoded = [unquote_to_bytes(segment).decode("latin-1") for segment in segments]
    elif not depth:
        return "", path.decode("latin-1")
    else:
        decoded = path.decode("latin-1").split("/", depth + 1)
    rest = decoded[depth + 1 :]
    return "/".join(decoded[: depth + 1]), f"/{rest[0]}" if rest else ""


def _add_addresses(environ: dict[str, Any], request: Request, *, secure: bool) -> None:
    client = request.client
    if isinstance(client, (IPv4Address, IPv6Address)):
        environ["REMOTE_ADDR"] = client.host
        if client.port:
            # A trusted proxy seldom tells it.
            environ["REMOTE_PORT"] = str(client.port)
    else:
        # The client of a unix socket has no address; applications read this key without asking.
        environ["REMOTE_ADDR"] = ""
    host = request.host
    if isinstance(host, (IPv4Address, IPv6Address)):
        environ["SERVER_NAME"] = host.host
        environ["SERVER_PORT"] = str(host.port)
    else:
        environ["SERVER_NAME"] = "localhost"
        environ["SERVER_PORT"] = "443" if secure else "80"


def _add_headers(environ: dict[str, Any], request: Request) -> None:
    for name, values in request.requestHeaders.getAllRawHeaders():
        variable = _variables[name] if name in _variables else _variable(name)
        if variable is not None:
            joint = b"; " if variable == "HTTP_COOKIE" else b", "
            value = values[0] if len(values) == 1 else joint.join(values)
            environ[variable] = value.decode("latin-1")


def _variable(name: bytes) -> str | None:
    """Return the variable of a header.

    None for a name with an underscore: `X_User` and `X-User` would be one variable,
    and a proxy that removes the one may let the other pass.
    """
    variable = None if b"_" in name else "HTTP_" + name.decode("ascii").upper().replace("-", "_")
    if len(_variables) < KNOWN_NAMES:
        _variables[name] = variable
    return variable


def _announced_body(request: Request) -> bool:
    headers = request.requestHeaders
    return headers.hasHeader(b"Content-Length") or headers.hasHeader(b"Transfer-Encoding")
