"""What a client may cost: sizes and times, each with a safe default."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Sizes in bytes, times in seconds."""

    max_body: int = 10 * 1024 * 1024
    """Beyond it 413."""
    max_head: int = 16 * 1024
    """Request line and header lines together; beyond it 414 or 431."""
    max_headers: int = 100
    """Header lines; beyond it 431."""
    idle_timeout: float = 60.0
    """From one response to the first byte of the next request."""
    request_timeout: float = 30.0
    """From the first byte of a request to its last; beyond it 408. Every byte sent buys no time."""
    write_timeout: float = 60.0
    """For a client to take what is ready for it, at `min_rate`."""
    min_rate: int = 1024
    """Bytes a second that a client must take of what is ready, on average over `write_timeout`."""
    spool: int = 256 * 1024 * 1024
    """Disk for what slow clients have not taken yet, all of them together; beyond it a thread waits."""
    memory: int = 256 * 1024 * 1024
    """Memory for everything that requests and responses of all connections hold."""
    most_files: int = 1024
    """Responses on the disk at a time, and as many requests; beyond it they find no room there."""
    max_connections: int = 10_000
    """Beyond it the one that has been idle longest makes room; where none is idle, 503."""
    max_connections_per_client: int = 0
    """Beyond it 503; 0 for a quarter of `max_connections`."""

    @property
    def share(self) -> int:
        """Connections that one client may have."""
        return self.max_connections_per_client or max(1, self.max_connections // 4)

    @property
    def connections(self) -> int:
        """Connections at a time, those included that are being turned away."""
        return self.max_connections + self.most_turned_away

    @property
    def most_turned_away(self) -> int:
        """Connections that are told so politely at a time, beyond `max_connections`."""
        return self.max_connections // 8 + 64
