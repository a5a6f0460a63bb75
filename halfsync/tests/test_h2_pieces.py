"""HTTP/2 as it comes in pieces: what is handed on at once, and what is kept until more comes, and counted."""

from __future__ import annotations

import gc
from weakref import ref

import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import WindowUpdateFrame

from h2_tools import POST, PREFACE, Client
from http_tools import Connection as Served
from test_h2_hostile import Slow, failed


def frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    """Return a frame."""
    return len(payload).to_bytes(3) + bytes((kind, flags)) + number.to_bytes(4) + payload


class TestDataInPart:
    """A frame of data is handed on as it comes; a thousand connections might keep 16 KiB of one each."""

    @pytest.mark.parametrize("cut", [1, 8, 9, 10, 1032, 1033, 1034, 5000, 12_008, 12_009])
    def test_however_it_is_cut(self, cut):
        """The body is the same, and so are the windows."""
        bodies = []
        client = Client(lambda e, s: (s("200 OK", []), bodies.append(e["wsgi.input"].read()), [b""])[2])
        client.send(client.head(POST, end=False))
        body = bytes(range(250)) * 48
        wire = frame(0, 0, 1, body) + frame(0, 1, 1, body)
        frames = []
        for at in range(0, len(wire), cut):
            frames += client.send_bytes(wire[at : at + cut])
        assert bodies == [body * 2]
        assert client.streams[1].ended
        opened = [each for each in frames if isinstance(each, WindowUpdateFrame)]
        assert sum(each.window_increment for each in opened if not each.stream_id) == 24_000
        assert len([each for each in opened if not each.stream_id]) <= 2, "a client is told once a frame"
        assert client.server.session._left == 0

    def test_what_has_come_is_with_the_body(self):
        """It is not kept by the connection; what is too short to hand on is, and counts."""
        client = Client()
        memory = client.site.context.memory
        client.send(client.head([*POST, ("content-length", "12000")], end=False))
        before, kept = memory.taken, client.server.session.kept
        assert client.send_bytes(frame(0, 1, 1, bytes(12_000))[:10_000]) == []
        assert client.server.session.kept == kept
        assert memory.taken == before + 12_000
        client.send_bytes(frame(0, 1, 1, bytes(12_000))[10_000:])
        assert client.streams[1].status == 200

    def test_heads_that_wait_for_their_turn_count(self):
        """At once, and beside the bodies for which room was taken."""
        client = Client()
        memory = client.site.context.memory
        client.request([*POST, ("content-length", "12001")], bytes(12_000), end=False)
        taken = memory.taken
        client.server.context.reading_on.spend(1000)
        client.server.dataReceived(client.head(POST, end=False).serialize() + frame(0, 0, 3, bytes(9000)))
        assert memory.taken >= taken + 9000
        client.receive()
        assert client.server.session.kept < 9000
        client.lose()
        assert (memory.taken, memory.holders()) == (0, {})

    def test_data_goes_on_where_no_head_may_be_read(self):
        """The turn's heads are spent: what is no head is read all the same, up to the next one."""
        resource = Slow()
        client = Client(resource=resource)
        client.request([*POST, ("content-length", "5000")], bytes(4000), end=False)
        client.server.context.reading_on.spend(1000)
        client.server.dataReceived(frame(0, 1, 1, bytes(1000)) + client.head().serialize())
        assert (resource.asked, client.server.session.unread) == (1, True)
        client.receive()
        assert (resource.asked, client.server.session.unread) == (2, False)

    def test_a_reset_meanwhile(self):
        """The rest of the frame is dropped, and the connection's window is given back whole."""
        client = Client(resource=Slow(), max_body=20_000)
        client.send(client.head(POST, end=False))
        client.send_bytes(frame(0, 0, 1, bytes(12_000)))
        client.send_bytes(frame(0, 0, 1, bytes(12_000))[:9500])
        client.advance(3)
        assert client.streams[1].status == 413
        frames = client.send_bytes(frame(0, 0, 1, bytes(12_000))[9500:])
        assert [(each.stream_id, each.window_increment) for each in frames] == [(0, 12_000)]
        assert client.open

    def test_beyond_the_window(self):
        """A frame that is longer than a window is waited for, and refused."""
        client = Client(resource=Slow())
        client.send(client.head(POST, end=False))
        client.server._streams[1]._flushing = True  # as while the disk takes it: no window is opened
        for _ in range(21):
            client.send_bytes(frame(0, 0, 1, bytes(12_000)))
        assert client.send_bytes(frame(0, 0, 1, bytes(12_000))[:9000]) == []
        client.send_bytes(frame(0, 0, 1, bytes(12_000))[9000:])
        assert failed(client, ErrorCodes.FLOW_CONTROL_ERROR)


def test_nothing_is_left_of_what_was_there_before_http2():
    """The connection of HTTP/1.1 goes with what it had read, without the collector of garbage."""
    served = Served()
    before = ref(served.connection)
    gc.disable()
    try:
        served.connection.dataReceived(PREFACE + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
        served.connection = None
        assert before() is None
    finally:
        gc.enable()
