"""What the service answers over HTTP: a WSGI application, run by worker threads.

Ordinary blocking code is at home here; the event loop reads and writes for it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from halfsync import flag, flags, get_logger

if TYPE_CHECKING:
    from flask import Flask, Response

log = get_logger(__name__)


@flags.declare(flag.namespace(__name__))
class FLAGS:
    """What the front page says."""

    greeting = flag.String("The word of welcome.", default="Hello")


def make_app() -> Flask:
    """Return the application; flags have their values by now."""
    # Here, and not above: --help, --version and the health checks' --probe need not wait for it.
    from flask import Flask, Response, jsonify, request  # noqa: PLC0415

    app = Flask(__name__)

    @app.get("/")
    def front() -> Response:
        """Greet the client: `GET /?name=Ada`."""
        name = request.args.get("name", "world")
        log.debug("greeted", name=name)
        return Response(f"{FLAGS.greeting}, {name}!\n", mimetype="text/plain")

    @app.get("/time")
    def now() -> Response:
        """Tell the time, in seconds since the epoch."""
        return jsonify(time=time.time())

    return app
