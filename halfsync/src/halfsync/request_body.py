"""Bodies of requests as clients send them: forms, files, JSON, pieces; and cookies between two requests."""

from __future__ import annotations

import json as json_module
from email.utils import parsedate_to_datetime
from http.cookies import CookieError, SimpleCookie
from secrets import token_hex
from time import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    File = tuple[str, bytes] | tuple[str, bytes, str]

FORM = "application/x-www-form-urlencoded"


def encode(
    data: bytes | Mapping[str, str] | Iterable[bytes] | None,
    json: Any,
    files: Mapping[str, File] | None,
) -> tuple[bytes, dict[str, str]]:
    """Return a body as it goes over the wire, and the headers that describe it.

    :param data: bytes; a mapping, which is a form; or pieces, which are sent chunked.
    :param json: what is sent as JSON instead.
    :param files: name, content and perhaps type of each, by the field of a form that `data` may add to.
    """
    if json is not None:
        return _measured(json_module.dumps(json).encode(), "application/json")
    if files is not None:
        fields = data if isinstance(data, dict) else {}
        return _multipart(fields, files)
    if data is None:
        return b"", {}
    if isinstance(data, bytes):
        return _measured(data, None)
    if hasattr(data, "items"):
        return _measured(urlencode(dict(data.items())).encode(), FORM)
    chunks = [b"%x\r\n%b\r\n" % (len(each), each) for each in data if each]
    return b"".join([*chunks, b"0\r\n\r\n"]), {"Transfer-Encoding": "chunked"}


def _measured(body: bytes, kind: str | None) -> tuple[bytes, dict[str, str]]:
    headers = {} if kind is None else {"Content-Type": kind}
    return body, {**headers, "Content-Length": str(len(body))}


def _multipart(fields: Mapping[str, str], files: Mapping[str, File]) -> tuple[bytes, dict[str, str]]:
    boundary = token_hex(16)
    pieces = [
        _part(boundary, f'form-data; name="{_quoted(name)}"', None, value.encode())
        for name, value in fields.items()
    ]
    for name, (filename, content, *kind) in files.items():
        told = f'form-data; name="{_quoted(name)}"; filename="{_quoted(filename)}"'
        pieces.append(_part(boundary, told, kind[0] if kind else "application/octet-stream", content))
    body = b"".join([*pieces, f"--{boundary}--\r\n".encode()])
    return _measured(body, f"multipart/form-data; boundary={boundary}")


def _part(boundary: str, told: str, kind: str | None, content: bytes) -> bytes:
    more = "" if kind is None else f"Content-Type: {kind}\r\n"
    return f"--{boundary}\r\nContent-Disposition: {told}\r\n{more}\r\n".encode() + content + b"\r\n"


def _quoted(name: str) -> str:
    # As browsers do it (WHATWG HTML, multipart form data).
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def keep_cookies(cookies: dict[str, str], headers: Iterable[str]) -> None:
    """Take what `Set-Cookie` headers say into account; domain, path and `Secure` are not looked at."""
    for header in headers:
        parsed: SimpleCookie = SimpleCookie()
        try:
            parsed.load(header)
        except CookieError:
            continue
        for name, morsel in parsed.items():
            if _over(str(morsel["max-age"]), str(morsel["expires"])):
                cookies.pop(name, None)
            else:
                cookies[name] = morsel.coded_value


def _over(max_age: str, expires: str) -> bool:
    if max_age:
        return max_age.lstrip("-").isdigit() and int(max_age) <= 0
    try:
        return bool(expires) and parsedate_to_datetime(expires).timestamp() <= time()
    except ValueError:
        return False
