"""Files of a folder, or of the resources of a package, as a WSGI application (RFC 9110 sections 8.8, 13, 14).

    serve_wsgi(app, about, beside=lambda process: {"/static": StaticFiles(files("shop") / "static")})

Reading a file may wait for the disk, so it is a worker thread's affair, as any WSGI application is.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections import OrderedDict
from email.utils import formatdate, parsedate_to_datetime
from hashlib import blake2b
from mimetypes import guess_type
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast
from urllib.parse import quote

from halfsync.http.wsgi.file_part import FilePart
from halfsync.life.errors import UnusableError
from halfsync.path_walk import open_by_steps

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.resources.abc import Traversable
    from wsgiref.types import StartResponse, WSGIEnvironment

HASHED = 16 * 1024 * 1024
"""Bytes up to which an entity tag is made of a file's content; of a larger one, of its size and times."""

KNOWN = 4096
"""Files whose tag is remembered."""

EPOCH = 400_000_000
"""A file older than this (September 1982) is one of an archive that knows no times, as a pex is."""

VARIANTS = (("br", ".br"), ("zstd", ".zst"), ("gzip", ".gz"))
"""Encodings of files that lie beside the plain one, the best first, and how their names end."""

_RANGE = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))\Z")


class _Found(NamedTuple):
    file: BinaryIO
    size: int
    modified: float
    tag: str


class StaticFiles:
    """A WSGI application that answers GET and HEAD with files, and nothing that is not below its root.

    Names that begin with a dot, and links that lead elsewhere, are not there (404).
    A folder is its `index.html`. `app.js.br`, `.zst` or `.gz` beside `app.js` goes to clients that take it.
    """

    def __init__(self, root: str | Path | Traversable, *, max_age: int = 0) -> None:
        """Serve a folder: a path, or `importlib.resources.files("package") / "static"`.

        :param max_age: seconds for which clients need not ask again; 0: they ask each time, and get 304.
        :raises UnusableError: a `ValueError` and `StartError`, when there is no such folder.
        """
        self._root: Traversable = Path(root).resolve() if isinstance(root, (str, Path)) else root
        if not self._root.is_dir():
            raise UnusableError(f"{str(root)!r} is no folder to serve files from")
        self._cache_control = f"public, max-age={max_age}" if max_age else "no-cache"
        self._tags: OrderedDict[str, tuple[tuple[int, ...], str]] = OrderedDict()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        method = environ["REQUEST_METHOD"]
        if method not in {"GET", "HEAD"}:
            return _plain(start_response, "405 Method Not Allowed", [("Allow", "GET, HEAD")])
        names = _names(environ.get("PATH_INFO", ""))
        if names is None:
            return _plain(start_response, "404 Not Found")
        if names and names[-1] == "":
            names = [*names[:-1], "index.html"]
        elif not names or self._is_there([*names, "index.html"]):
            # A folder, as the place at which this is mounted is.
            place = quote((environ.get("SCRIPT_NAME", "") + environ["PATH_INFO"]).encode("latin-1"))
            return _plain(start_response, "301 Moved Permanently", [("Location", f"{place}/")])
        varies = False
        for encoding, ending in VARIANTS:
            other = self._open([*names[:-1], names[-1] + ending])
            if other is not None:
                varies = True
                if _takes(environ.get("HTTP_ACCEPT_ENCODING", ""), encoding):
                    return self._send(other, names[-1], encoding, environ, start_response)
                other.file.close()
        found = self._open(names)
        if found is None:
            return _plain(start_response, "404 Not Found")
        return self._send(found, names[-1], "identity" if varies else "", environ, start_response)

    def _send(
        self,
        found: _Found,
        name: str,
        encoding: str,
        environ: WSGIEnvironment,
        start_response: StartResponse,
    ) -> Iterable[bytes]:
        """Send a file, a part of it, or that the client has it.

        :param encoding: `identity` when there are others, empty when there are none.
        """
        headers = [("ETag", found.tag), ("Cache-Control", self._cache_control), ("Accept-Ranges", "bytes")]
        if found.modified > EPOCH:
            headers.append(("Last-Modified", formatdate(found.modified, usegmt=True)))
        if encoding:
            headers.append(("Vary", "Accept-Encoding"))
        if _is_another(environ, found):
            found.file.close()
            return _plain(start_response, "412 Precondition Failed")
        if _has_it(environ, found):
            found.file.close()
            start_response("304 Not Modified", headers)
            return []
        if encoding not in {"", "identity"}:
            headers.append(("Content-Encoding", encoding))
        headers += [("Content-Type", _type(name)), ("X-Content-Type-Options", "nosniff")]
        start, end, status = 0, found.size, "200 OK"
        asked = _asked(environ.get("HTTP_RANGE", "")) if _may_be_part(environ, found) else None
        if asked is not None:
            start, end = _bounds(asked, found.size)
            if start == end:
                found.file.close()
                return _plain(
                    start_response, "416 Range Not Satisfiable", [("Content-Range", f"bytes */{found.size}")]
                )
            headers.append(("Content-Range", f"bytes {start}-{end - 1}/{found.size}"))
            status = "206 Partial Content"
        start_response(status, [*headers, ("Content-Length", str(end - start))])
        if environ["REQUEST_METHOD"] == "HEAD":
            found.file.close()
            return []
        found.file.seek(start)
        wrapper = environ.get("wsgi.file_wrapper", _blocks)
        return cast("Iterable[bytes]", wrapper(FilePart(found.file, end - start), 64 * 1024))

    def _is_there(self, names: list[str]) -> bool:
        found = self._open(names)
        if found is None:
            return False
        found.file.close()
        return True

    def _open(self, names: list[str]) -> _Found | None:
        """Open a regular file below the root; None when there is no such, or it may not be read."""
        try:
            if isinstance(self._root, Path):
                return self._open_path(self._root.joinpath(*names))
            place = self._root.joinpath(*names)
            if not place.is_file():
                return None
            file = cast("BinaryIO", place.open("rb"))
            size = file.seek(0, os.SEEK_END)
            # What is in an archive does not change while the process runs.
            return _Found(file, size, 0, self._tag("/".join(names), (size,), file))
        except (OSError, ValueError):
            return None

    def _open_path(self, path: Path) -> _Found | None:
        root = cast("Path", self._root)
        real = path.resolve(strict=True)
        if not real.is_relative_to(root):
            return None
        # What has become a link since is not followed. A FIFO would be waited for.
        descriptor = open_by_steps(str(real), os.O_RDONLY | os.O_NONBLOCK, on_link=_refuse_link)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            # Before there is a file object: `fdopen` of a folder raises, and leaves the descriptor open.
            os.close(descriptor)
            return None
        file = os.fdopen(descriptor, "rb")
        state = (status.st_size, status.st_mtime_ns, status.st_ino)
        # The file stays open: a newer one in its place is another file.
        return _Found(file, status.st_size, status.st_mtime, self._tag(str(path), state, file))

    def _tag(self, name: str, state: tuple[int, ...], file: BinaryIO) -> str:
        """Return the entity tag of a file; a pex gives all files one time, so the content has to tell."""
        known = self._tags.get(name)
        if known is not None and known[0] == state:
            return known[1]
        digest = blake2b(digest_size=12)
        if state[0] <= HASHED:
            file.seek(0)
            digest.update(file.read())
        else:
            digest.update(repr(state).encode())
        tag = f'"{digest.hexdigest()}"'
        self._tags[name] = state, tag
        if len(self._tags) > KNOWN:
            self._tags.popitem(last=False)
        return tag


def _refuse_link(path: str, _folder: os.stat_result, _link: os.stat_result) -> None:
    raise OSError(errno.ELOOP, "a link where there was none", path)


def _blocks(file: FilePart, size: int) -> Iterable[bytes]:
    """Do what `wsgi.file_wrapper` does, where a server has none."""
    try:
        while data := file.read(size):
            yield data
    finally:
        file.close()


def _names(path: str) -> list[str] | None:
    """Return the segments of a path; None for what names no file."""
    try:
        names = path.encode("latin-1").decode("utf-8").split("/")[1:]
    except UnicodeError:
        return None
    for each in names:
        if each.startswith(".") or "\0" in each or "\\" in each:
            return None
    return None if "" in names[:-1] else names


def _plain(
    start_response: StartResponse, status: str, headers: Iterable[tuple[str, str]] = ()
) -> list[bytes]:
    body = status.partition(" ")[2].encode("ascii") + b"\n"
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), *headers])
    return [body]


def _type(name: str) -> str:
    kind, encoding = guess_type(name)
    if kind is None or encoding is not None:
        # `backup.tar.gz` is a file as it is, not one that a client is to unpack.
        return "application/octet-stream"
    text = kind.startswith("text/") or kind in {"application/json", "image/svg+xml"}
    return f"{kind}; charset=utf-8" if text else kind


def _takes(accepted: str, encoding: str) -> bool:
    """Say whether a client takes an encoding (RFC 9110 section 12.5.3)."""
    rest = False
    for each in accepted.lower().split(","):
        name, *parameters = [part.strip() for part in each.split(";")]
        refused = any(re.fullmatch(r"q\s*=\s*0(\.0{0,3})?", part) for part in parameters)
        if name == encoding:
            return not refused
        if name == "*":
            rest = not refused
    return rest


def _is_another(environ: WSGIEnvironment, found: _Found) -> bool:
    """Say whether the client wants a file only if it is one that this is not (RFC 9110 section 13.2.2)."""
    tags = environ.get("HTTP_IF_MATCH")
    if tags is not None:
        return not {"*", found.tag} & _tags(tags)
    since = _moment(environ.get("HTTP_IF_UNMODIFIED_SINCE", ""))
    return since is not None and found.modified > EPOCH and int(found.modified) > since


def _has_it(environ: WSGIEnvironment, found: _Found) -> bool:
    """Say whether the client has the file already (RFC 9110 section 13.2.2)."""
    tags = environ.get("HTTP_IF_NONE_MATCH")
    if tags is not None:
        return bool({"*", found.tag, f"W/{found.tag}"} & _tags(tags))
    since = _moment(environ.get("HTTP_IF_MODIFIED_SINCE", ""))
    return since is not None and found.modified > EPOCH and int(found.modified) <= since


def _tags(text: str) -> set[str]:
    return {each.strip() for each in text.split(",")}


def _may_be_part(environ: WSGIEnvironment, found: _Found) -> bool:
    """Say whether a range is of the file that the client has begun with (RFC 9110 section 13.1.5)."""
    condition = environ.get("HTTP_IF_RANGE")
    if condition is None or condition == found.tag:
        return True
    moment = _moment(condition)
    return moment is not None and found.modified > EPOCH and int(found.modified) == moment


def _moment(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def _asked(text: str) -> re.Match[str] | None:
    """Read a range; several at once, and what is none, are not heeded (RFC 9110 sections 14.1.1 and 14.2)."""
    asked = _RANGE.match(text)
    if asked is None or (asked[2] and int(asked[2]) < int(asked[1])):
        return None
    return asked


def _bounds(asked: re.Match[str], size: int) -> tuple[int, int]:
    """Return where a part begins and ends; the same where there is nothing of it."""
    first, last, suffix = asked.groups()
    if suffix is not None:
        return max(0, size - int(suffix)), size
    start = min(size, int(first))
    return start, min(size, int(last) + 1) if last else size
