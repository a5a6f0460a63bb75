"""A shop with four faults, each set off by a request: what `docs/drills.md` looks into."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING

from halfsync import About, Periodic, Tasks, arrange_reactor, get_logger, serve_wsgi

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from halfsync import Process

arrange_reactor("shop")

log = get_logger("shop")

ledger = threading.Lock()
stock = threading.Lock()
ledger_is_held = threading.Barrier(2)


def report() -> None:
    """Wait for an answer that never comes."""
    threading.Event().wait()


def book(first: threading.Lock, second: threading.Lock) -> None:
    """Take two locks, in an order that another thread has the other way round."""
    with first:
        ledger_is_held.wait()
        with second:
            pass


def rebuild_index() -> None:
    """Hold the reactor."""
    log.info("shop.rebuilding")
    time.sleep(60)


async def sweep() -> None:
    """Fail, as what it needs is not there."""
    raise ConnectionError("no route to the warehouse")


def app(environ: dict[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answer, or set off a fault."""
    match environ["PATH_INFO"]:
        case "/report":
            report()
        case "/buy":
            book(ledger, stock)
        case "/return":
            book(stock, ledger)
        case "/rebuild":
            from twisted.internet import reactor

            reactor.callFromThread(rebuild_index)  # type: ignore[attr-defined]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"a shop\n"]


def parts(process: Process) -> None:
    """Add a task that fails."""
    process.add(Tasks(Periodic("sweep", 3600, sweep, reactor=process.reactor)))


if __name__ == "__main__":
    sys.exit(serve_wsgi(app, About("shop", version="1.4"), parts=parts))
