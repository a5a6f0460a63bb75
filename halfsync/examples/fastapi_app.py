"""A FastAPI application, through a2wsgi.

pip install fastapi a2wsgi    # beside halfsync
python fastapi_app.py --web.listen=tcp:9000

What this gives up: each request has a thread of the pool and an event loop of a2wsgi's beside it,
so `async def` handlers are no cheaper than plain ones, and there are no websockets and no lifespan events.
"""

import sys
from collections.abc import Callable
from typing import Any

from a2wsgi import ASGIMiddleware
from fastapi import FastAPI

from halfsync import About, flag, flags, serve_wsgi

app = FastAPI()


@flags.declare(flag.namespace(__name__))
class FLAGS:
    """What the front page says."""

    greeting = flag.String("The word of welcome.", default="Hello")


@app.get("/")
def front(name: str = "FastAPI") -> dict[str, str]:
    """Greet the client."""
    return {"message": f"{FLAGS.greeting} from {name}"}


def make_app() -> Callable[..., Any]:
    """Wrap the application once the process runs: a2wsgi starts its thread at once."""
    asgi: Any = app  # a2wsgi has types of its own for ASGI, and they do not take Starlette's
    return ASGIMiddleware(asgi)


if __name__ == "__main__":
    sys.exit(serve_wsgi(make_app, About("fastapi-app", version="1.0"), factory=True))
