"""What clients may cost: sizes and times, each with a safe default."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Sizes in bytes, times in seconds."""

    max_frame: int = 1024 * 1024
    """A longer frame, or one that is longer once unpacked, ends its connection."""
    max_connections: int = 10_000
    """Beyond it a new connection is closed at once."""
    memory: int = 128 * 1024 * 1024
    """Calls that arrive, wait or run, and answers that clients have not taken, of all connections.
    Beyond it the connection that holds most is cut."""
    idle_timeout: float = 3600.0
    """Between calls."""
    queue_timeout: float = 10.0
    """A call that has waited longer for a thread is answered `overloaded` and never run."""
    frame_timeout: float = 30.0
    """From the first byte of a frame to its last. Every byte sent buys no time."""
    write_timeout: float = 30.0
    """For a client to take the answers that are ready for it."""
    login_timeout: float = 10.0
    """From the connection to the end of the login, TLS included."""
    max_login: int = 64 * 1024
    """All that a client may send before it is known."""
    max_logins: int = 1024
    """Clients that are not known yet; beyond it, the one that has taken longest is cut."""
