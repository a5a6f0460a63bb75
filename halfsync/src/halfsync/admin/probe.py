"""`--probe`: ask the process that runs with the same flags whether it is ready.

For the health checks of containers and units, where curl is often missing, and a proxy set in the environment
(`http_proxy`) sends it elsewhere: this goes to the socket of the admin listener, and nowhere else.
"""

from __future__ import annotations

import http.client
import json
import socket
import sys
from contextlib import closing
from typing import TYPE_CHECKING

from halfsync._later import later
from halfsync.endpoints.sockets import Tcp, Unix

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from halfsync.endpoints.endpoint import Endpoint
else:
    ssl = later("ssl")

TIMEOUT = 5.0
"""Seconds that each step of the question may take."""

_ANY = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  where to ask who listens there


def probe(listen: Sequence[Endpoint]) -> int:
    """Ask the first endpoint that can be asked; print the answer, and return 0 when it is ready, else 1."""
    for endpoint in listen:
        source = endpoint.source
        if not endpoint.proxied and (isinstance(source, Unix) or (isinstance(source, Tcp) and source.port)):
            break
    else:
        return _told(
            "--admin.listen names no address that another process can ask (tcp:PORT or unix:PATH)", 1
        )
    try:
        with closing(_connect(endpoint)) as connection:
            asking = http.client.HTTPConnection("localhost")
            asking.sock = connection
            asking.request("GET", "/health/ready", headers={"Connection": "close"})
            answer = asking.getresponse()
            text = answer.read(65536)
    except (OSError, http.client.HTTPException) as error:
        return _told(f"{endpoint.text}: {str(error) or type(error).__name__}", 1)
    if answer.status == 200:
        return _told("ready", 0)
    return _told(f"not ready: {_problems(text) or answer.status}", 1)


def _connect(endpoint: Endpoint) -> socket.socket:
    source = endpoint.source
    if isinstance(source, Unix):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(TIMEOUT)
        connection.connect(source.path)
    elif isinstance(source, Tcp):
        connection = socket.create_connection((_ANY.get(source.host, source.host), source.port), TIMEOUT)
    if endpoint.certificates is not None:
        # Whose certificate it is does not matter: the address is our own.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context.wrap_socket(connection)
    return connection


def _problems(text: bytes) -> str:
    try:
        return "; ".join(json.loads(text)["problems"])
    except (ValueError, KeyError, TypeError):
        return ""


def _told(text: str, code: int) -> int:
    # Who answers may be anybody: one line, and nothing that a terminal obeys.
    shown = "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
    print(shown, file=sys.stderr if code else sys.stdout)
    return code
