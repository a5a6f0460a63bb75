"""Requests bent at random, read by our parser and by h11: whatever ours takes, h11 takes in the same way.

Ours refuses more than h11 does (bare LF, folded lines, a second Content-Length that is the same, and so on);
that two readers understand a request differently is what must not be.

    python halfsync/tests/fuzz_parser.py 60          fuzz for so many seconds, from a new seed
"""

from __future__ import annotations

import random
import sys
import time
from typing import Any

import h11

from halfsync.http.bounds import Bounds
from halfsync.http.head import Refused
from halfsync.http.parser import END, Parser
from halfsync.http.stream import RequestHead

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /x?y HTTP/1.1\r\nHost: a\r\n"
SEEDS = [
    HEAD + b"\r\n",
    HEAD + b"Connection: keep-alive\r\nCookie: a=b; c\r\nX:y\r\n\r\n",
    HEAD.replace(b"1.1", b"1.0") + b"\r\n",
    b"GET http://b:80/c?d HTTP/1.1\r\nHost: a\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    POST + b"Content-Length: 5\r\n\r\nhello",
    POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    POST + b'Transfer-Encoding: chunked\r\n\r\n5;a="b"\r\nhello\r\n0\r\nVary: *\r\n\r\n',
    POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\nA\r\n0123456789\r\n00\r\n\r\n",
    POST + b"Content-Length: 0\r\n\r\n" + HEAD + b"\r\n",
]
SPICES = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"\xff",
    b"/",
    b"0",
    b"-",
    b"+",
    b"_",
    b'"',
]
SPICES += [
    b"\x0b",
    b"\x7f",
    b"9" * 20,
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"\r\n\r\n",
]
SPICES += [
    b"HTTP/1.1",
    b"HTTP/1.2",
    b"GET ",
    b"Host: b\r\n",
    b"Connection: close\r\n",
    b"0\r\n\r\n",
    b" \t",
    b"#",
    b"?",
]
SPICES += [
    b"Transfer_Encoding: chunked\r\n",
    b"transfer-encoding:\tchunked\r\n",
    b"chunked, ",
    b"%00",
    b"@",
    b"x" * 300,
]

Read = tuple[str, str | None, list[tuple[str, str]], bytes]
"""Method, target, headers, body."""


def mutated(rng: random.Random) -> bytes:
    """Return one or two requests with a few faults."""
    data = bytearray(b"".join(rng.choice(SEEDS) for _ in range(rng.choice([1, 1, 2]))))
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(5):
            case 0:
                data[at:at] = rng.choice(SPICES)
            case 1:
                del data[at : at + rng.choice([1, 1, 2, 5])]
            case 2:
                data[at : at + 1] = bytes([rng.randrange(256)])
            case 3:
                start = rng.randrange(len(data) + 1)
                data[at:at] = data[start : start + rng.randrange(20)]
            case 4:
                data[at : at + 1] = data[at : at + 1].swapcase()
    return bytes(data)


def ours(data: bytes, steps: list[int]) -> tuple[list[Read], int | None]:
    """Return the requests that our parser reads, the last perhaps in part, and the status that ends it."""
    parser = Parser(Bounds())
    requests: list[Any] = []
    body = b""
    at = 0
    try:
        for step in steps:
            parser.feed(data[at : at + step])
            at += step
            while (event := parser.next()) is not None:
                if isinstance(event, RequestHead):
                    target = event.target if b" /" in data else None
                    requests.append(
                        [event.method, target, event.fields(), b"" if event.length == 0 else None]
                    )
                elif event is END:
                    requests[-1][3], body = body, b""
                else:
                    body += event
    except Refused as refusal:
        return [tuple(each) for each in requests if each[3] is not None], refusal.code
    return [tuple(each) for each in requests if each[3] is not None], None


def theirs(data: bytes) -> tuple[list[Read], bool]:
    """Return the requests that h11 reads, and whether it goes on after them."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    requests: list[Read] = []
    request, body = None, b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return requests, False
        if isinstance(event, h11.Request):
            request, body = event, b""
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            assert request is not None
            fields = [(name.decode(), value.decode("latin-1")) for name, value in request.headers]
            requests.append((request.method.decode(), request.target.decode(), fields, body))
            connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
            connection.send(h11.EndOfMessage())
            if connection.our_state is not h11.DONE:
                return requests, True
            connection.start_next_cycle()
        else:
            return requests, True


def check(data: bytes, rng: random.Random) -> None:
    """Compare.

    :raises AssertionError: when the two understand it differently, or ours depends on the segmentation.
    """
    found = ours(data, [len(data)])
    cuts: list[int] = []
    while sum(cuts) < len(data):
        cuts.append(rng.choice([1, 2, 3, 7, 50]))
    again = ours(data, cuts)
    # Of two faults, which one is seen first may depend on where the bytes are cut.
    alike = (again[0], again[1] is None) == (found[0], found[1] is None)
    assert alike, ("segmentation", data, found, again)
    expected, open_end = theirs(data)
    for number, (method, target, fields, body) in enumerate(found[0]):
        if number >= len(expected):
            # Unless the connection ends with this request, or h11 does not skip an empty line (RFC 9112 2.2).
            skipped = data.startswith(b"\r\n") or b"\r\n\r\n\r\n" in data or b"hello\r\n" in data
            assert open_end or skipped, ("h11 refuses", data, found, expected)
            return
        other = expected[number]
        assert method == other[0], ("method", data, found, expected)
        if other[1].startswith("/"):
            assert target == other[1], ("target", data, found, expected)
        assert normal(fields) == normal(other[2]), ("headers", data, found, expected)
        assert body == other[3], ("body", data, found, expected)


def normal(fields: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return headers in one spelling."""
    return [
        (name.lower(), value.lower() if name.lower() == "transfer-encoding" else value)
        for name, value in fields
    ]


def fuzz(seconds: float) -> int:
    """Check until the time is over; return how many requests that were."""
    seed = random.randrange(1 << 32)
    sys.stdout.write(f"seed {seed}\n")
    rng = random.Random(seed)
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end:
        check(mutated(rng), rng)
        count += 1
    return count


if __name__ == "__main__":
    sys.stdout.write(f"{fuzz(float(sys.argv[1]))} without a disagreement\n")
