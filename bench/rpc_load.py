"""A raw generator of RPC calls: it replays a frame, counts the bytes that come back, and takes the times.

Answers have one length, so nothing is decoded; logins (SCRAM-SHA-256) compute the salted password once.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import select
import socket
import time
from dataclasses import dataclass
from statistics import quantiles

NAME, PASSWORD = "anna", "pencil"

_CALL = b"\x80\x01\0\1\0\0\0\5hello\0\0\0\1\x0b\0\1\0\0\0\4Anna\0"
FRAME = len(_CALL).to_bytes(4, "big") + _CALL
ANSWER = 4 + 4 + 4 + 5 + 4 + 3 + 4 + len("Hello, Anna!") + 1


@dataclass(frozen=True)
class Load:
    """What a run has shown."""

    rate: float
    """Calls a second."""
    p99: float
    """Milliseconds from a batch of calls to its last answer, of all connections that were served."""
    served: int
    """Connections that had an answer."""

    def as_json(self) -> dict[str, float]:
        """Return it as plain numbers."""
        return {"rate": round(self.rate), "p99_ms": round(self.p99, 2), "served": self.served}


def call(socks: list[socket.socket], depth: int, seconds: float) -> Load:
    """Keep `depth` calls under way on each connection."""
    batch = FRAME * depth
    wanted = ANSWER * depth
    poll = select.epoll()
    left: dict[int, list[float]] = {}
    by_number = {}
    for each in socks:
        each.settimeout(0)
        poll.register(each.fileno(), select.EPOLLIN)
        by_number[each.fileno()] = each
        left[each.fileno()] = [wanted, time.perf_counter(), 0]
        each.send(batch)
    begun = now = time.perf_counter()
    end = begun + seconds
    times = []
    answered = 0
    while now < end:
        for number, _ in poll.poll(0.5):
            state = left[number]
            sock = by_number[number]
            data = sock.recv(65536)
            if not data:
                raise ConnectionError("the server ended a connection")
            state[0] -= len(data)
            answered += len(data)
            if state[0] <= 0:
                now = time.perf_counter()
                times.append(now - state[1])
                state[:] = [wanted, now, state[2] + 1]
                sock.send(batch)
            else:
                # Peers that write answer by answer would else wait 40 ms for our delayed ACK (Nagle).
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        now = time.perf_counter()
    took = now - begun
    # What is still under way is taken, so that the connections can be used again.
    patience = time.monotonic() + 5
    while time.monotonic() < patience and any(each[0] > 0 and each[2] for each in left.values()):
        for number, _ in poll.poll(0.2):
            left[number][0] -= len(by_number[number].recv(65536))
    poll.close()
    served = sum(each[2] > 0 for each in left.values())
    p99 = quantiles(times, n=100)[98] * 1000 if len(times) > 100 else 0.0
    return Load(answered / ANSWER / took, p99, served)


class Logins:
    """Logs in as one user; the salted password is computed once."""

    def __init__(self) -> None:
        self._salted: dict[tuple[bytes, int], bytes] = {}

    def login(self, sock: socket.socket) -> None:
        """Log in, in three messages each way.

        :raises ConnectionError: when the server does not let us in, or cannot prove itself.
        """
        first = f"n={NAME},r={secrets.token_hex(12)}"
        sock.sendall(_pack(1, b"SCRAM-SHA-256") + _pack(2, b"n,," + first.encode()))
        challenge = _read(sock, 2).decode()
        nonce, salt, rounds = (part[2:] for part in challenge.split(",")[:3])
        key = (base64.b64decode(salt), int(rounds))
        if key not in self._salted:
            self._salted[key] = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), *key)
        salted = self._salted[key]
        client = hmac.digest(salted, b"Client Key", "sha256")
        final = f"c=biws,r={nonce}"
        message = f"{first},{challenge},{final}".encode()
        signature = hmac.digest(hashlib.sha256(client).digest(), message, "sha256")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(client, signature, strict=True))).decode()
        sock.sendall(_pack(2, f"{final},p={proof}".encode()))
        server = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256")
        if _read(sock, 5) != b"v=" + base64.b64encode(server):
            raise ConnectionError("the server has not proved itself")


def connect(port: int, logins: Logins | None) -> socket.socket:
    """Return a connection, after the login if there is one."""
    sock = socket.create_connection(("127.0.0.1", port), 30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if logins is not None:
        logins.login(sock)
    return sock


def _pack(status: int, payload: bytes) -> bytes:
    return bytes((status,)) + len(payload).to_bytes(4, "big") + payload


def _read(sock: socket.socket, wanted: int) -> bytes:
    head = _exactly(sock, 5)
    payload = _exactly(sock, int.from_bytes(head[1:], "big"))
    if head[0] != wanted:
        raise ConnectionError(f"the server answered {head[0]}: {payload!r}")
    return payload


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise ConnectionError("the server ended the connection")
        data += piece
    return data
