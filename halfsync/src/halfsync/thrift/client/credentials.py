"""How a client proves who it is (SASL): steps that take the server's messages and give what to send.

The server proves itself, too, with SCRAM: it must know the password's keys, or the login fails.
A step may take long (PBKDF2, as often as the server says, within a bound), and so runs in a thread.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from scramp import ScramClient, ScramException

from halfsync.thrift.client.errors import LoginFailed
from halfsync.thrift.mechanisms import ALL, PLAIN, SCRAM, SCRAM_PLUS

FEWEST, MOST = 4096, 1_000_000
"""Rounds of PBKDF2 that a server may ask for: fewer are unsafe (RFC 7677 section 4), more take for ever."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user's name and password, and how they are proved.

    :param mechanism: `SCRAM-SHA-256`, `SCRAM-SHA-256-PLUS` (over TLS, bound to that very connection),
        or `PLAIN` (over TLS or a UNIX socket).
    """

    user: str
    password: str = field(repr=False)
    mechanism: str = SCRAM

    def fault(self, *, tls: bool, private: bool) -> str | None:
        """Say why they cannot be used on such a connection; None when they can."""
        if self.mechanism not in ALL:
            return f"mechanism: {self.mechanism!r} is none of {', '.join(ALL)}"
        if self.mechanism == SCRAM_PLUS and not tls:
            return f"mechanism: {SCRAM_PLUS} needs TLS"
        if self.mechanism == PLAIN and not (tls or private):
            return (
                f"mechanism: {PLAIN} needs TLS or a UNIX socket, or everybody on the way reads the password"
            )
        return None

    def begin(self, binding: bytes | None) -> Dialogue:
        """Return a new login; `binding` is that of the TLS connection, `tls-server-end-point`.

        :raises LoginFailed: when name or password cannot be used.
        """
        if self.mechanism == PLAIN:
            return _Plain(self)
        return _Scram(self, binding)


class Dialogue(Protocol):
    """One login, as the client has it."""

    def first(self) -> bytes:
        """Return the first message."""

    def next(self, challenge: bytes) -> bytes:
        """Return the answer to a challenge.

        :raises LoginFailed: when it is none that can be answered.
        """

    def finish(self, proof: bytes) -> None:
        """Take what the server says when it lets us in.

        :raises LoginFailed: when it has not proved itself.
        """


class _Plain:
    def __init__(self, credentials: Credentials) -> None:
        self._message = f"\0{credentials.user}\0{credentials.password}".encode()

    def first(self) -> bytes:
        return self._message

    def next(self, challenge: bytes) -> bytes:
        raise LoginFailed(f"the server asks {len(challenge)} bytes more, which {PLAIN} does not know")

    def finish(self, proof: bytes) -> None:
        """PLAIN proves nothing of the server; TLS did."""


class _Scram:
    def __init__(self, credentials: Credentials, binding: bytes | None) -> None:
        plus = credentials.mechanism == SCRAM_PLUS
        channel = ("tls-server-end-point", binding) if plus else None
        try:
            self._client = ScramClient(
                [credentials.mechanism], credentials.user, credentials.password, channel_binding=channel
            )
        except (ScramException, ValueError) as error:
            raise LoginFailed(_line(error)) from error
        self._proved = False

    def first(self) -> bytes:
        return str(self._client.get_client_first()).encode()

    def next(self, challenge: bytes) -> bytes:
        try:
            self._client.set_server_first(challenge.decode("utf-8"))
            rounds = int(self._client.iterations)
            if not FEWEST <= rounds <= MOST:
                raise LoginFailed(f"the server asks for {rounds} rounds; {FEWEST} to {MOST} are taken")
            answer = str(self._client.get_client_final()).encode()
        except (ScramException, ValueError) as error:
            raise LoginFailed(_line(error)) from error
        self._proved = True
        return answer

    def finish(self, proof: bytes) -> None:
        if not self._proved:
            raise LoginFailed("the server let us in without a question: it has proved nothing")
        try:
            self._client.set_server_final(proof.decode("utf-8"))
        except (ScramException, ValueError) as error:
            raise LoginFailed(f"the server has not proved itself: {_line(error)}") from error


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200] or type(error).__name__
