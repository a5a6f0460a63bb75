"""A connection without TLS may begin as one of HTTP/2, and only begin (RFC 9113 section 3.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from halfsync.http.h2.frames import PREFACE

if TYPE_CHECKING:
    from halfsync.http.h1 import H1


def may_be_h2(connection: H1) -> bool:
    """Go on in HTTP/2, or wait for the rest of its preface; False when what has come is none."""
    begin = connection.parser.waiting
    if connection.asked:
        return False
    if begin.startswith(PREFACE):
        connection.give_way()
        connection.context.speak_h2(connection).dataReceived(begin)
        return True
    return PREFACE.startswith(begin)
