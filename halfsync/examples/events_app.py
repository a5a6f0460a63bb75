"""Server-sent events and static files beside a Flask application: every page open shows a new price at once.

pip install flask    # beside halfsync
python events_app.py --web.listen=tcp:9000     # then open http://127.0.0.1:9000/, and:
curl -d 42.17 http://127.0.0.1:9000/prices/tea

Prices are sent to all who listen to this process. Behind several, each must hear of a price itself:
from Redis or PostgreSQL (LISTEN), by a part like the consumer of worker_app.py.
"""

import sys
from pathlib import Path
from typing import Any

from flask import Flask, request

from halfsync import About, EventStream, Process, StaticFiles, flag, flags, serve_wsgi

PAGE = """<!doctype html><title>Prices</title><link rel=stylesheet href=/static/prices.css><dl></dl>
<script>
const prices = {};
new EventSource("/events").addEventListener("price", event => {
  const [product, price] = JSON.parse(event.data);
  prices[product] = price;
  document.querySelector("dl").textContent = JSON.stringify(prices);
});
</script>
"""


@flags.declare(flag.namespace(__name__), at_start=True)
class FLAGS:
    """Where the style sheets are."""

    static = flags.Path("The folder of static files.", default=str(Path(__file__).parent))


class Prices:
    """The application, and those who listen to it."""

    def __init__(self) -> None:
        self.events: EventStream
        self.app = Flask(__name__)
        self.app.get("/")(self.front)
        self.app.post("/prices/<product>")(self.change)

    def beside(self, process: Process) -> dict[str, Any]:
        """Name what answers beside the application."""
        self.events = process.add(EventStream("prices", reactor=process.reactor))
        return {"/events": self.events.resource, "/static": StaticFiles(FLAGS.static, max_age=3600)}

    def front(self) -> str:
        """Show a page that listens."""
        return PAGE

    def change(self, product: str) -> tuple[str, int]:
        """Tell everybody a new price; this runs in a worker thread."""
        price = float(request.get_data(as_text=True))
        self.events.publish_from_thread(self.app.json.dumps([product, price]), event="price")
        return "", 204


if __name__ == "__main__":
    prices = Prices()
    sys.exit(serve_wsgi(prices.app, About("events-app", version="1.0"), beside=prices.beside))
