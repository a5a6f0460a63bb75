"""What RFC 9113 says a server must do with the frames of a client; `docs/http2.md` has the whole list."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from h2.errors import ErrorCodes
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from h2_tools import GET, POST, Client, data
from halfsync.http.h2.streams import MAX_STREAMS

TESTS = Path(__file__).parent
TABLE = TESTS.parents[1] / "docs" / "http2.md"

NEW = 5
"""A stream that has not begun."""


class Waiting(Resource):
    """Never answers."""

    isLeaf = True

    def render(self, request):
        return NOT_DONE_YET


def wire(kind: int, flags: int, number: int, payload: bytes = b"") -> bytes:
    """Return a frame, be it a wrong one."""
    return len(payload).to_bytes(3) + bytes((kind, flags)) + number.to_bytes(4) + payload


@pytest.mark.parametrize(
    ("code", "frame"),
    [
        pytest.param("FRAME_SIZE_ERROR", wire(6, 0, 0, b"short"), id="PING of five bytes"),
        pytest.param("PROTOCOL_ERROR", wire(6, 0, 1, bytes(8)), id="PING of a stream"),
        pytest.param("FRAME_SIZE_ERROR", wire(4, 0, 0, bytes(5)), id="SETTINGS of five bytes"),
        pytest.param("FRAME_SIZE_ERROR", wire(4, 1, 0, bytes(6)), id="SETTINGS confirmed with settings"),
        pytest.param("PROTOCOL_ERROR", wire(4, 0, 1), id="SETTINGS of a stream"),
        pytest.param("PROTOCOL_ERROR", wire(3, 0, NEW, bytes(4)), id="RST_STREAM of an idle stream"),
        pytest.param("PROTOCOL_ERROR", wire(3, 0, 0, bytes(4)), id="RST_STREAM of no stream"),
        pytest.param("FRAME_SIZE_ERROR", wire(3, 0, 1, bytes(3)), id="RST_STREAM of three bytes"),
        pytest.param("PROTOCOL_ERROR", wire(2, 0, 0, bytes(5)), id="PRIORITY of no stream"),
        pytest.param("FRAME_SIZE_ERROR", wire(8, 0, 0, bytes(3)), id="WINDOW_UPDATE of three bytes"),
        pytest.param("PROTOCOL_ERROR", wire(8, 0, NEW, b"\0\0\0\1"), id="WINDOW_UPDATE of an idle stream"),
        pytest.param("PROTOCOL_ERROR", wire(7, 0, 1, bytes(8)), id="GOAWAY of a stream"),
        pytest.param("PROTOCOL_ERROR", wire(0, 0, 0, b"x"), id="DATA of no stream"),
        pytest.param("PROTOCOL_ERROR", wire(1, 4, 0, b"\x82"), id="HEADERS of no stream"),
        pytest.param("PROTOCOL_ERROR", wire(1, 0xC, NEW, b"\x09\x82"), id="more padding than frame"),
        pytest.param("PROTOCOL_ERROR", wire(1, 0, NEW, b"\x82") + wire(6, 0, 0, bytes(8)), id="broken off"),
        pytest.param("PROTOCOL_ERROR", wire(1, 0, NEW, b"\x82") + wire(9, 4, 7, b"\x82"), id="of another"),
    ],
)
def test_connection_errors(code, frame):
    """The connection ends, with the code that the RFC has for it."""
    client = Client(resource=Waiting())
    client.request()
    client.send_bytes(frame)
    assert [each[1] for each in client.goaways] == [ErrorCodes[code]]
    assert not client.open


@pytest.mark.parametrize(
    ("code", "frame", "ended"),
    [
        pytest.param("PROTOCOL_ERROR", wire(8, 0, 1, bytes(4)), True, id="WINDOW_UPDATE by nothing"),
        pytest.param("FLOW_CONTROL_ERROR", wire(8, 0, 1, b"\x7f\xff\xff\xff"), True, id="a window too large"),
        pytest.param("STREAM_CLOSED", wire(0, 0, 1, b"x"), True, id="DATA after the end"),
        pytest.param("STREAM_CLOSED", wire(1, 5, 1, b"\x82"), True, id="HEADERS after the end"),
        pytest.param("PROTOCOL_ERROR", wire(1, 4, 1, b"\x82"), False, id="trailers that do not end"),
        pytest.param("PROTOCOL_ERROR", wire(1, 5, 1, b"\x82"), False, id="trailers with a pseudo-header"),
    ],
)
def test_stream_errors(code, frame, ended):
    """The stream ends, and the connection goes on."""
    client = Client(resource=Waiting())
    response = client.request(GET if ended else POST, end=ended)
    client.send_bytes(frame)
    assert response.reset == ErrorCodes[code]
    assert client.open
    assert client.goaways == []


def test_first_frame():
    """A client begins with SETTINGS; whatever else it begins with ends the connection."""
    client = Client(greet=False)
    client.send_bytes(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + wire(6, 0, 0, bytes(8)))
    assert [each[1] for each in client.goaways] == [ErrorCodes.PROTOCOL_ERROR]


def test_what_is_unknown():
    """Unknown types of frames, flags and settings are ignored, and the reserved bit."""
    client = Client()
    client.send_bytes(wire(0xEE, 0xFF, 1, b"x") + wire(4, 0, 0, b"\xff\xff" + bytes(4)))
    head = bytearray(client.head().serialize())
    head[4] |= 0xD0
    head[5] |= 0x80
    client.send_bytes(bytes(head))
    assert client.streams[1].status == 200


def test_confirmations():
    """Settings and pings are confirmed, with what came; confirmations are not."""
    client = Client()
    frames = client.send_bytes(wire(4, 0, 0) + wire(6, 0, 0, b"12345678"))
    assert [(each.type, sorted(each.flags)) for each in frames] == [(4, ["ACK"]), (6, ["ACK"])]
    assert frames[1].opaque_data == b"12345678"
    assert client.send_bytes(wire(4, 1, 0) + wire(6, 1, 0, b"12345678")) == []


def test_windows():
    """A settings frame changes open windows, also to less than nothing."""
    client = Client(lambda e, s: (s("200 OK", []), [b"x" * 100])[1])
    client.send_bytes(wire(4, 0, 0, b"\x00\x04" + (60).to_bytes(4)))
    response = client.request()
    assert response.body == b"x" * 60
    client.send_bytes(wire(4, 0, 0, b"\x00\x04" + (20).to_bytes(4)))
    client.send_bytes(wire(8, 0, 1, (40).to_bytes(4)))
    assert len(response.body) == 60
    client.send_bytes(wire(8, 0, 1, (40).to_bytes(4)))
    assert (len(response.body), response.ended) == (100, True)


def test_after_our_reset():
    """What comes on a stream that we have reset is dropped, and its window given back."""
    client = Client(max_body=10)
    client.request(POST, b"x" * 11, end=False)
    client.advance(3)
    frames = client.send(data(1, b"x" * 1000, end=False))
    assert client.open
    assert [each.window_increment for each in frames] == [1000]


BLOCK = b"\x82\x86\x84\x41\x01a"
"""A whole request: GET http://a/."""


@pytest.mark.parametrize("number", [1, 3])
def test_a_number_below_an_earlier_one(number):
    """Its stream was closed when the later one was opened."""
    client = Client(resource=Waiting())
    client.send_bytes(wire(1, 5, 5, BLOCK))
    assert [each.number for each in client.server.streams()] == [5]
    client.send_bytes(wire(1, 5, number, BLOCK))
    assert client.goaways == [(5, ErrorCodes.PROTOCOL_ERROR)]
    assert not client.open


@pytest.mark.parametrize("by", ["the end of both", "the client's reset"])
def test_a_head_on_a_stream_that_is_closed(by):
    """The client knows that it is: the connection ends."""
    client = Client(**({} if by == "the end of both" else {"resource": Waiting()}))
    for _ in range(3):
        client.request()
    if by == "the client's reset":
        client.send_bytes(wire(3, 0, 3, bytes(4)))
    assert client.open
    client.send_bytes(wire(1, 5, 3, BLOCK))
    assert client.goaways == [(5, ErrorCodes.STREAM_CLOSED)]
    assert not client.open


def test_a_head_that_crosses_our_reset():
    """The client may not know of it: of as many streams as it may have open, the connection goes on."""
    client = Client(max_body=10)
    for _ in range(MAX_STREAMS + 1):
        client.request(POST, b"x" * 11, end=False)
        client.advance(3)
    assert all(client.streams[each].reset is not None for each in (1, 3, 2 * MAX_STREAMS + 1))
    for number in (3, 2 * MAX_STREAMS + 1):
        assert client.send_bytes(wire(1, 5, number, b"\x00\x01x\x01y")) == []
        assert client.open
    client.send_bytes(wire(1, 5, 1, b"\x00\x01x\x01y"))
    assert [each[1] for each in client.goaways] == [ErrorCodes.STREAM_CLOSED]


def test_a_head_of_a_stream_that_was_one_too_many():
    """Its trailers may be on their way, too."""
    client = Client(resource=Waiting())
    for _ in range(MAX_STREAMS):
        client.request()
    assert client.request(POST, end=False).reset == ErrorCodes.REFUSED_STREAM
    assert client.send_bytes(wire(1, 5, 2 * MAX_STREAMS + 1, b"\x00\x01x\x01y")) == []
    assert client.open


def test_error_codes_that_nobody_knows():
    """They end what they are about, and nothing else."""
    client = Client(resource=Waiting())
    client.send_bytes(wire(1, 5, 1, BLOCK) + wire(1, 5, 3, BLOCK))
    client.send_bytes(wire(3, 0, 1, b"\xff\xff\xff\xff"))
    assert [each.number for each in client.server.streams()] == [3]
    client.send_bytes(wire(7, 0, 0, bytes(4) + b"\xff\xff\xff\xff"))
    assert [each.number for each in client.server.streams()] == [3]
    assert client.open


def test_what_may_come_on_a_stream_that_is_closed():
    """PRIORITY, WINDOW_UPDATE and RST_STREAM may have crossed the end of the answer: they change nothing."""
    client = Client()
    assert client.request().status == 200
    for kind, payload in ((2, bytes(5)), (8, b"\0\0\0\1"), (3, bytes(4))):
        client.send_bytes(wire(kind, 0, 1, payload))
        assert client.open
        assert client.goaways == []
    assert client.request().status == 200


def test_the_table():
    """Each row of the list names tests that there are."""
    rows = re.findall(r"^\| [0-9].*\|$", TABLE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) > 30
    known = {
        f"{path.name}::{node.name}"
        for path in TESTS.glob("test_h2*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    for row in rows:
        named = re.findall(r"`(test_h2\w*\.py::\w+)`", row)
        assert named, row
        assert set(named) <= known, row
