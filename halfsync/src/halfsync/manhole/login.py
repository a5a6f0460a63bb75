"""A login: the user's name, key and address, and the counts of logins and refusals.

Nothing here imports conch: the counts are there while the manhole is closed.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from halfsync.manhole.keys import fingerprint

if TYPE_CHECKING:
    from halfsync.manhole.keys import AuthorizedKey


@dataclass
class ManholeCounts:
    """What the manhole has counted since the process began."""

    opened: int = 0
    logins: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Login:
    """An authenticated connection."""

    id: str
    user: str
    peer: str
    fingerprint: str
    key: str
    """The comment of the key's line in `authorized_keys`: whose key it is, when people share a user name."""
    since: float
    """Seconds since the epoch."""

    @classmethod
    def begin(cls, session: str, user: str, key: AuthorizedKey, peer: str) -> Login:
        """Return the login that begins now."""
        return cls(session, user, peer, fingerprint(key.blob), key.comment, time.time())

    def facts(self) -> dict[str, str]:
        """Return what every event about it says."""
        return {
            "session": self.id,
            "user": self.user,
            "peer": self.peer,
            "fingerprint": self.fingerprint,
            "key": self.key,
        }

    def state(self) -> dict[str, Any]:
        """Return all of it."""
        return asdict(self)
