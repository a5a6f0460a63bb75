"""What a port that speaks TLS answers to plain HTTP."""

from __future__ import annotations

from email.utils import formatdate

_BODY = b"This port speaks TLS: ask for https:// instead of http://.\n"


def plain_http_answer() -> bytes:
    """Return a response of HTTP/1.1 that says so, with 400."""
    head = (
        "HTTP/1.1 400 Bad Request\r\n"
        f"Date: {formatdate(usegmt=True)}\r\n"
        "Content-Type: text/plain\r\n"
        f"Content-Length: {len(_BODY)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode("ascii") + _BODY
