"""A proxy of klein: a call is handed on as it comes, in memory that does not grow with the body.

pip install klein    # beside halfsync
python proxy_app.py --web.listen=tcp:9000 --upstream=http://127.0.0.1:8000
"""

import sys

from halfsync import About, Process, arrange_reactor, flag, flags, serve_resource

arrange_reactor("proxy_app")  # ahead of klein, which imports the reactor

from klein import Klein  # noqa: E402
from twisted.web.server import Request  # noqa: E402

from halfsync.client import CallError, DeadlineExceeded, HttpClient, relay  # noqa: E402


@flags.declare(flag.namespace(__name__))
class FLAGS:
    """Where calls go."""

    upstream = flag.String("Scheme, host and port.", default="http://127.0.0.1:8000")


class Proxy:
    """Calls to one upstream."""

    app = Klein()

    def __init__(self) -> None:
        self.upstream: HttpClient

    def parts(self, process: Process) -> None:
        """Name the parts of this service's own."""
        self.upstream = process.add(HttpClient("upstream", FLAGS.upstream, reactor=process.reactor))

    @app.route("/", branch=True)
    async def everything(self, request: Request) -> bytes | None:
        """Hand a request on, and its answer back."""
        body = request.content.read() if request.content else b""
        headers = {"Accept": request.getHeader("accept") or "*/*"}
        if (wanted := request.getHeader("range")) is not None:
            headers["Range"] = wanted
        try:
            response = await self.upstream.open(
                request.method.decode(), request.uri.decode(), headers=headers, data=body or None
            )
        except DeadlineExceeded:
            request.setResponseCode(504)
            return b"the upstream took too long\n"
        except CallError as error:
            request.setResponseCode(502)
            return f"the upstream gave no answer: {error}\n".encode()
        await relay(response, request)
        return None


if __name__ == "__main__":
    proxy = Proxy()
    sys.exit(serve_resource(proxy.app, About("proxy-app", version="1.0"), parts=proxy.parts))
