"""The SASL mechanisms, as servers: PLAIN (RFC 4616), SCRAM-SHA-256 and -PLUS (RFC 5802, 7677), by scramp.

A mechanism is used once, from one thread: `step` takes the client's messages and returns what to answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from scramp import ScramException, ScramMechanism
from scramp.utils import saslprep

from halfsync.thrift.call import Identity

if TYPE_CHECKING:
    from halfsync.thrift.users import Users

PLAIN = "PLAIN"
SCRAM = "SCRAM-SHA-256"
SCRAM_PLUS = "SCRAM-SHA-256-PLUS"
ALL = (SCRAM_PLUS, SCRAM, PLAIN)

LONGEST_NAME = 256


class LoginRefused(Exception):  # noqa: N818  what happened to the client
    """The client did not prove what it says it is."""

    def __init__(self, reason: str, user: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        """For the log; the client hears no reason."""
        self.user = user


@dataclass(frozen=True, slots=True)
class Step:
    """An answer to the client."""

    payload: bytes
    identity: Identity | None
    """Set when the login is complete."""


class Mechanism(Protocol):
    """One login."""

    def step(self, response: bytes) -> Step:
        """Take the client's next message.

        :raises LoginRefused: when it does not get in.
        :raises UsersError: when nobody can.
        """


class Plain:
    """A name and a password, as they are."""

    def __init__(self, users: Users) -> None:
        self._users = users

    def step(self, response: bytes) -> Step:
        """Take `authzid NUL name NUL password`."""
        try:
            authzid, name, password = response.decode("utf-8").split("\0")
        except ValueError:
            raise LoginRefused("the response is not that of PLAIN") from None
        if len(name) > LONGEST_NAME or authzid not in ("", name):
            raise LoginRefused(
                "it asks to act for somebody else, or its name is too long", name[:LONGEST_NAME]
            )
        try:
            name, password = saslprep(name), saslprep(password)
        except ScramException:
            raise LoginRefused("name or password hold prohibited characters", name) from None
        if not self._users.keys(name).matches(password):
            raise LoginRefused("there is no such user, or the password is wrong", name)
        return Step(b"", Identity(name, PLAIN))


class Scram:
    """A proof that the client knows the password, without sending it; with PLUS, on this TLS connection."""

    def __init__(self, name: str, users: Users, binding: bytes | None) -> None:
        """Begin.

        :param binding: `tls-server-end-point`, where the server offers the PLUS variant. A client that knows
            channel binding then finds out when somebody between the two took that offer away.
        """
        self._mechanism = name
        self._users = users
        self._user = ""
        self._begun = False
        channel = None if binding is None else ("tls-server-end-point", binding)
        self._server = ScramMechanism(name).make_server(self._find, channel_binding=channel)
        self._failure: Exception | None = None

    def step(self, response: bytes) -> Step:
        """Take the client's first message, then its final one."""
        try:
            text = response.decode("utf-8")
            if not self._begun:
                self._begun = True
                self._server.set_client_first(text)
                return Step(self._server.get_server_first().encode(), None)
            self._server.set_client_final(text)
            final = self._server.get_server_final().encode()
        except (ScramException, ValueError) as error:
            if self._failure is not None:
                raise self._failure from error
            raise LoginRefused(_reason(error), self._user) from error
        return Step(final, Identity(self._user, self._mechanism))

    def _find(self, name: str) -> tuple[bytes, bytes, bytes, int]:
        self._user = name[:LONGEST_NAME]
        try:
            keys = self._users.keys(name)
        except Exception as error:
            # scramp tells nobody what it was.
            self._failure = error
            raise
        return keys.salt, keys.stored_key, keys.server_key, keys.iterations


def make(name: str, users: Users, binding: bytes | None) -> Mechanism:
    """Return a new login by the mechanism of that name."""
    return Plain(users) if name == PLAIN else Scram(name, users, binding)


def _reason(error: Exception) -> str:
    text = str(error)
    if "keys don't match" in text:
        return "there is no such user, or the password is wrong"
    return text.partition("\n")[0][:200] or type(error).__name__
