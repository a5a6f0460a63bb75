"""The application that is abused: small answers, large ones, slow ones, and uploads.

It is the `web.py` of a generated service, or served as it is (`serve.py`).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from wsgiref.types import WSGIApplication

BLOCK = 65_536
LARGE = 20_000_000
PAGE = 60_000


def make_app() -> WSGIApplication:
    """Return the application."""
    return application


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer by path."""
    path = environ["PATH_INFO"]
    if environ["REQUEST_METHOD"] == "POST":
        while environ["wsgi.input"].read(BLOCK):
            pass
    if path == "/wait":
        # An answer that takes its thread for as long.
        time.sleep(0.05)
    start_response("200 OK", [("Content-Type", "text/plain")])
    if path == "/large":
        return _blocks()
    # Each is new, as an application's are.
    return [b"x" * PAGE if path == "/page" else b"Hello, world!"]


def _blocks() -> Iterator[bytes]:
    for _ in range(0, LARGE, BLOCK):
        yield b"x" * BLOCK
