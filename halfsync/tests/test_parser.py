"""The parser of HTTP/1.1 by itself: bytes in, events out; and beside h11."""

from __future__ import annotations

import random

import pytest

from fuzz_parser import SEEDS, check, mutated
from halfsync.http.bounds import Bounds
from halfsync.http.head import Refused
from halfsync.http.parser import END, Parser
from halfsync.http.stream import RequestHead

TWO = (
    b"\r\nPOST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
    b"POST /b HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2\r\nde\r\n1;x=y\r\nf\r\n0\r\nX: y\r\n\r\n"
    b"GET /c HTTP/1.0\r\n\r\n"
)


def events(parser, data):
    """Feed bytes; return what comes, pieces of bodies joined."""
    parser.feed(data)
    found = []
    while (event := parser.next()) is not None:
        if isinstance(event, bytes) and found and isinstance(found[-1], bytes):
            found[-1] += event
        else:
            found.append(event.target if isinstance(event, RequestHead) else event)
    return found


def test_events():
    """A head, then the body, then its end; a request without a body is its head."""
    parser = Parser(Bounds())
    assert events(parser, TWO) == ["/a", b"abc", END, "/b", b"def", END, "/c"]
    assert parser.between


@pytest.mark.parametrize("step", range(1, len(TWO)))
def test_segmentation(step):
    """However the bytes are cut."""
    parser = Parser(Bounds())
    found = []
    for start in range(0, len(TWO), step):
        for event in events(parser, TWO[start : start + step]):
            if isinstance(event, bytes) and found and isinstance(found[-1], bytes):
                found[-1] += event
            else:
                found.append(event)
    assert found == ["/a", b"abc", END, "/b", b"def", END, "/c"]


def test_nothing_is_read_ahead():
    """The next request is read when it is asked for."""
    parser = Parser(Bounds())
    parser.feed(SEEDS[0] + b"nonsense\r\n\r\n")
    assert isinstance(parser.next(), RequestHead)
    assert parser.ahead == len(b"nonsense\r\n\r\n")
    assert not parser.between
    with pytest.raises(Refused):
        parser.next()


def test_a_body_that_goes_by():
    """Of a counted body the connection may take bytes itself."""
    parser = Parser(Bounds())
    parser.feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
    assert parser.next().length == 10
    parser.took(4)
    assert parser.left == 6
    parser.took(6)
    assert parser.between
    assert events(parser, SEEDS[0]) == ["/"]


def test_many_small_chunks_are_read_in_linear_time():
    """Cutting the buffer for each of 20,000 chunks would copy gigabytes."""
    parser = Parser(Bounds())
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    found = events(parser, head + b"1\r\nx\r\n" * 200_000 + b"0\r\n\r\n")
    assert found == ["/", b"x" * 200_000, END]


@pytest.mark.parametrize("seed", range(20))
def test_beside_h11(seed):
    """Whatever ours takes of bent requests, h11 takes in the same way; `make fuzz` goes on with it."""
    rng = random.Random(seed)
    for _ in range(150):
        check(mutated(rng), rng)


CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def refusal(bounds, data):
    """Return the status of the refusal, whole and byte by byte; None when all is taken."""
    statuses = []
    for step in (len(data), 1):
        parser = Parser(bounds)
        try:
            for start in range(0, len(data), step):
                events(parser, data[start : start + step])
            statuses.append(None)
        except Refused as refused:
            statuses.append(refused.code)
    assert statuses[0] == statuses[1], "it depends on how the bytes are cut"
    return statuses[0]


def test_a_head_is_as_long_as_it_may_be_and_no_longer():
    """To the byte: 414 where the request line alone is too long, else 431."""
    line, rest = b"GET / HTTP/1.1\r\n", b"Host: a\r\n\r\n"
    longest = len(line + rest) - 4
    assert refusal(Bounds(max_head=longest), line + rest) is None
    assert refusal(Bounds(max_head=longest - 1), line + rest) == 431
    assert refusal(Bounds(max_head=10), b"GET /" + b"x" * 100) == 414


def test_a_body_is_as_long_as_it_may_be_and_no_longer():
    """Whether its length is told ahead or not, and however it is cut into chunks."""
    counted = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
    bounds = Bounds(max_body=4)
    assert refusal(bounds, counted % 4 + b"abcd") is None
    assert refusal(bounds, counted % 5) == 413
    assert refusal(bounds, CHUNKED + b"2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n") is None
    assert refusal(bounds, CHUNKED + b"2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n") == 413


def test_one_empty_line_may_come_before_a_request():
    """RFC 9112 section 2.2; each request is allowed one, and no more."""
    request = b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"
    assert refusal(Bounds(), request * 3) is None
    assert refusal(Bounds(), request + b"\r\n" + request) == 400


@pytest.mark.parametrize("wrong", [b"\x00", b"\x0b", b"\x1f", b"\x7f", b"\na", b"\ra", b"\r\ra", b"\n\r\n"])
@pytest.mark.parametrize("at", [40, 15_000])
def test_a_head_is_refused_before_its_end(wrong, at):
    """A control character, a bare CR and a bare LF are found when they come, wherever the bytes are cut."""
    begin = b"GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n".ljust(at, b"a") + b"\r\nY: b"
    for cut in (0, 1, 2, 3, 4):
        parser = Parser(Bounds())
        parser.feed(begin[: len(begin) - cut])
        assert parser.next() is None
        parser.feed(begin[len(begin) - cut :] + b"\r\n")
        assert parser.next() is None
        assert refusal(Bounds(), begin + b"\r\nZ: c" + wrong + b"d") == 400
        parser.feed(b"Z: c" + wrong + b"d")
        with pytest.raises(Refused):
            parser.next()


def test_a_head_that_comes_byte_by_byte_is_not_refused():
    """A CR at the end of what has come may be followed by its LF, and an LF may have had its CR before."""
    parser = Parser(Bounds())
    head = b"GET / HTTP/1.1\r\nHost: x\r\nX: \xe4\tb\r\n\r\n"
    for each in head[:-1]:
        parser.feed(bytes([each]))
        assert parser.next() is None
    parser.feed(head[-1:])
    assert isinstance(parser.next(), RequestHead)
