"""What the service answers over RPC: the methods of hello.thrift, run by worker threads.

Ordinary blocking code is at home here; an `async` method runs in the event loop, and must not block.
"""

from __future__ import annotations

from halfsync import get_logger
from halfsync.thrift import Service, current_call

from .gen.hello import Hello
from .gen.hello.ttypes import InvalidName

log = get_logger(__name__)


class Handler(Hello.Iface):
    """Answers `service Hello`; its types are checked against hello.thrift."""

    def hello(self, name: str) -> str:
        """Greet `name`.

        :raises InvalidName: when there is none; the client gets what hello.thrift declares as it is.
        """
        if not name:
            raise InvalidName("a name is wanted")
        log.debug("greeted", name=name, peer=current_call().peer)
        return f"Hello, {name}!"


def make_service() -> Service:
    """Return the service; flags have their values by now."""
    return Service(Hello, Handler())
