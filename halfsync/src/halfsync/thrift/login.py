"""The login of a connection: which mechanisms it may use, each step in a thread, what happens when it fails.

The steps read the file of users and compute; a slow disk, or PLAIN's 8 ms, must not hold up the reactor.
They have threads of their own: a service whose handlers are all busy still lets clients in.
"""

from __future__ import annotations

from collections import OrderedDict
from time import monotonic
from typing import TYPE_CHECKING, Any

from halfsync.logs import get_logger
from halfsync.thrift import mechanisms, peers, sasl
from halfsync.thrift.errors import FrameError
from halfsync.thrift.mechanisms import PLAIN, SCRAM_PLUS, LoginRefused
from halfsync.thrift.sasl import BAD, COMPLETE, OK, START, SaslReader
from halfsync.thrift.users import UsersError
from halfsync.workers.pool import Busy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from halfsync.thrift.mechanisms import Mechanism, Step
    from halfsync.thrift.users import Users
    from halfsync.workers.pool import WorkerPool

log = get_logger(__name__)

FIRST_DELAY, LONGEST_DELAY = 0.25, 4.0
"""Seconds before a client hears that its login failed; twice as long each time for one address."""

FORGET = 60.0
"""Seconds after which the failures of an address no longer count."""

ADDRESSES = 1000
"""Addresses whose failures are remembered."""

AT_ONCE = 4
"""Logins at a time from an address that has failed five times of late."""

REFUSED = b"login refused"


class Failures:
    """The failed logins of each address."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def count(self, host: str) -> int:
        """Return how often logins of an address have failed of late."""
        count, at = self._of.get(host, (0, 0.0))
        return count if monotonic() - at < FORGET else 0

    def add(self, host: str) -> float:
        """Note a failed login; return the seconds that the client is to wait for the answer."""
        count = self.count(host) + 1
        self._of[host] = (count, monotonic())
        self._of.move_to_end(host)
        if len(self._of) > ADDRESSES:
            self._of.popitem(last=False)
        return float(min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(count - 1, 10)))


class Logins:
    """What all logins of a listener share."""

    def __init__(
        self, names: Sequence[str], users: Users, workers: WorkerPool, *, longest: int, reactor: Any
    ) -> None:
        """Offer mechanisms.

        :param longest: bytes that a client may send before it is known.
        """
        self.names = names
        self.users = users
        self.workers = workers
        self.longest = longest
        self.reactor = reactor
        self.failures = Failures()
        self.refused = 0
        self.open: dict[str, int] = {}
        """Logins that are open, by address."""


class Login:
    """The login of one connection; it lives until that is done."""

    def __init__(self, connection: Any, logins: Logins) -> None:
        self._connection = connection
        self._logins = logins
        self._reader = SaslReader(logins.longest)
        self._host = peers.host(connection.transport)
        self._mechanism: Mechanism | None = None
        self._name = ""
        self._busy = False
        self._over = False
        self._timer: Any = None
        self.workers = logins.workers
        logins.open[self._host] = logins.open.get(self._host, 0) + 1

    def received(self, data: bytes) -> None:
        """Take bytes.

        :raises FrameError: when they are no login.
        """
        self._reader.feed(data)
        self._next()

    def end(self) -> None:
        """Hear that the connection is lost, or its client known."""
        if self._over:
            return
        self._over = True
        left = self._logins.open[self._host] - 1
        if left:
            self._logins.open[self._host] = left
        else:
            del self._logins.open[self._host]
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _next(self) -> None:
        if self._busy or self._over:
            return
        message = self._reader.next()
        if message is None:
            return
        status, payload = message
        if self._mechanism is None:
            if status != START:
                raise FrameError("a login (SASL) is wanted first")
            self._start(payload)
        elif status != OK:
            self._refuse("the client gave up" if status != START else "the client began twice")
        else:
            self._busy = True
            try:
                self._logins.workers.submit(_Step(self, self._mechanism, payload), "a login")
            except Busy:
                self._refuse("there are too many logins at once")

    def _start(self, payload: bytes) -> None:
        logins = self._logins
        name = payload.decode("ascii", "replace")
        binding = self._binding()
        if name not in logins.names:
            self._refuse(f"the mechanism {name[:40]!r} is not offered")
        elif name == SCRAM_PLUS and binding is None:
            self._refuse(f"{name} needs TLS")
        elif name == PLAIN and not self._is_private():
            self._refuse("PLAIN needs TLS, or a private UNIX socket")
        elif logins.failures.count(self._host) >= 5 and logins.open[self._host] > AT_ONCE:
            self._refuse("its address has failed too often for so many at once")
        else:
            self._name = name
            offered = SCRAM_PLUS in logins.names
            self._mechanism = mechanisms.make(name, logins.users, binding if offered else None)
            self._next()

    def stepped(self, step: Step | BaseException) -> None:
        """Hear what a thread has made of the client's message."""
        self._busy = False
        if self._over:
            return
        connection = self._connection
        if isinstance(step, LoginRefused):
            self._refuse(step.reason, step.user)
        elif isinstance(step, BaseException):
            if isinstance(step, UsersError):
                log.error("rpc.users_unusable", reason=str(step))
            else:
                log.error("rpc.login_failed", exc_info=(type(step), step, step.__traceback__))
            self._refuse("the service cannot check it")
        elif step.identity is None:
            connection.send(sasl.pack(OK, step.payload))
            self._go_on()
        else:
            log.info("rpc.login", peer=connection.peer, user=step.identity.name, mechanism=self._name)
            self.end()
            connection.send(sasl.pack(COMPLETE, step.payload))
            connection.logged_in(step.identity, self._reader.rest())

    def _go_on(self) -> None:
        try:
            self._next()
        except FrameError as error:
            self._connection.refuse("frame", str(error))

    def _refuse(self, reason: str, user: str = "") -> None:
        """Log it, and tell the client after a while, without the reason."""
        logins = self._logins
        logins.refused += 1
        delay = logins.failures.add(self._host)
        log.warning(
            "rpc.login_refused", peer=self._connection.peer, user=user, mechanism=self._name, reason=reason
        )
        self._busy = True
        self._timer = logins.reactor.callLater(delay, self._tell)

    def _tell(self) -> None:
        self._timer = None
        self._connection.send(sasl.pack(BAD, REFUSED))
        self._connection.close()

    def _binding(self) -> bytes | None:
        certificate = peers.server_certificate(self._connection.transport)
        return None if certificate is None else peers.end_point(certificate)

    def _is_private(self) -> bool:
        # A UNIX socket that is not private, the listener has refused to open for PLAIN.
        return self._host == "unix" or peers.is_tls(self._connection.transport)


class _Step:
    """A step of a login; a worker calls it."""

    __slots__ = ("_login", "_mechanism", "_payload")

    def __init__(self, login: Login, mechanism: Mechanism, payload: bytes) -> None:
        self._login = login
        self._mechanism = mechanism
        self._payload = payload

    def __call__(self) -> None:
        result: Step | BaseException
        try:
            result = self._mechanism.step(self._payload)
        except BaseException as error:  # noqa: BLE001  the login is told
            result = error
        self._login.workers.in_reactor(self._login.stepped, result)
