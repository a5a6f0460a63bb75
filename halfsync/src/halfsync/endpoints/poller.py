"""One reader in the reactor for all connections of a port: an epoll(7) of its own inside the reactor's.

The reactor makes one logged call for all that is ready in a turn, rather than one for each: a tenth of the
time that a small request takes. Connections that nobody reads from or writes to stay known to it,
so that a reset is noticed at once; with the reactor's own it is not.
"""

from __future__ import annotations

import select
from time import monotonic
from typing import Any

from twisted.internet import error
from twisted.internet.interfaces import IHalfCloseableDescriptor, IReactorFDSet, IReadDescriptor
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.python.failure import Failure
from zope.interface import implementer

from halfsync.endpoints.turns import Turns
from halfsync.logs import get_logger

log = get_logger(__name__)

TURN = 512
"""Events that are acted on before others in the reactor have their turn."""

LONGEST = 0.005
"""Seconds of a turn; what is ready beyond it waits for the next, in which clients take turns."""

STEP = 16
"""Events between two looks at the time."""

_ALWAYS = select.EPOLLHUP | select.EPOLLERR


@implementer(IReadDescriptor, IReactorFDSet)
class Poller:
    """What descriptors take for their reactor; times and threads are the real one's."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._epoll: Any = None
        self._items: dict[int, Any] = {}
        self._turns = Turns()
        self._call: Any = None
        """In which they go on."""
        self.callLater = reactor.callLater
        self.seconds = reactor.seconds

    # The reactor calls these.

    def fileno(self) -> int:
        """Return the descriptor of the epoll; -1 when there is none."""
        return -1 if self._epoll is None else int(self._epoll.fileno())

    def logPrefix(self) -> str:
        """Name it."""
        return "poller"

    def connectionLost(self, reason: Failure) -> None:
        """End with the reactor."""
        del reason
        self._close()

    def doRead(self) -> None:
        """Act on what is ready, for a turn."""
        events = self._epoll.poll(0, TURN)
        if self._turns:
            self._wait(events)
            return
        ends = monotonic() + LONGEST
        for at in range(0, len(events), STEP):
            if at and monotonic() > ends:
                self._wait(events[at:])
                return
            for fd, event in events[at : at + STEP]:
                item = self._items.get(fd)
                if item is not None:
                    self._act(item, fd, event)

    def _wait(self, events: list[tuple[int, int]]) -> None:
        """Have what is ready wait; the epoll must not tell of it again and again meanwhile."""
        for fd, event in events:
            item = self._items.get(fd)
            if item is not None:
                # Whose it is may not be known, or not be limited: then it is nobody's but its own.
                self._turns.add(item.share or fd, fd, event)
                self._epoll.modify(fd, select.EPOLLONESHOT)
        if self._turns and self._call is None:
            self._call = self.callLater(0, self._take_turns)

    def _take_turns(self) -> None:
        self._call = None
        ends = monotonic() + LONGEST
        while (found := self._turns.next()) is not None:
            fd, event = found
            item = self._items.get(fd)
            if item is not None:
                self._epoll.modify(fd, item.polled)
                # It may want something else by now.
                if event := event & (item.polled | _ALWAYS):
                    self._act(item, fd, event)
            if monotonic() > ends:
                break
        if self._turns:
            self._call = self.callLater(0, self._take_turns)

    # Descriptors call these.

    def addReader(self, reader: Any) -> None:
        """Tell a descriptor when there is something to read."""
        self._set(reader, select.EPOLLIN, 0)

    def addWriter(self, writer: Any) -> None:
        """Tell a descriptor when it can write."""
        self._set(writer, select.EPOLLOUT, 0)

    def removeReader(self, reader: Any) -> None:
        """Do not tell it any more."""
        self._set(reader, 0, select.EPOLLIN)

    def removeWriter(self, writer: Any) -> None:
        """Do not tell it any more."""
        self._set(writer, 0, select.EPOLLOUT)

    def removeAll(self) -> list[Any]:
        """Forget every descriptor, and return them."""
        items = list(self._items.values())
        self._items.clear()
        self._close()
        return items

    def getReaders(self) -> list[Any]:
        """Return what is read from."""
        return [item for item in self._items.values() if item.polled & select.EPOLLIN]

    def getWriters(self) -> list[Any]:
        """Return what is written to."""
        return [item for item in self._items.values() if item.polled & select.EPOLLOUT]

    def _set(self, item: Any, on: int, off: int) -> None:
        fd: int = item.fileno()
        if self._items.get(fd, self) is not item:
            if not on:
                return
            self._begin()
            self._epoll.register(fd, on)
            self._items[fd] = item
            item.polled = on
            return
        old: int = item.polled
        new = old & ~off | on
        if not (new or item.connected):
            self._forget(fd)
        elif new != old:
            self._epoll.modify(fd, new)
            item.polled = new

    def _begin(self) -> None:
        if self._epoll is None:
            self._epoll = select.epoll()
            self._reactor.addReader(self)

    def _forget(self, fd: int) -> None:
        self._items.pop(fd).polled = 0
        self._turns.forget(fd)
        self._epoll.unregister(fd)
        if not self._items:
            self._close()

    def _close(self) -> None:
        if self._epoll is not None:
            self._reactor.removeReader(self)
            self._epoll.close()
            self._epoll = None
            self._turns = Turns()
            if self._call is not None:
                self._call.cancel()
                self._call = None

    def _act(self, item: Any, fd: int, event: int) -> None:
        """Do what the reactor does for a descriptor that is ready."""
        why: Any = None
        reading = False
        try:
            if event & select.EPOLLIN:
                reading = True
                why = item.doRead()
            elif event & (select.EPOLLHUP | select.EPOLLERR):
                # Nothing is left to be read.
                reading = bool(item.polled & select.EPOLLIN)
                why = CONNECTION_DONE if reading else CONNECTION_LOST
            if event & select.EPOLLOUT and not why and self._items.get(fd, self) is item:
                reading = False
                why = item.doWrite()
        except Exception as problem:
            log.exception("transport.failed", protocol=item.logPrefix())
            why = problem
        if why:
            self._disconnect(item, why, reading=reading)

    def _disconnect(self, item: Any, why: Exception, *, reading: bool) -> None:
        failure = Failure(why)
        self.removeReader(item)
        if reading and type(why) is error.ConnectionDone and IHalfCloseableDescriptor.providedBy(item):
            item.readConnectionLost(failure)
        else:
            self.removeWriter(item)
            item.connectionLost(failure)
