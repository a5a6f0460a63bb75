{% if cookiecutter.web == "wsgi" -%}
"""What the service answers over HTTP: a WSGI application, run by worker threads.

Ordinary blocking code is at home here; the event loop reads and writes for it.
"""

from __future__ import annotations

import time

from flask import Flask, Response, jsonify, request
from oscar import flag

from halfsync import flags
from halfsync.logs import get_logger

log = get_logger(__name__)


@flags.declare(flag.namespace(__name__))
class FLAGS:
    """What the front page says."""

    greeting = flag.String("The word of welcome.", default="Hello")


app = Flask(__name__)


@app.get("/")
def front() -> Response:
    """Greet whoever asks: `GET /?name=Ada`."""
    name = request.args.get("name", "world")
    log.debug("greeted", name=name)
    return Response(f"{FLAGS.greeting}, {name}!\n", mimetype="text/plain")


@app.get("/time")
def now() -> Response:
    """Tell the time, in seconds since the epoch."""
    return jsonify(time=time.time())
{%- else -%}
"""What the service answers over HTTP: a klein application, run in the event loop.

Nothing here may block: await what takes time, and hand blocking calls to a thread.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from klein import Klein
from oscar import flag

from halfsync import flags
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from twisted.web.iweb import IRequest

log = get_logger(__name__)


@flags.declare(flag.namespace(__name__))
class FLAGS:
    """What the front page says."""

    greeting = flag.String("The word of welcome.", default="Hello")


app = Klein()


@app.route("/", methods=["GET"])
def front(request: IRequest) -> bytes:
    """Greet whoever asks: `GET /?name=Ada`."""
    name = request.args.get(b"name", [b"world"])[0].decode(errors="replace")
    log.debug("greeted", name=name)
    request.setHeader(b"content-type", b"text/plain; charset=utf-8")
    return f"{FLAGS.greeting}, {name}!\n".encode()


@app.route("/time", methods=["GET"])
async def now(request: IRequest) -> bytes:
    """Tell the time, in seconds since the epoch."""
    request.setHeader(b"content-type", b"application/json")
    return json.dumps({"time": time.time()}).encode()
{%- endif %}
