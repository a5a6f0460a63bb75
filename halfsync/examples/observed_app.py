"""A Flask application that is watched: a metric of its own, a health check, errors reported as to Sentry.

pip install flask    # beside halfsync
python observed_app.py --web.listen=tcp:9000 --reports=http://127.0.0.1:9100 --disk=/var/lib/shop
"""

import shutil
import sys
import traceback
from typing import Any

from flask import Flask, got_request_exception, request
from prometheus_client import Counter

from halfsync import (
    About,
    Background,
    BackgroundFull,
    Periodic,
    Process,
    Tasks,
    flag,
    flags,
    get_logger,
    serve_wsgi,
)
from halfsync.client import CallError, DeadlineExceeded, HttpClient

log = get_logger(__name__)

app = Flask(__name__)

ORDERS = Counter("orders", "Orders taken.", ["kind"])  # in /metrics of the admin interface by itself


@flags.declare(flag.namespace(__name__), at_start=True)
class FLAGS:
    """Where errors go, and what is checked."""

    reports = flag.String("URL that takes errors, as JSON to /errors.", default="http://127.0.0.1:9100")
    disk = flag.String("A folder that must have room.", default="/")
    room = flags.Size("Bytes that must be free there.", default=1024 * 1024)


@app.post("/orders/<kind>")
def order(kind: str) -> str:
    """Take an order; there is no tea."""
    ORDERS.labels(kind).inc()
    if kind == "tea":
        raise LookupError("there is no tea")
    return "ordered\n"


class Reporter:
    """Tells another service of what handlers raise, when it can: never at the cost of the request."""

    def parts(self, process: Process) -> None:
        """Name the parts of this service's own."""
        self.peer = process.add(HttpClient("reports", FLAGS.reports, reactor=process.reactor))
        self.background = process.add(Background(reactor=process.reactor, threads=1))
        process.add(Tasks(Periodic("disk", 5, check_disk, critical=True, timeout=2, reactor=process.reactor)))
        got_request_exception.connect(self.heard, app)

    def heard(self, _sender: Flask, exception: BaseException, **_more: Any) -> None:
        """Have it sent once there is time; Flask calls this in the request's thread."""
        told = {
            "error": repr(exception),
            "stack": traceback.format_exception(exception),
            "path": request.path,
            "request_id": request.headers["X-Request-Id"],  # also in the log, and in the response
        }
        try:
            self.background.start_soon(self.send, told)
        except BackgroundFull:
            log.warning("report.dropped", error=told["error"])

    def send(self, told: dict[str, Any]) -> None:
        """Send a report; without anybody there, it is in the log all the same."""
        try:
            self.peer.blocking.post("/errors", json=told, deadline=5)
        except (CallError, DeadlineExceeded) as error:
            log.warning("report.failed", error=str(error))


def check_disk() -> None:
    """Raise while there is no room; the process is not ready then, and /health/ready says why."""
    free = shutil.disk_usage(FLAGS.disk).free
    if free < FLAGS.room:
        raise OSError(f"{free} bytes are free on {FLAGS.disk}, fewer than {FLAGS.room}")


if __name__ == "__main__":
    sys.exit(serve_wsgi(app, About("observed-app", version="1.0"), parts=Reporter().parts))
