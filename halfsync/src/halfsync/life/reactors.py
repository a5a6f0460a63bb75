"""Which reactor the process runs on: `--service.reactor`, whoever imports the reactor first.

The reactor is installed by its first import, and klein, like much code of users, imports it with itself:
before `main` has read a flag.
So the first import, wherever it happens, is made to ask for the flag.

Its seconds are those of the monotonic clock, from the first timer on:
Twisted counts in `time.time()`, and a clock that is set back by an hour stalls every timer for an hour.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from twisted.internet import default

from halfsync import flag, flags
from halfsync.flags import types as flagtypes
from halfsync.life.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Callable


@flags.declare(flag.namespace("service"))
class FLAGS:
    """The process."""

    reactor = flagtypes.Choice("The event loop underneath.", default="epoll", choices=("epoll", "asyncio"))


def arrange(package: str) -> None:
    """Have the first import of `twisted.internet.reactor` install the one that the flag names.

    Twisted's own place for this is `twisted.internet.default.install`, which that import calls.
    Nothing happens to a reactor that is installed already, as under a test runner.
    """

    def install() -> None:
        _INSTALL.get(flags.chosen(package, "service.reactor") or "epoll", _install_epoll)()

    default.install = install


def install() -> Any:
    """Return the reactor that `--service.reactor` names, installed.

    :raises StartError: when another one has been installed before.
    """
    from twisted.internet import reactor  # noqa: PLC0415  the import is the installation

    kind = "asyncio" if hasattr(reactor, "_asyncioEventloop") else "epoll"
    if kind != FLAGS.reactor:
        raise StartError(f"--service.reactor: '{FLAGS.reactor}': this process already runs on {kind}")
    return reactor


_SECONDS: Any = staticmethod(time.monotonic)


def _install_epoll() -> None:
    from twisted.internet import epollreactor  # noqa: PLC0415  only one of the two is ever needed

    epollreactor.EPollReactor.seconds = _SECONDS
    epollreactor.install()


def _install_asyncio() -> None:
    from twisted.internet import asyncioreactor  # noqa: PLC0415  only one of the two is ever needed

    loop = asyncio.new_event_loop()
    # asyncio libraries called from the reactor's callbacks look for the loop of the thread.
    asyncio.set_event_loop(loop)
    asyncioreactor.AsyncioSelectorReactor.seconds = _SECONDS
    asyncioreactor.install(loop)


_INSTALL: dict[str, Callable[[], None]] = {"epoll": _install_epoll, "asyncio": _install_asyncio}
