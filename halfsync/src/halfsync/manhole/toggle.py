"""The manhole as a part of the process: opened and closed while it runs, and by itself after a time."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, cast

from halfsync import flag, flags
from halfsync._later import later
from halfsync.endpoints.listener import Endpoints, Listener
from halfsync.endpoints.parsing import as_endpoint
from halfsync.flags import types as flagtypes
from halfsync.life.errors import StartError, WrongFlagsError
from halfsync.life.facts import counter, gauge
from halfsync.life.parts import Part
from halfsync.logs import get_audit_logger, get_logger
from halfsync.manhole import keys
from halfsync.manhole.host_key import check_host_key, default_host_key, load_host_key
from halfsync.manhole.invitation import invitation, user_name
from halfsync.manhole.login import ManholeCounts

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Sequence

    from twisted.internet import defer

    from halfsync.endpoints import connections
    from halfsync.endpoints.endpoint import Endpoint
    from halfsync.life.facts import Metric, OpenConnection
    from halfsync.life.process import Process
    from halfsync.life.sockets import Sockets
    from halfsync.manhole.ssh_server import SSHServer
else:
    connections = later("halfsync.endpoints.connections")
    defer = later("twisted.internet.defer")

audit = get_audit_logger(__name__)
log = get_logger(__name__)

DEFAULT_AUTHORIZED_KEYS = "~/.ssh/authorized_keys"


def _check_authorized_keys(path: str) -> str | None:
    # A service that leaves the default may never open the manhole, and need not have the file.
    if path == os.path.expanduser(DEFAULT_AUTHORIZED_KEYS) and not FLAGS.open:  # noqa: PTH111  as the flag does
        return None
    try:
        keys.read_authorized_keys(path)
    except keys.KeyFileError as fault:
        return str(fault)
    return None


@flags.declare(flag.namespace("manhole"), at_start=True)
class FLAGS:
    """The SSH prompt inside the process."""

    listen = Endpoints("Where it listens while it is open.", default="tcp:8022:interface=127.0.0.1")
    open = flag.Bool("Open at start; a USR2 signal opens and closes it later.", default=False)
    authorized_keys = flagtypes.Path(
        "Public keys that may enter, one a line; read again at each login.",
        default=DEFAULT_AUTHORIZED_KEYS,
        check=_check_authorized_keys,
    )
    host_key = flagtypes.Path(
        "Its own ed25519 key, made when missing; empty is one in the user's state folder.",
        default="",
        check=check_host_key,
    )
    ttl = flagtypes.Seconds("Closes itself after this time.", default=3600)
    threaded = flag.Bool(
        "Statements run in a thread, and so cannot stall the service; without it, those that begin with &.",
        default=False,
    )
    user = flag.String("Name to log in by; empty is that of the user the process runs as.", default="")


class Manhole(Part):
    """An SSH prompt inside the process: closed at start, costing nothing until it is opened.

    conch is imported when it opens, and not before.
    """

    def __init__(
        self,
        process: Process,
        *,
        listen: Sequence[Endpoint | str],
        authorized_keys: str,
        host_key: str = "",
        ttl: float = 3600,
        user: str = "",
        threaded: bool = False,
        open_at_start: bool = False,
    ) -> None:
        """Prepare; the parameters are those of the flags.

        :param ttl: seconds.
        """
        super().__init__("manhole")
        self._process = process
        self._reactor = process.reactor
        # Who can connect may at least try.
        self._listen = [as_endpoint(each).private() for each in listen]
        self._authorized_keys = authorized_keys
        self._host_key = host_key or default_host_key(process.about.name)
        self._ttl = ttl
        self._user = user or user_name()
        self._threaded = threaded
        self._open_at_start = open_at_start
        self._bound: Listener | None = None
        """What is to be open from the start, until it is."""
        self.counts = ManholeCounts()
        self._turn = defer.DeferredLock()
        self._server: SSHServer | None = None
        self._listener: Listener | None = None
        self._expiry: Any = None
        self._closes_at: float | None = None
        self._over = False
        """Whether the part has stopped: what opened then would be closed by nobody."""

    @classmethod
    def from_flags(cls, process: Process) -> Manhole:
        """Prepare as the flags say."""
        return cls(
            process,
            listen=FLAGS.listen,
            authorized_keys=FLAGS.authorized_keys,
            host_key=FLAGS.host_key,
            ttl=FLAGS.ttl,
            user=FLAGS.user,
            threaded=FLAGS.threaded,
            open_at_start=FLAGS.open,
        )

    def open_files(self) -> int:
        """Return how many files there may be, as a guess: of sessions, and what people look into."""
        return 32

    async def bind(self, sockets: Sockets) -> None:
        """Bind what is to be open from the start: what is wrong with it ends the start before others begin.

        :raises StartError: when a port, a key or a library is missing.
        """
        if self._open_at_start:
            self._bound = await self._bind(sockets)

    async def start(self) -> None:
        """Stay closed, unless it is to be open from the start.

        :raises StartError: when it cannot be opened.
        """
        self._over = False
        if self._open_at_start:
            await self.open()

    async def unbind(self) -> None:
        """Close: SIGUSR2 may have opened it while other parts were about to start."""
        bound, self._bound = self._bound, None
        if bound is not None:
            await bound.unbind()
        await self.stop()

    async def stop(self) -> None:
        """Close, for good."""
        self._over = True
        await self.close("the process stops")

    async def open(self, ttl: float | None = None) -> None:
        """Open for `ttl` seconds; when it is open, stay open for that long from now.

        :raises StartError: when a port, a key or a library is missing; nothing has changed then.
        """
        await self._in_turn(self._open(self._ttl if ttl is None else ttl))

    async def close(self, reason: str) -> None:
        """Close, and end every session, telling it the reason. Harmless when it is closed."""
        await self._in_turn(self._close(reason))

    def toggle(self) -> None:
        """Open or close, soon; what prevents it goes to the log, for the caller is a signal."""
        defer.Deferred.fromCoroutine(self._toggle_in_turn())

    async def _toggle_in_turn(self) -> None:
        try:
            await self._in_turn(self._toggle())
        except StartError as error:
            log.error("manhole.open_failed", problem=str(error))  # noqa: TRY400  no bug of ours

    def addresses(self) -> list[str]:
        """Give the addresses at which it listens; none while it is closed."""
        return self._listener.addresses() if self._listener else []

    def connections(self) -> list[OpenConnection]:
        """Return the open connections."""
        if self._server is None:
            return []
        now = self._reactor.seconds()
        return connections.open_connections(self.label, self._server, lambda each: float(now - each.since))

    def metrics(self) -> Iterator[Metric]:
        """Return how many sessions there are, and what has been counted."""
        state, counts = self.state(), self.counts
        yield gauge("manhole_open", "1 while it is open.", state["open"])
        yield gauge("manhole_sessions", "People in it.", len(state["sessions"]))
        yield counter("manhole_openings", "Times it was opened.", counts.opened)
        yield counter("manhole_logins", "Times somebody got in.", counts.logins)
        yield counter("manhole_refusals", "Keys and connections refused.", counts.refused)

    def state(self) -> dict[str, Any]:
        """Return what can be seen from outside; times in seconds since the epoch."""
        logins = [each.login for each in self._server.logins] if self._server else []
        return {
            "open": self._server is not None,
            "addresses": self.addresses(),
            "closes_at": self._closes_at,
            "sessions": sorted(
                (login.state() for login in logins if login), key=lambda state: state["since"]
            ),
        }

    async def _in_turn(self, work: Coroutine[defer.Deferred[Any], Any, None]) -> None:
        """Do one thing after the other: a second signal finds the first one's work done.

        It goes on when the awaiting ends: a session may close the manhole,
        which ends the session and cancels what it awaits.
        """
        done: defer.Deferred[None] = defer.Deferred()
        turn = self._turn.run(defer.Deferred.fromCoroutine, work)
        turn.addBoth(lambda result: None if done.called else done.callback(result))
        await done

    async def _toggle(self) -> None:
        if self._server:
            await self._close("toggled")
        else:
            await self._open(self._ttl)

    async def _open(self, ttl: float) -> None:
        event = "manhole.extended"
        if not self._server:
            event = "manhole.opened"
            await self._begin()
        self._expire_after(ttl)
        if self._server and self._listener:
            audit.info(event, ttl=ttl, **invitation(self._server, self._listener.addresses(), self._user))

    async def _begin(self) -> None:
        if self._over:
            raise StartError("--manhole.open: the process stops")
        listener, self._bound = self._bound or await self._bind(self._process.sockets), None
        await listener.start()
        self._server, self._listener = cast("SSHServer", listener.factory), listener
        self.counts.opened += 1

    async def _bind(self, sockets: Sockets) -> Listener:
        if not self._listen:
            raise WrongFlagsError(
                "--manhole.listen: empty; name an endpoint, such as tcp:8022:interface=127.0.0.1"
            )
        try:
            authorized = keys.read_authorized_keys(self._authorized_keys)
        except keys.KeyFileError as fault:
            raise StartError(f"--manhole.authorized_keys: {fault}") from None
        server = self._make_server()
        listener = Listener(
            "manhole", flag="manhole.listen", endpoints=self._listen, factory=server, reactor=self._reactor
        )
        await listener.bind(sockets)
        for line, reason in authorized.unusable():
            log.warning("manhole.key_skipped", file=self._authorized_keys, line=line, reason=reason)
        return listener

    def _make_server(self) -> SSHServer:
        try:
            from halfsync.manhole.ssh_server import SSHServer  # noqa: PLC0415  it imports conch
            from halfsync.manhole.tools import Tools  # noqa: PLC0415  the same
        except ImportError as error:
            raise StartError(f"--manhole.open: Twisted[conch] is not installed whole: {error}") from error
        try:
            host_key = load_host_key(self._host_key)
        except keys.KeyFileError as fault:
            raise StartError(f"--manhole.host_key: {fault}") from None
        return SSHServer(
            host_key=host_key,
            user=self._user,
            authorized_keys=self._authorized_keys,
            tools=Tools(self._process, self.state, threaded=self._threaded),
            counts=self.counts,
            reactor=self._reactor,
        )

    async def _close(self, reason: str) -> None:
        if not self._server or not self._listener:
            return
        server, listener = self._server, self._listener
        if self._expiry.active():
            self._expiry.cancel()
        sessions = len(server.logins)
        server.reason = reason
        await listener.drain()
        await listener.stop()
        server.tools.end()
        self._server = self._listener = self._closes_at = None
        audit.info("manhole.closed", reason=reason, sessions=sessions)

    def _expire_after(self, ttl: float) -> None:
        if self._expiry and self._expiry.active():
            self._expiry.reset(ttl)
        else:
            self._expiry = self._reactor.callLater(ttl, self._expired)
        self._closes_at = time.time() + ttl

    def _expired(self) -> None:
        defer.Deferred.fromCoroutine(self.close("its time is over"))
