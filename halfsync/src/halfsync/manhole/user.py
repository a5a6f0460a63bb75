"""The authenticated user of one connection, as conch's channels meet it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.conch.avatar import ConchUser

from halfsync._twisted import logs_to
from halfsync.manhole.log_filter import conch_log

if TYPE_CHECKING:
    from halfsync.manhole.keys import AuthorizedKey
    from halfsync.manhole.login import Login
    from halfsync.manhole.tools import Tools


@logs_to(conch_log)
class User(ConchUser):
    """May open sessions, and nothing else: no forwarding, no files."""

    def __init__(self, name: str, key: AuthorizedKey, *, session: type, tools: Tools, reactor: Any) -> None:
        """Prepare to open sessions.

        :param session: the class of channel that a session is.
        """
        ConchUser.__init__(self)
        self.channelLookup[b"session"] = session
        self.name = name
        self.key = key
        self.reactor = reactor
        self.tools = tools
        self.login: Login
