"""A klein application that adopts halfsync: it runs in the reactor, and may not block.

pip install klein    # beside halfsync
python klein_app.py --web.listen=tcp:9000 --service.reactor=asyncio
"""

import sys

from halfsync import About, arrange_reactor, flag, flags, serve_resource

arrange_reactor("klein_app")  # ahead of klein, which imports the reactor: --service.reactor chooses it

from klein import Klein  # noqa: E402
from twisted.web.server import Request  # noqa: E402

app = Klein()


@flags.declare(flag.namespace(__name__))
class FLAGS:
    """What the front page says."""

    greeting = flag.String("The word of welcome.", default="Hello")


@app.route("/")
async def front(request: Request) -> bytes:
    """Greet the client."""
    request.setHeader(b"content-type", b"text/plain; charset=utf-8")
    return f"{FLAGS.greeting} from klein\n".encode()


if __name__ == "__main__":
    sys.exit(serve_resource(app, About("klein-app", version="1.0")))
