"""Which reactor the process runs on: `--service.reactor`, whichever module imports the reactor first.

The reactor is installed by its first import, and klein, like much code of users, imports it with itself:
before `main` has read a flag.
`arrange_reactor`, called ahead of such an import, makes the first one ask for the flag.

Its seconds are those of the monotonic clock, from the first timer on:
Twisted counts in `time.time()`, and a clock that is set back by an hour stalls every timer for an hour.
"""

from __future__ import annotations

import sys
import time
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Any

from halfsync import flag, flags
from halfsync.life.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType


@flags.declare(flag.namespace("service"), at_start=True)
class FLAGS:
    """The process."""

    reactor = flags.Choice("The event loop underneath.", default="epoll", choices=("epoll", "asyncio"))


def arrange_reactor(package: str) -> None:
    """Have the first import of `twisted.internet.reactor` install the one that `--service.reactor` names.

    Call it ahead of imports that import the reactor with themselves, as klein does, and much code of users.
    A program without any needs no call: `halfsync.run` installs the reactor once the flags are parsed.
    Nothing happens to a reactor that is installed already, as under a test runner.

    :param package: `About.package`, whose environment variables may name the reactor.
    """

    def install_chosen() -> None:
        _INSTALL.get(flags.chosen(package, "service.reactor") or "epoll", _install_epoll)()

    sys.meta_path.insert(0, _ReactorFinder(install_chosen))


class _ReactorFinder(MetaPathFinder):
    """Finds `twisted.internet.reactor`, once.

    To set `twisted.internet.default.install`, which is Twisted's own place for this, one has to import
    Twisted's reactors first: 100 ms for every `--help`.
    """

    def __init__(self, install: Callable[[], None]) -> None:
        self._install = install

    def find_spec(self, name: str, _path: object, _target: object = None) -> ModuleSpec | None:
        if name != "twisted.internet.reactor":
            return None
        sys.meta_path.remove(self)
        return ModuleSpec(name, _ReactorLoader(self._install))


class _ReactorLoader(Loader):
    def __init__(self, install: Callable[[], None]) -> None:
        self._install = install

    def exec_module(self, module: ModuleType) -> None:
        """Have the reactor take the place of the module, as Twisted's own module of that name does."""
        del sys.modules[module.__name__]
        self._install()


def install() -> Any:
    """Return the reactor that `--service.reactor` names, installed; call it once the flags are parsed.

    :raises StartError: when an import has installed another one before.
    """
    if "twisted.internet.reactor" not in sys.modules:
        _INSTALL[FLAGS.reactor]()
    from twisted.internet import reactor  # noqa: PLC0415  the import would install one

    kind = "asyncio" if hasattr(reactor, "_asyncioEventloop") else "epoll"
    if kind != FLAGS.reactor:
        raise StartError(
            f"--service.reactor: '{FLAGS.reactor}': this process runs on {kind}, which {_importers(reactor)}"
            " imported before the flags were read; call halfsync.arrange_reactor ahead of that import"
        )
    if not reactor.getDelayedCalls():
        # Twisted installed it by itself. A timer that waits already would count in another time.
        type(reactor).seconds = _SECONDS  # type: ignore[method-assign]  # that is the point
    return reactor


def _importers(reactor: Any) -> str:
    """Name the modules, other than Twisted's, that hold the reactor."""
    holders = [
        name
        for name, module in list(sys.modules.items())
        if not name.startswith("twisted.") and getattr(module, "__dict__", {}).get("reactor") is reactor
    ]
    return ", ".join(holders) or "something"


_SECONDS: Any = staticmethod(time.monotonic)


def _install_epoll() -> None:
    from twisted.internet import epollreactor  # noqa: PLC0415  only one of the two is ever needed

    epollreactor.EPollReactor.seconds = _SECONDS
    epollreactor.install()


def _install_asyncio() -> None:
    import asyncio  # noqa: PLC0415  only one of the two reactors is ever needed

    from twisted.internet import asyncioreactor  # noqa: PLC0415  the same

    loop = asyncio.new_event_loop()
    # asyncio libraries called from the reactor's callbacks look for the loop of the thread.
    asyncio.set_event_loop(loop)
    asyncioreactor.AsyncioSelectorReactor.seconds = _SECONDS
    asyncioreactor.install(loop)


_INSTALL: dict[str, Callable[[], None]] = {"epoll": _install_epoll, "asyncio": _install_asyncio}
