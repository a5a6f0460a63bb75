"""The environ of a request: PEP 3333, on the variables of CGI/1.1 (RFC 3875)."""

from __future__ import annotations

from io import SEEK_END
from threading import get_ident
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from twisted.internet.address import IPv4Address, IPv6Address

from halfsync.endpoints.addresses import bracketed
from halfsync.http.wsgi.trailers import by_name, none_taken
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from halfsync.endpoints.addresses import Address
    from halfsync.http.stream import RequestHead, Stream

log = get_logger(__name__)


class Errors:
    """`wsgi.errors`: each line that the application writes becomes an event of the log.

    `print(a, b, file=errors)` writes in fragments, so what a thread writes is kept until its line ends,
    or it flushes.
    """

    def __init__(self) -> None:
        self._begun: dict[int, str] = {}
        """Lines that have not ended, by thread."""

    def write(self, text: str) -> int:
        """Take a text; log the lines that it ends."""
        thread = get_ident()
        *lines, rest = (self._begun.pop(thread, "") + text).split("\n")
        if rest:
            self._begun[thread] = rest
        for line in lines:
            if line:
                log.error("wsgi.errors", text=line)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Take several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Log what has not ended in a line break."""
        if self._begun and get_ident() in self._begun:
            self.write("\n")


class FileWrapper:
    """`wsgi.file_wrapper`: a file as an iterable of blocks.

    The gateway reads the file itself, in blocks of its own size, when it gets this back unwrapped.
    A file that can seek can do so here, too: Werkzeug sends a range without reading what is before it.
    """

    def __init__(self, filelike: Any, block_size: int = 8192) -> None:
        self.filelike = filelike
        self._block_size = block_size
        for name in ("seek", "tell"):
            if hasattr(filelike, name):
                setattr(self, name, getattr(filelike, name))

    def __iter__(self) -> FileWrapper:
        return self

    def __next__(self) -> bytes:
        block: bytes = self.filelike.read(self._block_size)
        if not block:
            raise StopIteration
        return block

    def seekable(self) -> bool:
        """Say whether the file can seek."""
        seekable = getattr(self.filelike, "seekable", None)
        return bool(seekable()) if seekable is not None else hasattr(self.filelike, "seek")

    def close(self) -> None:
        """Close the file, if it can be."""
        close = getattr(self.filelike, "close", None)
        if close is not None:
            close()


def blocks_of(file: Any, size: int) -> Iterator[bytes]:
    """Read a file block by block; whatever is no data is the end: `b""`, `""` and None."""
    while block := file.read(size):
        yield block


errors = Errors()

_ALWAYS: dict[str, Any] = {
    "GATEWAY_INTERFACE": "CGI/1.1",
    "SCRIPT_NAME": "",
    "REMOTE_ADDR": "",
    "wsgi.version": (1, 0),
    "wsgi.errors": errors,
    "wsgi.multithread": True,
    # Several processes may share an inherited socket, but this one cannot know.
    "wsgi.multiprocess": False,
    "wsgi.run_once": False,
    "wsgi.file_wrapper": FileWrapper,
    # The input ends where the body ends: reading without a length is safe.
    "wsgi.input_terminated": True,
    "halfsync.trailers": MappingProxyType({}),
    "halfsync.send_trailers": none_taken,
}


def template(local: Address, *, secure: bool) -> dict[str, Any]:
    """Return what all requests have in common that arrive at an address of ours."""
    environ = _ALWAYS.copy()
    environ["wsgi.url_scheme"] = "https" if secure else "http"
    if isinstance(local, (IPv4Address, IPv6Address)):
        # In brackets, as in Host (RFC 3875 section 4.1.14).
        environ["SERVER_NAME"] = bracketed(local.host)
        environ["SERVER_PORT"] = str(local.port)
    else:
        environ["SERVER_NAME"] = "localhost"
        environ["SERVER_PORT"] = "443" if secure else "80"
    return environ


def complete(
    environ: dict[str, Any], stream: Stream, head: RequestHead, body: IO[bytes], *, depth: int = 0
) -> None:
    """Describe a request whose body has arrived in whole; for any thread.

    :param environ: a copy of the template.
    :param depth: how many segments of the path are the application's own place: SCRIPT_NAME.
    """
    environ.update(head.variables)
    target = head.target
    path, _, query = target.partition("?")
    environ["REQUEST_METHOD"] = head.method
    environ["REQUEST_URI"] = target
    if depth:
        environ["SCRIPT_NAME"], environ["PATH_INFO"] = _split(path, depth)
    else:
        # PEP 3333: decoded from percents, then every byte is a character.
        environ["PATH_INFO"] = unquote_to_bytes(path).decode("latin-1") if "%" in path else path
    if stream.prefix:
        environ["SCRIPT_NAME"] = unquote_to_bytes(stream.prefix).decode("latin-1") + environ["SCRIPT_NAME"]
    environ["QUERY_STRING"] = query
    environ["SERVER_PROTOCOL"] = head.version
    environ["HTTP_X_REQUEST_ID"] = stream.request_id
    client = stream.client
    if isinstance(client, (IPv4Address, IPv6Address)):
        environ["REMOTE_ADDR"] = client.host
        if client.port:
            # A trusted proxy seldom tells it.
            environ["REMOTE_PORT"] = str(client.port)
    environ["wsgi.input"] = body
    if head.length != 0 or "content-length" in head.special:
        environ["CONTENT_LENGTH"] = str(body.seek(0, SEEK_END))
        body.seek(0)
        if head.trailers:
            environ["halfsync.trailers"] = by_name(head.trailers)


def _split(path: str, depth: int) -> tuple[str, str]:
    """Return SCRIPT_NAME and PATH_INFO of a gateway that is `depth` segments below the root."""
    segments = path.split("/", depth + 1)
    decoded = [unquote_to_bytes(segment).decode("latin-1") for segment in segments]
    rest = decoded[depth + 1 :]
    return "/".join(decoded[: depth + 1]), f"/{rest[0]}" if rest else ""
