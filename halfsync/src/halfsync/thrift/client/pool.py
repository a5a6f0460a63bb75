"""The few connections to one address: which one takes a call, and when there is one more. In the reactor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from halfsync.client.errors import Unreachable
from halfsync.thrift.client.errors import LoginFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from halfsync.thrift.client.connection import ClientConnection

IDLE = 600.0
"""Seconds after which an unused connection is not used again: an hour is what our own server allows."""

PAUSE = 1.0
"""Seconds after a failed login, or a failed attempt at one connection more, before the next."""


class Pool:
    """Connections to one address.

    A call goes to the connection on which the fewest wait; while every one has some, another one is opened,
    and the call does not wait for it. Only the first call waits for its connection.
    """

    def __init__(
        self,
        make: Callable[[Callable[[ClientConnection], object]], ClientConnection],
        endpoint: Callable[[], Any],
        *,
        where: str,
        most: int,
        connect_timeout: float,
        reactor: Any,
    ) -> None:
        """Reach an address.

        :param make: makes a connection, which tells the function that it gets when it takes no more calls.
        :param endpoint: makes what connects.
        :param where: the address, for errors.
        :param most: connections at a time.
        :param connect_timeout: seconds for connection, TLS and login together.
        """
        self.open: list[ClientConnection] = []
        self._make = make
        self._endpoint = endpoint
        self._where = where
        self._most = most
        self._timeout = connect_timeout
        self._reactor = reactor
        self._connecting: ClientConnection | None = None
        self._waiting: list[Deferred[ClientConnection]] = []
        self._not_before = 0.0
        self._refusal: LoginFailed | None = None

    async def get(self) -> ClientConnection:
        """Return a connection that takes a call now.

        :raises Unreachable: when none could be made.
        :raises LoginFailed: when the server does not let us in; for a second, nobody asks it again.
        """
        now = self._reactor.seconds()
        for each in [each for each in self.open if not each.pending and now - each.last_used > IDLE]:
            each.retire()
        if not self.open:
            if self._refusal is not None and now < self._not_before:
                raise LoginFailed(str(self._refusal))
            waiting: Deferred[ClientConnection] = Deferred(self._waiting.remove)
            self._waiting.append(waiting)
            if self._connecting is None:
                self._connect()
            return await waiting
        best = min(self.open, key=lambda each: each.pending)
        more = len(self.open) < self._most and self._connecting is None
        if best.pending and more and now >= self._not_before:
            self._connect()
        return best

    def retire(self) -> None:
        """Take no more calls: the address is gone."""
        for each in list(self.open):
            each.retire()

    def abort(self) -> None:
        """Cut every connection."""
        for each in list(self.open):
            each.abort()
        if self._connecting is not None:
            self._connecting.abort()

    def _connect(self) -> None:
        connection = self._connecting = self._make(self._gone)
        try:
            connecting = self._endpoint().connect(_Factory(connection))
        except ValueError as error:
            # A file of the trust has become unusable.
            connection.opened.addErrback(self._failed)
            connection.fail(Unreachable(str(error)))
            return
        connecting.addErrback(
            lambda failure: connection.fail(Unreachable(f"{self._where}: {_reason(failure)}"))
        )

        def late() -> None:
            told = f"{self._where}: no connection, TLS and login within {self._timeout:g} s"
            connection.fail(Unreachable(told))

        timer = self._reactor.callLater(self._timeout, late)

        def end(result: Any) -> Any:
            if timer.active():
                timer.cancel()
            if isinstance(result, Failure):
                # It may have been given up before it was connected.
                connecting.cancel()
            return result

        connection.opened.addBoth(end).addCallbacks(self._opened, self._failed)

    def _opened(self, connection: ClientConnection) -> None:
        self._connecting = self._refusal = None
        self.open.append(connection)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(connection)

    def _failed(self, failure: Failure) -> None:
        self._connecting = None
        self._refusal = failure.value if isinstance(failure.value, LoginFailed) else None
        self._not_before = self._reactor.seconds() + PAUSE
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.errback(Failure(failure.value))

    def _gone(self, connection: ClientConnection) -> None:
        if connection in self.open:
            self.open.remove(connection)


class _Factory(Factory):
    noisy = False

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    def buildProtocol(self, addr: Any) -> ClientConnection:
        del addr
        return self._connection


def _reason(failure: Failure) -> str:
    return failure.getErrorMessage() or type(failure.value).__name__
