"""A connection without TLS may begin as one of HTTP/2, and only begin (RFC 9113 section 3.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from halfsync.http.h1 import H1

H2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends first that knows already that we speak HTTP/2."""


def may_be_h2(connection: H1) -> bool:
    """Go on in HTTP/2, or wait for the rest of its preface; False when what has come is none."""
    begin = connection.parser.waiting
    if connection.asked or not connection.context.has_h2:
        return False
    if begin.startswith(H2_PREFACE):
        connection.context.speak_h2(connection).dataReceived(begin)
        return True
    return H2_PREFACE.startswith(begin)
