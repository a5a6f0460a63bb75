"""From an accepted socket to a connection: the PROXY header and the TLS handshake, where there are any.

Until both are done, the connection is not its factory's: no protocol is made for it, and no request memory.
Both are read from the socket itself and no byte further, so that what comes after finds its first byte there:
what has arrived is looked at (MSG_PEEK) until it is whole.

    PROXY header --> first bytes --> handshake --> connection
                          |              |
                          '----> refused <'        (told why, then read to its end, so that it hears it)
"""

from __future__ import annotations

import socket
import ssl
from collections import Counter
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadWriteDescriptor
from zope.interface import implementer

from halfsync.endpoints.addresses import address_text
from halfsync.endpoints.client_hello import LOOKED_AT, Kind, read_first_bytes
from halfsync.endpoints.plain_http import plain_http_answer
from halfsync.endpoints.proxy_header import LONGEST, MalformedHeaderError, read_proxy_header
from halfsync.endpoints.seldom import Seldom
from halfsync.endpoints.sweeper import Sweeper

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure

    from halfsync.endpoints.addresses import Address
    from halfsync.endpoints.tls import ServerTls

    Connect = Callable[[socket.socket, Address, Address | None, bytes | None], None]

TIMEOUT = 10.0
"""Seconds for PROXY header and handshake together."""

MOST = 1000
"""Handshakes of a port at a time; beyond it the oldest is cut. One costs OpenSSL 43 KiB."""

SWEEP = 1.0
"""Seconds between two looks at the deadlines."""

DRAIN = 2.0
"""Seconds that a handshake has left when the process drains."""

LINGER = 2.0
"""Seconds that a client has to take the reason why it was refused."""

FIRST_PAUSE, LONGEST_PAUSE = 0.002, 0.5
"""Seconds until another look at what has arrived in part: epoll(7) would report it all the time."""

# RFC 8446 section 6: a fatal alert, no_application_protocol.
_NO_PROTOCOL = b"\x15\x03\x03\x00\x02\x02\x78"


class Handshakes:
    """The handshakes of one port.

    :param proxied: whether a PROXY header comes first.
    :param tls: None where there is no TLS.
    :param connect: is given the socket of a connection, its client, our address as a PROXY header says it,
        and the protocol that was agreed on (ALPN).
    """

    def __init__(self, reactor: Any, *, proxied: bool, tls: ServerTls | None, connect: Connect) -> None:
        self.reactor = reactor
        self.proxied = proxied
        self.tls = tls
        self.connect = connect
        self.results: Counter[str] = Counter()
        """How many have ended in which way."""
        self.log = Seldom(reactor)
        self.most: int | None = None
        """How many there may be; None for MOST."""
        self._open: dict[Handshake, float] = {}
        """By deadline, the oldest first."""
        self._sweeper = Sweeper(reactor, self._sweep, lambda: SWEEP)
        self._waiting: list[Deferred[None]] = []

    def __len__(self) -> int:
        """Return how many there are at the moment."""
        return len(self._open)

    def begin(self, sock: socket.socket, client: Address) -> None:
        """Begin with a connection that was accepted."""
        most = MOST if self.most is None else self.most
        if len(self._open) >= most:
            self.log.warning("handshakes.too_many", most=most)
            next(iter(self._open)).end("cut")
        handshake = Handshake(self, sock, client)
        self.keep(handshake, TIMEOUT)
        handshake.advance()

    async def drain(self) -> None:
        """Return when none is left; those that are open have a little time to become connections."""
        latest = self.reactor.seconds() + DRAIN
        self._open = {each: min(deadline, latest) for each, deadline in self._open.items()}
        if self._open:
            empty: Deferred[None] = Deferred(self._waiting.remove)
            self._waiting.append(empty)
            await empty

    def abort(self) -> None:
        """Cut them all."""
        for each in list(self._open):
            each.end("cut")

    # A handshake calls these.

    def keep(self, handshake: Handshake, seconds: float) -> None:
        """Have a handshake end within a time."""
        self._open.pop(handshake, None)
        self._open[handshake] = self.reactor.seconds() + seconds
        self._sweeper.begin()

    def forget(self, handshake: Handshake) -> None:
        """Hear that a handshake has ended."""
        self._open.pop(handshake, None)
        if not self._open:
            self._sweeper.end()
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(None)

    def _sweep(self) -> None:
        now = self.reactor.seconds()
        for each in [each for each, deadline in self._open.items() if deadline <= now]:
            each.end("timeout")


@implementer(IReadWriteDescriptor)
class Handshake:
    """One connection before it is one."""

    __slots__ = (
        "_all",
        "_client",
        "_local",
        "_pause",
        "_reading",
        "_refused",
        "_sock",
        "_step",
        "_timer",
        "_writing",
    )

    def __init__(self, handshakes: Handshakes, sock: Any, client: Address) -> None:
        self._all = handshakes
        self._sock: Any = sock
        self._client = client
        self._local: Address | None = None
        self._step: Callable[[], None] = self._read_proxy_header if handshakes.proxied else self._look
        self._pause = FIRST_PAUSE
        self._timer: Any = None
        self._reading = self._writing = self._refused = False

    def advance(self) -> None:
        """Go on as far as what has arrived allows."""
        self._timer = None
        try:
            self._step()
        except (BlockingIOError, ssl.SSLWantReadError):
            self._wait(reading=True)
        except ssl.SSLWantWriteError:
            self._wait(writing=True)
        except ssl.SSLEOFError:
            self.end("gone")
        except ssl.SSLError as error:
            self._fail((error.reason or "").lower().replace("_", " ") or str(error))
        except (OSError, ValueError):
            # ValueError: the standard library's, where the client has gone in between.
            self.end("gone")

    def end(self, result: str) -> None:
        """Close the connection, and count how it ended, unless it was refused before."""
        if not self._refused:
            self._all.results[result] += 1
        self._leave_reactor()
        self._sock.close()
        self._all.forget(self)

    # In this order: each step raises when it needs more, and calls the next when it is done.

    def _read_proxy_header(self) -> None:
        data = self._peek(LONGEST)
        try:
            header = read_proxy_header(data)
        except MalformedHeaderError as error:
            self._all.log.warning("proxy_header.refused", client=self._name(), reason=str(error))
            self._refuse("malformed")
            return
        if header is None:
            self._look_later()
            return
        self._sock.recv(header.length)
        self._client, self._local = header.client or self._client, header.local
        self._pause = FIRST_PAUSE
        self._step = self._look
        self._look()

    def _look(self) -> None:
        tls = self._all.tls
        if tls is None:
            self._done(None)
            return
        kind, offered = read_first_bytes(self._peek(LOOKED_AT))
        if kind is Kind.UNFINISHED:
            self._look_later()
        elif kind is Kind.HTTP:
            self._sock.send(plain_http_answer())
            self._all.log.warning("tls.plain_http", client=self._name())
            self._refuse("plain_http")
        elif offered and tls.protocols and not set(offered).intersection(tls.protocols):
            self._sock.send(_NO_PROTOCOL)
            self._fail(f"no protocol of the client's is spoken here: {b' '.join(offered)!r}")
        else:
            self._sock = tls.context.wrap_socket(
                self._sock, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=False
            )
            self._step = self._shake_hands
            self._shake_hands()

    def _shake_hands(self) -> None:
        self._sock.do_handshake()
        protocol = self._sock.selected_alpn_protocol()
        self._done(protocol.encode("ascii") if protocol else None)

    def _done(self, protocol: bytes | None) -> None:
        self._all.results["done"] += 1
        self._leave_reactor()
        self._all.connect(self._sock, self._client, self._local, protocol)
        # Only now: a drain that waits for handshakes looks at the factory's connections next.
        self._all.forget(self)

    def _name(self) -> str:
        return address_text(self._client)

    def _fail(self, reason: str) -> None:
        self._all.log.warning("tls.handshake_failed", client=self._name(), reason=reason)
        self._refuse("failed")

    def _refuse(self, result: str) -> None:
        """Let the client hear what was sent to it, which a reset would take away."""
        self._all.results[result] += 1
        self._refused = True
        self._step = self._linger
        self._all.keep(self, LINGER)
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.end("refused")
        else:
            self._wait(reading=True)

    def _linger(self) -> None:
        if not self._sock.recv(LOOKED_AT):
            self.end("refused")

    # What the steps use.

    def _peek(self, size: int) -> bytes:
        """Return what has arrived without taking it."""
        data: bytes = self._sock.recv(size, socket.MSG_PEEK)
        if not data:
            raise ConnectionResetError
        return data

    def _look_later(self) -> None:
        """Look again a little later at what has arrived in part."""
        self._wait()
        self._timer = self._all.reactor.callLater(self._pause, self.advance)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def _wait(self, *, reading: bool = False, writing: bool = False) -> None:
        reactor = self._all.reactor
        if reading != self._reading:
            self._reading = reading
            (reactor.addReader if reading else reactor.removeReader)(self)
        if writing != self._writing:
            self._writing = writing
            (reactor.addWriter if writing else reactor.removeWriter)(self)

    def _leave_reactor(self) -> None:
        self._wait()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # The reactor calls these.

    def fileno(self) -> int:
        """Return the descriptor; -1 when it is closed."""
        return int(self._sock.fileno())

    def logPrefix(self) -> str:
        """Name it."""
        return "handshake"

    def doRead(self) -> None:
        """Go on."""
        self.advance()

    def doWrite(self) -> None:
        """Go on."""
        self.advance()

    def connectionLost(self, reason: Failure) -> None:
        """End: the descriptor is no good any more."""
        del reason
        self.end("gone")
