"""A second web listener: an API for our own other services, on a port that the world does not reach.

pip install flask    # beside halfsync
python internal_app.py --web.listen=tcp:9000 --internal.listen=tcp:9001:interface=10.0.0.5

Both listeners are drained, bounded and counted, each by itself; metrics and log tell them apart by name.
Each has its own threads, so that a crowd of users keeps no other service waiting.
"""

import sys

from flask import Flask, Response, jsonify

from halfsync import (
    About,
    Admin,
    Endpoints,
    Gateway,
    Manhole,
    Process,
    WebListener,
    WorkerPool,
    flag,
    flags,
    run,
    workers_from_flags,
)


@flags.declare(flag.namespace("internal"), at_start=True)
class FLAGS:
    """The API for our own services."""

    listen = Endpoints("Where it answers.", default="tcp:9001:interface=127.0.0.1")
    threads = flags.Count("Threads of its own.", default=4)


public = Flask("public")
internal = Flask("internal")


@public.get("/")
def front() -> str:
    """Greet the world."""
    return "Hello, world!\n"


@internal.get("/stock/<product>")
def stock(product: str) -> Response:
    """Tell another service what there is."""
    return jsonify(product=product, stock=7)


def parts(process: Process) -> None:
    """Name the parts in the order in which they start."""
    process.add(Admin.from_flags(process))
    process.add(Manhole.from_flags(process))
    workers = process.add(workers_from_flags(process.reactor))
    process.add(WebListener.from_flags(Gateway(public, workers), process.reactor))
    own = process.add(
        WorkerPool("internal-workers", threads=FLAGS.threads, queue=64, reactor=process.reactor)
    )
    process.add(
        WebListener.another(
            "internal",
            Gateway(internal, own),
            flag="internal.listen",
            endpoints=FLAGS.listen,
            reactor=process.reactor,
        )
    )


if __name__ == "__main__":
    sys.exit(run(About("internal-app", version="1.0"), parts))
