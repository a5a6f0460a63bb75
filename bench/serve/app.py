"""The one application that every server runs: a WSGI callable that does a different thing by path."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from flask import Flask, jsonify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Answer = Callable[[dict[str, Any], Any], Iterable[bytes]]

MEGABYTE = 1_000_000
BLOCK = 65_536

flask_app = Flask(__name__)


@flask_app.get("/flask")
def greet() -> Any:
    """Answer with a small JSON object, as an API does."""
    return jsonify(message="Hello, world!", numbers=[1, 2, 3])


def _plain(start_response: Any, length: int) -> None:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(length))])


def hello(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer with 13 bytes."""
    del environ
    _plain(start_response, 13)
    return [b"Hello, world!"]


def blocking(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Wait 20 ms, as for a database: 16 threads can do 800 of these a second."""
    time.sleep(0.02)
    return hello(environ, start_response)


def wait(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Wait as long as the query says: `?ms=20`; with `&tail=1` one request in twenty takes ten times that."""
    asked = parse_qs(environ["QUERY_STRING"])
    seconds = float(asked["ms"][0]) / 1000
    if "tail" in asked:
        # The mean stays what it is without a tail.
        seconds *= (10 if random.random() < 0.05 else 1) / 1.45  # noqa: S311  no secret
    time.sleep(seconds)
    return hello(environ, start_response)


def compute(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Take 5 ms of a processor, as code does that holds the interpreter's lock."""
    end = time.thread_time() + 0.005
    while time.thread_time() < end:
        sum(range(200))
    return hello(environ, start_response)


BIG = b"x" * MEGABYTE


def big(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer with `?mb=` megabytes in one piece."""
    size = _megabytes(environ)
    _plain(start_response, size * MEGABYTE)
    return [BIG if size == 1 else BIG * size]


def stream(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer with `?mb=` megabytes from a generator."""
    length = _megabytes(environ) * MEGABYTE
    _plain(start_response, length)
    return _blocks(length)


def _blocks(length: int) -> Iterator[bytes]:
    # Each piece is new, as an application's are: one that a server holds back costs what it would there.
    for start in range(0, length, BLOCK):
        yield (b"%015d\n" % start * (BLOCK // 16))[: length - start]


def upload(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Read the body, and say how long it was."""
    read = environ["wsgi.input"].read
    left = int(environ["CONTENT_LENGTH"])
    while left > 0 and (block := read(min(left, 65_536))):
        left -= len(block)
    if left:
        start_response("400 Bad Request", [("Content-Type", "text/plain"), ("Content-Length", "0")])
        return []
    return hello(environ, start_response)


def _megabytes(environ: dict[str, Any]) -> int:
    return int(parse_qs(environ["QUERY_STRING"]).get("mb", ["1"])[0])


ANSWERS: dict[str, Answer] = {
    "/hello": hello,
    "/blocking": blocking,
    "/big": big,
    "/stream": stream,
    "/upload": upload,
    "/flask": flask_app,
    "/wait": wait,
    "/compute": compute,
}


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer by path."""
    return ANSWERS[environ["PATH_INFO"]](environ, start_response)
