"""What the service answers over HTTP: a klein application, run in the event loop.

Nothing here may block: await what takes time, and hand blocking calls to a thread.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from halfsync import flag, flags, get_logger

if TYPE_CHECKING:
    from klein import Klein
    from twisted.web.server import Request

log = get_logger(__name__)


@flags.declare(flag.namespace(__name__))
class FLAGS:
    """What the front page says."""

    greeting = flag.String("The word of welcome.", default="Hello")


def make_app() -> Klein:
    """Return the application; flags have their values by now."""
    # Here, and not above: --help, --version and the health checks' --probe need not wait for it.
    from klein import Klein  # noqa: PLC0415

    app = Klein()

    @app.route("/", methods=["GET"])
    def front(request: Request) -> bytes:
        """Greet the client: `GET /?name=Ada`."""
        name = (request.args or {}).get(b"name", [b"world"])[0].decode(errors="replace")
        log.debug("greeted", name=name)
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        return f"{FLAGS.greeting}, {name}!\n".encode()

    @app.route("/time", methods=["GET"])
    async def now(request: Request) -> bytes:
        """Tell the time, in seconds since the epoch."""
        request.setHeader(b"content-type", b"application/json")
        return json.dumps({"time": time.time()}).encode()

    return app
