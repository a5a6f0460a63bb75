"""The names of Twisted that are not public and that the library uses nevertheless, each with its reason.

No other module may touch a private name of Twisted (SLF001 stands guard).
They were tested with Twisted 26.10; `tests/test_private_names.py` fails when one of them changes its meaning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from twisted.plugins.twisted_core import systemdEndpointParser

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.abstract import FileDescriptor
    from twisted.internet.protocol import Factory
    from twisted.logger import Logger
    from twisted.web.client import HTTPConnectionPool

    T = TypeVar("T")


def logs_to(logger: Logger) -> Callable[[type[T]], type[T]]:
    """Return a decorator of a class that extends one of conch's: it logs by another logger.

    Each class of conch has a logger of its own as `_log`, and at level info it is told every step.
    """

    def decorate(each: type[T]) -> type[T]:
        each._log = logger  # type: ignore[attr-defined]  # noqa: SLF001  see above
        return each

    return decorate


def delivers(each: type[T]) -> type[T]:
    """Decorate a `HistoricRecvLine` whose method `deliver` puts a line of the history into the editor.

    conch's own `_deliverBuffer` takes a line apart into bytes; nothing public is called instead.
    """
    each._deliverBuffer = each.deliver  # type: ignore[attr-defined]  # noqa: SLF001  see above
    return each


def connects_by(pool: HTTPConnectionPool, factory: Callable[[Any, str], Factory]) -> None:
    """Have a pool of the HTTP client make its connections by a factory of ours.

    Nothing public says by which protocol: a pool makes its `_factory` with what hears of a free connection.
    """
    inside: Any = pool
    inside._factory = factory  # noqa: SLF001  see above


def waiting(transport: FileDescriptor) -> int:
    """Return how many bytes wait in a transport's memory for the peer: in its buffer, and not yet joined.

    Nothing public tells: `write` appends to a list, which `doWrite` joins to the buffer.
    """
    inside: Any = transport
    count: int = len(inside.dataBuffer) - inside.offset + inside._tempDataLen  # noqa: SLF001  see above
    return count


def systemd_sockets() -> list[tuple[int, str]]:
    """Return descriptor and name of each socket that systemd handed over, in its order.

    Twisted takes LISTEN_FDS out of the environment when it is imported, so only its parser knows.
    What it tells publicly lacks all but one of the sockets that have one name.
    """
    known = systemdEndpointParser._sddaemon  # noqa: SLF001  see above
    return list(zip(known.inheritedDescriptors(), known._names, strict=True))  # noqa: SLF001  see above
