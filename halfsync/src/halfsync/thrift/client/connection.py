"""A connection to a server: TLS, the login, then calls, many at a time. In the reactor.

    connected -> (TLS) -> (login) -> ready: frames out, answers in, matched by their numbers -> lost

An answer to a call that was given up is thrown away when it comes; an answer that nobody asked for, or of
no known form, ends the connection, as nothing that follows it could be trusted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from halfsync.client.errors import CallError, Interrupted, Unreachable
from halfsync.thrift import message as messages
from halfsync.thrift import peers
from halfsync.thrift.client.errors import LoginFailed
from halfsync.thrift.client.login import ClientLogin
from halfsync.thrift.errors import FrameError
from halfsync.thrift.framing import FrameReader
from halfsync.thrift.message import EXCEPTION, REPLY

if TYPE_CHECKING:
    from collections.abc import Callable

    from halfsync.thrift.client.credentials import Credentials
    from halfsync.thrift.message import Message

MOST_GIVEN_UP = 64
"""Answers that may still come to calls that were given up; with more, the connection is not used again."""


@implementer(IHandshakeListener, IPushProducer)
class ClientConnection(Protocol):
    """One connection; `opened` fires once calls can be made."""

    def __init__(
        self,
        peer: str,
        *,
        tls: bool,
        credentials: Credentials | None,
        max_answer: int,
        reactor: Any,
        gone: Callable[[ClientConnection], object],
    ) -> None:
        """Be made for an address.

        :param peer: how errors call it.
        :param max_answer: bytes; a longer answer ends the connection.
        :param gone: is told when the connection takes no more calls.
        """
        self.opened: Deferred[ClientConnection] = Deferred(lambda _: self.abort())
        self.last_used = 0.0
        """When it last sent or took something, in the reactor's seconds."""
        self.retired = False
        """Whether it takes no more calls."""
        self._peer = peer
        self._tls = tls
        self._credentials = credentials
        self._reactor = reactor
        self._gone = gone
        self._max_answer = max_answer
        self._reader = FrameReader(max_answer)
        self._login: ClientLogin | None = None
        self._pending: dict[int, Deferred[Message]] = {}
        self._given_up: set[int] = set()
        self._number = 0
        self._answers = 0
        self._full = False
        self._room: list[Deferred[None]] = []
        self._lost = False

    @property
    def pending(self) -> int:
        """How many calls wait for their answers."""
        return len(self._pending)

    # Twisted calls these.

    def connectionMade(self) -> None:
        """Begin; over TLS, once the server has proved who it is."""
        transport: Any = self.transport
        if self._lost:
            transport.abortConnection()
            return
        if hasattr(transport, "setTcpKeepAlive"):
            transport.setTcpKeepAlive(1)
        if hasattr(transport, "setTcpNoDelay"):
            transport.setTcpNoDelay(1)
        transport.registerProducer(self, True)  # noqa: FBT003  Twisted's signature
        if not self._tls:
            self._begin()

    def handshakeCompleted(self) -> None:
        """Begin, unless the server's certificate is not that of its name."""
        transport: Any = self.transport
        if not transport.disconnecting:
            self._begin()

    def dataReceived(self, data: bytes) -> None:
        """Take bytes."""
        if self._lost:
            return
        self.last_used = self._reactor.seconds()
        try:
            if self._login is not None:
                self._login.received(data)
            else:
                self._take(data)
        except FrameError as error:
            self.fail(Interrupted(f"{self._peer} broke the protocol: {error}"))
        except LoginFailed as error:
            self.fail(error)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # Twisted has a default
        """Fail what waits."""
        self.fail(Interrupted(f"{self._peer} ended the connection{self._hint()}: {_reason(reason)}"))

    def pauseProducing(self) -> None:
        """Send no more for now: the server does not take it."""
        self._full = True

    def resumeProducing(self) -> None:
        """Send again."""
        self._full = False
        room, self._room = self._room, []
        for each in room:
            each.callback(None)

    def stopProducing(self) -> None:
        """Hear that the connection has ended; `connectionLost` follows."""

    # The pool calls these.

    async def ask(self, kind: int, frame_of: Callable[[int], bytes]) -> Message | None:
        """Send a call and return its answer; None, once it is sent, for one that is oneway.

        :param frame_of: makes the frame, with the number that the call gets.
        :raises Interrupted: when the connection ends before.
        :raises CancelledError: when the caller gives up.
        """
        while self._full:
            room: Deferred[None] = Deferred(self._room.remove)
            self._room.append(room)
            await room
        if self._lost:
            raise Interrupted(f"{self._peer} ended the connection")
        self._number = number = self._number % 0x7FFFFFFF + 1
        self.last_used = self._reactor.seconds()
        transport: Any = self.transport
        transport.write(frame_of(number))
        if kind == messages.ONEWAY:
            return None
        seen = self._answers
        answer: Deferred[Message] = Deferred(lambda _: self._give_up(number, seen))
        self._pending[number] = answer
        return await answer

    def retire(self) -> None:
        """Take no more calls, and end once those that wait are answered."""
        if not self.retired:
            self.retired = True
            self._gone(self)
        if self._pending or self._lost:
            return
        transport: Any = self.transport
        transport.unregisterProducer()
        if self._given_up:
            # What it still owes, nobody wants.
            transport.abortConnection()
        else:
            transport.loseConnection()

    def abort(self) -> None:
        """Cut the connection."""
        self.fail(Interrupted(f"the connection to {self._peer} was closed here"))

    def fail(self, error: CallError) -> None:
        """End with an error, which everything that waits raises."""
        if self._lost:
            return
        self._lost = True
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()
        if self._login is not None:
            self._login.over = True
        if not self.retired:
            self.retired = True
            self._gone(self)
        if not self.opened.called:
            # It has seen no call.
            self.opened.errback(Failure(error if isinstance(error, LoginFailed) else Unreachable(str(error))))
        pending, self._pending = self._pending, {}
        for answer in pending.values():
            answer.errback(Failure(error))
        self.resumeProducing()

    # Our own.

    def _begin(self) -> None:
        if self._credentials is None:
            self._ready(b"")
            return
        transport: Any = self.transport
        binding = None
        if self._tls:
            shown = transport.getPeerCertificate()
            binding = peers.end_point(shown.to_cryptography() if hasattr(shown, "to_cryptography") else shown)
        try:
            self._login = ClientLogin(
                self._credentials,
                binding,
                write=transport.write,
                ready=self._ready,
                fail=self.fail,
                reactor=self._reactor,
            )
        except LoginFailed as error:
            self.fail(error)

    def _ready(self, rest: bytes) -> None:
        self._login = None
        self.last_used = self._reactor.seconds()
        if not self.opened.called:
            self.opened.callback(self)
        if rest:
            self.dataReceived(rest)

    def _hint(self) -> str:
        """Say what may be set up wrongly, if the server has never answered here."""
        if self._login is not None:
            return " in the login (does it want one?)"
        if self._answers or not self._number:
            return ""
        if self._credentials is None:
            return " before any answer (does it want a login, `credentials=`, or TLS?)"
        return " before any answer"

    def _take(self, data: bytes) -> None:
        for frame in self._reader.feed(data):
            answer = messages.read(frame, self._max_answer)
            if answer.kind not in (REPLY, EXCEPTION):
                raise FrameError("a message that is no answer")
            self._answers += 1
            waiting = self._pending.pop(answer.seqid, None)
            if waiting is not None:
                waiting.callback(answer)
            elif answer.seqid in self._given_up:
                self._given_up.discard(answer.seqid)
            else:
                raise FrameError("an answer to no call")
            if self._lost:
                return
        if self.retired and not self._pending:
            self.retire()

    def _give_up(self, number: int, seen: int) -> None:
        if self._pending.pop(number, None) is None:
            return
        self._given_up.add(number)
        # Nothing has come since it was sent: there may be nobody any more.
        if self._answers == seen or len(self._given_up) > MOST_GIVEN_UP or self.retired:
            self.retire()


def _reason(failure: Failure) -> str:
    reason: Any = failure.value
    # OpenSSL's errors are lists of lists.
    return (reason.args and repr(reason.args[0])) or failure.getErrorMessage() or type(reason).__name__
