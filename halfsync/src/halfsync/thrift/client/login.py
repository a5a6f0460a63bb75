"""The login of a client's connection (SASL), as Apache's TSaslTransport frames it. In the reactor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.threads import deferToThreadPool

from halfsync.client.errors import Interrupted
from halfsync.thrift import sasl
from halfsync.thrift.client.errors import LoginFailed
from halfsync.thrift.errors import FrameError
from halfsync.thrift.sasl import BAD, COMPLETE, ERROR, OK, START, SaslReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    from halfsync.client.errors import CallError
    from halfsync.thrift.client.credentials import Credentials

LONGEST_LOGIN = 64 * 1024
"""Bytes that a server may send before it has let us in."""


class ClientLogin:
    """The login of one connection; it begins at once."""

    def __init__(
        self,
        credentials: Credentials,
        binding: bytes | None,
        *,
        write: Callable[[bytes], object],
        ready: Callable[[bytes], object],
        fail: Callable[[CallError], object],
        reactor: Any,
    ) -> None:
        """Send the first messages.

        :param ready: is told, with the bytes that are left, when the server has let us in.
        :raises LoginFailed: when name or password cannot be used.
        """
        self.over = False
        """Whether the connection has ended."""
        self._write = write
        self._ready = ready
        self._fail = fail
        self._dialogue = credentials.begin(binding)
        self._reader = SaslReader(LONGEST_LOGIN)
        self._reactor = reactor
        self._busy = False
        write(sasl.pack(START, credentials.mechanism.encode()) + sasl.pack(OK, self._dialogue.first()))

    def received(self, data: bytes) -> None:
        """Take bytes.

        :raises FrameError: when they are no login.
        :raises LoginFailed: when the server does not let us in, or is not the one that it should be.
        """
        self._reader.feed(data)
        if self._busy or self.over:
            return
        said = self._reader.next()
        if said is None:
            return
        status, payload = said
        if status == OK:
            self._busy = True
            pool = self._reactor.getThreadPool()
            step: Deferred[bytes] = deferToThreadPool(self._reactor, pool, self._dialogue.next, payload)
            step.addCallbacks(self._answer, self._failed)
        elif status == COMPLETE:
            self._dialogue.finish(payload)
            self._ready(self._reader.rest())
        elif status in (BAD, ERROR):
            text = payload.decode("utf-8", "replace").partition("\n")[0][:200]
            raise LoginFailed(f"the server refused the login: {text}")
        else:
            raise FrameError("a server that begins a login")

    def _answer(self, payload: bytes) -> None:
        self._busy = False
        if self.over:
            return
        self._write(sasl.pack(OK, payload))
        try:
            # It may have sent more while a thread was at it.
            self.received(b"")
        except FrameError as error:
            self._fail(Interrupted(f"the server broke the protocol in the login: {error}"))
        except LoginFailed as error:
            self._fail(error)

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        self._fail(error if isinstance(error, LoginFailed) else LoginFailed(f"the login failed: {error!r}"))
