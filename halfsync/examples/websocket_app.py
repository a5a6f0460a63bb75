"""A chat over websockets beside a Flask application: what one client says, all hear.

pip install flask wsproto    # beside halfsync
python websocket_app.py --web.listen=tcp:9000     # then open http://127.0.0.1:9000/
"""

import sys

from flask import Flask
from twisted.python.failure import Failure
from twisted.web.server import Request
from twisted.web.websocket import WebSocketTransport

from halfsync import About, WebSockets, serve_wsgi

app = Flask(__name__)

PAGE = """<!doctype html><title>Chat</title><pre></pre><input autofocus>
<script>
const socket = new WebSocket(location.href.replace("http", "ws") + "chat");
socket.onmessage = event => document.querySelector("pre").append(event.data + "\\n");
document.querySelector("input").onchange = event => {
  socket.send(event.target.value);
  event.target.value = "";
};
</script>
"""


@app.get("/")
def front() -> str:
    """Show a page that talks to the websocket."""
    return PAGE


class Member:
    """One client, in the reactor: nothing here may block."""

    def __init__(self, room: "Room") -> None:
        self.room = room
        self.transport: WebSocketTransport

    def negotiationStarted(self, transport: WebSocketTransport) -> None:
        """Keep what messages are sent by."""
        self.transport = transport

    def negotiationFinished(self) -> None:
        """Join, now that the client can hear."""
        self.room.members.add(self)

    def textMessageReceived(self, message: str) -> None:
        """Tell everybody."""
        for member in list(self.room.members):
            member.transport.sendTextMessage(message)

    def bytesMessageReceived(self, data: bytes | bytearray) -> None:  # noqa: ARG002  the name is Twisted's
        """Refuse what is no text (1003, RFC 6455 section 7.4.1)."""
        self.transport.loseConnection(1003)

    def pongReceived(self, payload: bytes) -> None:
        """Hear that the client is there."""

    def connectionLost(self, reason: Failure) -> None:  # noqa: ARG002  the same
        """Leave."""
        self.room.members.discard(self)


class Room:
    """All who listen."""

    def __init__(self) -> None:
        self.members: set[Member] = set()

    def buildProtocol(self, request: Request) -> Member:  # noqa: ARG002  the same
        """Let a client in; its cookies and headers are the request's."""
        return Member(self)


if __name__ == "__main__":
    room = WebSockets(Room())
    sys.exit(serve_wsgi(app, About("websocket-app", version="1.0"), beside=lambda _: {"/chat": room}))
