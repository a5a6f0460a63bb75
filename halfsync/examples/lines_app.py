"""A protocol of lines beside the web: a listener of its own, drained like the others.

python lines_app.py --lines.listen=tcp:7000        then: nc 127.0.0.1 7000
"""

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from halfsync import About, Admin, Endpoints, Listener, Manhole, Process, flag, flags, get_logger, run

log = get_logger(__name__)


@flags.declare(flag.namespace("lines"))
class FLAGS:
    """The protocol of lines."""

    listen = Endpoints("Where it answers.", default="tcp:7000:interface=127.0.0.1")
    idle_timeout = flags.Seconds("Time that a client may say nothing.", default=60)


class Lines(LineOnlyReceiver):
    """Answers each line with its letters turned round."""

    delimiter = b"\n"
    MAX_LENGTH = 1024
    transport: Any  # what Twisted declares, ITransport, lacks abortConnection

    def __init__(self, service: "LinesFactory") -> None:
        self.service = service
        self._deadline = service.reactor.callLater(FLAGS.idle_timeout, self._cut)

    def connectionMade(self) -> None:
        """Count the client."""
        self.service.clients.add(self)

    def lineReceived(self, line: bytes) -> None:
        """Answer a line."""
        self._deadline.reset(FLAGS.idle_timeout)
        self.sendLine(line.rstrip(b"\r")[::-1])
        if self.service.draining is not None:
            self.leave()

    def leave(self) -> None:
        """Say good-bye: what is written is still sent."""
        self.transport.loseConnection()

    def _cut(self) -> None:
        log.info("lines.idle_client_cut")
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget the client."""
        del reason
        if self._deadline.active():
            self._deadline.cancel()
        self.service.clients.discard(self)
        self.service.check()


class LinesFactory(Factory):
    """The clients of the protocol; `drain` and `abort` are what a Listener asks of its factory."""

    def __init__(self, process: Process) -> None:
        self.reactor = process.reactor
        self.clients: set[Lines] = set()
        self.draining: Deferred[None] | None = None

    def buildProtocol(self, addr: IAddress | None) -> Lines:
        """Make the protocol of a connection."""
        del addr
        return Lines(self)

    async def drain(self) -> None:
        """Let every client go: between two lines nothing is in flight."""
        self.draining = Deferred()
        for client in list(self.clients):
            client.leave()
        self.check()
        await self.draining

    def check(self) -> None:
        """End the drain with the last client."""
        if self.draining is not None and not self.clients and not self.draining.called:
            self.draining.callback(None)

    def abort(self) -> None:
        """Cut those that are left."""
        for client in list(self.clients):
            client.transport.abortConnection()


def parts(process: Process) -> None:
    """Name the parts in the order in which they start."""
    process.add(Admin.from_flags(process))
    process.add(Manhole.from_flags(process))
    factory = LinesFactory(process)
    process.add(
        Listener(
            "lines", flag="lines.listen", endpoints=FLAGS.listen, factory=factory, reactor=process.reactor
        )
    )


if __name__ == "__main__":
    sys.exit(run(About("lines-app", version="1.0"), parts))
