"""Calls of `hello.thrift`, as Apache's runtime writes them, over any socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rpc_tools import framed, hello, read_result

if TYPE_CHECKING:
    import socket


def call_hello(sock: socket.socket, name: str) -> str:
    """Call `hello`, and return its result.

    :raises TApplicationException: as the service answers.
    """
    sock.sendall(framed(hello(name)))
    with sock.makefile("rb") as read:
        answer = read.read(int.from_bytes(read.read(4), "big"))
    return str(read_result(answer, "hello"))
