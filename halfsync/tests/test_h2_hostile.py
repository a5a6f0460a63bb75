"""HTTP/2 from clients that do what they must not: each is bounded, in memory, on a Clock."""

from __future__ import annotations

import struct

import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import (
    ContinuationFrame,
    ExtensionFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from structlog.testing import capture_logs
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from h2_tools import GET, POST, Client, data
from halfsync.http.h2.streams import CREDIT, MAX_STREAMS, RESET_COST


class Slow(Resource):
    """Never answers, and counts what it is asked."""

    isLeaf = True
    asked = 0

    def render(self, request):
        self.asked += 1
        return NOT_DONE_YET


def failed(client: Client, code: ErrorCodes) -> bool:
    """Say whether the connection was ended for that, with nothing left of it."""
    client.receive()
    assert [each[1] for each in client.goaways] == [code], client.goaways
    assert not client.open
    assert client.site.in_flight() == []
    size = len(client.frames)
    client.send(PingFrame(0, b"12345678"))
    assert len(client.frames) == size
    client.lose()
    assert client.site.connections == 0
    assert client.clock.getDelayedCalls() == []
    return True


class TestFloods:
    """Frames that bring nothing are bounded, whatever they are."""

    def test_rapid_reset(self):
        """CVE-2023-44487: streams opened and reset are counted, few of them reach the application."""
        resource = Slow()
        client = Client(resource=resource)
        sent = 0
        while client.open and sent < 100_000:
            frames = []
            for _ in range(100):
                head = client.head()
                frames += [head, RstStreamFrame(head.stream_id, ErrorCodes.CANCEL)]
            client.send(*frames)
            sent += 100
        assert resource.asked <= CREDIT // RESET_COST
        assert failed(client, ErrorCodes.ENHANCE_YOUR_CALM)

    def test_resets_that_we_are_made_to_send(self):
        """CVE-2025-8671: a stream that is reset for its client's fault is counted the same."""
        resource = Slow()
        client = Client(resource=resource)
        sent = 0
        while client.open and sent < 100_000:
            head = client.head()
            # Beyond 2^31-1 the window is no window, which is an error of the stream.
            client.send(head, WindowUpdateFrame(head.stream_id, 2**31 - 1))
            sent += 1
        assert resource.asked <= CREDIT // RESET_COST + 1
        assert failed(client, ErrorCodes.ENHANCE_YOUR_CALM)

    def test_malformed_requests(self):
        """They cost their client the same."""
        client = Client(lambda *_: pytest.fail("served"))
        with capture_logs():
            for _ in range(CREDIT):
                if client.open:
                    client.request([*GET, ("connection", "close")])
        assert failed(client, ErrorCodes.ENHANCE_YOUR_CALM)

    def test_refusals(self):
        """A request that is answered 431 never earns back what it cost."""
        client = Client(lambda *_: pytest.fail("served"))
        asked = 0
        with capture_logs():
            while client.open and asked < CREDIT:
                client.request([*GET, *((f"x-{each}", "1") for each in range(101))])
                asked += 1
        assert client.streams[1].status == 431
        assert asked <= CREDIT // RESET_COST + 1
        assert failed(client, ErrorCodes.ENHANCE_YOUR_CALM)

    def test_settings_without_a_meaning(self):
        """Unknown settings are ignored (RFC 9113 section 6.5.2), kept nowhere, and paid for by number."""
        client = Client()
        wire = b"".join(each.to_bytes(2) + bytes(4) for each in range(7, 2007))
        frame = len(wire).to_bytes(3) + b"\x04\x00" + bytes(4) + wire
        client.send_bytes(frame)
        assert client.request().ended
        for _ in range(100):
            if client.open:
                client.send_bytes(frame)
        assert failed(client, ErrorCodes.ENHANCE_YOUR_CALM)

    def test_many_windows_in_a_frame_are_one_change(self):
        """The last one holds (RFC 9113 section 6.5.3), one that may not be ends the connection all the same.

        Each would change the window of each stream: 100 streams, and 2,700 windows in 16 KB, took 10 ms.
        """

        def settings(*values: int) -> bytes:
            wire = b"".join(b"\x00\x04" + value.to_bytes(4) for value in values)
            return len(wire).to_bytes(3) + b"\x04\x00" + bytes(4) + wire

        client = Client(lambda e, s: (s("200 OK", []), [b"x" * 100])[1])
        client.send_bytes(settings(10))
        response = client.request()
        assert response.body == b"x" * 10
        stream = next(iter(client.server.session._streams.values()))
        before = stream.outgoing
        client.send_bytes(settings(*[5, 90, 7] * 800, 20))
        assert response.body == b"x" * 20
        assert stream.outgoing == before == 0
        client.send_bytes(settings(20, 2**31, 20))
        assert failed(client, ErrorCodes.FLOW_CONTROL_ERROR)

    def test_a_table_of_ours_is_not_asked_for(self):
        """However large a table the client offers, our encoder has none: answers keep their length."""
        client = Client()
        client.send(SettingsFrame(0, settings={SettingsFrame.HEADER_TABLE_SIZE: 2**32 - 1}))
        client.request()
        client.request()
        sizes = {len(each.data) for each in client.frames if isinstance(each, HeadersFrame)}
        # The first of a connection says by one byte that there is no table.
        assert max(sizes) - min(sizes) <= 1

    @pytest.mark.parametrize(
        "frame",
        [
            PingFrame(0, b"12345678"),
            SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 1}),
            SettingsFrame(0),
            PriorityFrame(1, depends_on=3),
            WindowUpdateFrame(0, 1),
            ExtensionFrame(0xEE, 0),
            RstStreamFrame(1),
        ],
    )
    def test_control_frames(self, frame):
        """A thousand are nothing, and a few a second for ever; a flood ends the connection."""
        client = Client()
        client.request()
        client.send(*[frame] * 200)
        for _ in range(100):
            client.advance(1)
            client.request()
            client.send(*[frame] * 20)
        assert client.open
        with capture_logs():
            for _ in range(10):
                if client.open:
                    client.send(*[frame] * 1000)
        assert failed(client, ErrorCodes.ENHANCE_YOUR_CALM)

    def test_empty_data(self):
        """Nor may a body be made of nothing."""
        client = Client()
        client.request(POST, end=False)
        for _ in range(10):
            if client.open:
                client.send(*[data(1, b"", end=False)] * 1000)
        assert failed(client, ErrorCodes.ENHANCE_YOUR_CALM)

    def test_continuation(self):
        """CVE-2024-27316: a head that does not end is not kept."""
        client = Client()
        client.send(HeadersFrame(1, client.encoder.encode(GET)))
        sent = 0
        while client.open and sent < 1000:
            client.send(ContinuationFrame(1, b"\x00\x01a\x01b" * 3000))
            sent += 1
        assert sent <= 5
        assert failed(client, ErrorCodes.ENHANCE_YOUR_CALM)

    def test_empty_continuation(self):
        """Nor one that does not end in nothing."""
        client = Client()
        client.send(HeadersFrame(1, client.encoder.encode(GET)))
        client.send(*[ContinuationFrame(1, b"")] * 1000)
        assert failed(client, ErrorCodes.PROTOCOL_ERROR)

    def test_a_bomb(self):
        """CVE-2016-6581: a small head that unpacks to a large one is not unpacked."""
        client = Client(lambda *_: pytest.fail("served"))
        name = ("x-bomb", "x" * 3000)
        block = client.encoder.encode([*GET, name])
        # The header is in the table now, and each byte means all of it.
        head = HeadersFrame(1, block + b"\xbe" * 10_000)
        head.flags.add("END_HEADERS")
        client.send(head)
        assert failed(client, ErrorCodes.ENHANCE_YOUR_CALM)

    def test_too_many_streams(self):
        """One more than may be is refused, as an error of that stream only (RFC 9113 section 5.1.2)."""
        resource = Slow()
        client = Client(resource=resource)
        for _ in range(MAX_STREAMS):
            client.request()
        assert client.open
        assert len(client.site.in_flight()) == MAX_STREAMS
        one_more = client.request()
        assert resource.asked == MAX_STREAMS
        assert one_more.reset == ErrorCodes.REFUSED_STREAM
        assert client.open
        assert len(client.site.in_flight()) == MAX_STREAMS

    def test_work_by_the_side(self):
        """A client that does work may send as many control frames as belong to it."""
        client = Client(lambda e, s: (s("200 OK", []), [b"x" * 100_000])[1])
        client.send(SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 2**30}))
        for _ in range(3000):
            assert client.request().ended or client.send(WindowUpdateFrame(0, 100_000)) is not None
            client.send(WindowUpdateFrame(0, 50_000), WindowUpdateFrame(0, 50_000), PingFrame(0, b"12345678"))
        assert client.open
        assert client.site.counts.requests == {("GET", 200): 3000}


class TestMemory:
    """What all clients together make us hold is bounded by `--web.memory`, and given back."""

    def test_one_cookie_and_many_references(self):
        """Heads that wait for their bodies count while they do; beyond the bound streams are refused."""
        client = Client(memory=256 * 1024)
        head = [*POST, ("cookie", "c" * 4000)]
        responses = [client.request(head, end=False) for _ in range(MAX_STREAMS)]
        refused = [each for each in responses if each.reset == ErrorCodes.REFUSED_STREAM]
        assert MAX_STREAMS / 2 < len(refused) < MAX_STREAMS
        assert client.site.context.memory.taken <= 256 * 1024
        assert client.open
        client.lose()
        assert client.site.context.memory.taken == 0

    def test_shut_windows(self):
        """Answers that nobody takes count; beyond the bound the streams that wait are cut, others served."""
        client = Client(lambda e, s: (s("200 OK", []), [b"x" * 60_000])[1], memory=512 * 1024)
        client.send(SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 0}))
        with capture_logs():
            responses = [client.request() for _ in range(MAX_STREAMS)]
        assert len([each for each in responses if each.reset == ErrorCodes.CANCEL]) > MAX_STREAMS / 2
        assert client.site.context.memory.taken <= 512 * 1024
        client.send(SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 100_000}))
        client.send(WindowUpdateFrame(0, 10**7))
        client.receive()
        assert all(each.ended or each.reset is not None for each in responses)
        assert any(each.body == b"x" * 60_000 for each in responses)
        assert client.site.context.memory.taken == client.server.session.kept

    def test_a_request_with_a_body(self):
        """Nothing is left of a request that is answered."""
        client = Client()
        for _ in range(3):
            assert client.request([*POST, ("cookie", "c" * 4000)], b"body").ended
        assert client.site.context.memory.taken == client.server.session.kept


class TestBrokenFrames:
    """The connection ends with the code that RFC 9113 has for it."""

    @pytest.mark.parametrize(
        ("code", "wire"),
        [
            ("PROTOCOL_ERROR", data(1, b"on an idle stream").serialize()),
            ("PROTOCOL_ERROR", data(1, b"").serialize()[:5] + bytes(4)),
            ("PROTOCOL_ERROR", WindowUpdateFrame(0, 1).serialize()[:9] + bytes(4)),
            ("FLOW_CONTROL_ERROR", WindowUpdateFrame(0, 2**31 - 1).serialize()),
            ("FLOW_CONTROL_ERROR", SettingsFrame(0, settings={4: 2**31}).serialize()),
            ("PROTOCOL_ERROR", SettingsFrame(0, settings={5: 1}).serialize()),
            ("PROTOCOL_ERROR", SettingsFrame(0, settings={2: 2}).serialize()),
            ("PROTOCOL_ERROR", ContinuationFrame(1, b"x").serialize()),
            ("PROTOCOL_ERROR", HeadersFrame(2, b"\x82", flags=["END_HEADERS"]).serialize()),
            (
                "COMPRESSION_ERROR",
                HeadersFrame(1, b"\xff\xff\xff\xff\xff\xff", flags=["END_HEADERS"]).serialize(),
            ),
            ("PROTOCOL_ERROR", PushPromiseFrame(1, 2, b"\x82", flags=["END_HEADERS"]).serialize()),
            ("FRAME_SIZE_ERROR", struct.pack(">I", 16385)[1:] + b"\x00\x00" + struct.pack(">I", 1)),
            ("FRAME_SIZE_ERROR", struct.pack(">I", 2**24 - 1)[1:] + b"\x00\x00" + struct.pack(">I", 1)),
        ],
    )
    def test_broken(self, code, wire):
        """A frame that is too long is not waited for."""
        client = Client(lambda *_: pytest.fail("served"))
        client.send_bytes(wire)
        assert failed(client, ErrorCodes[code])

    def test_no_preface(self):
        """What does not begin or go on as HTTP/2 does is no HTTP/2."""
        for greet in (True, False):
            client = Client(lambda *_: pytest.fail("served"), greet=greet)
            client.send_bytes(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert not client.open

    def test_data_on_a_closed_stream(self):
        """It costs its own window back, and no one else anything."""
        resource = Slow()
        client = Client(resource=resource, max_body=10)
        client.request(POST, b"x" * 11, end=False)
        client.advance(3)
        assert client.streams[1].reset == ErrorCodes.NO_ERROR
        for _ in range(100):
            client.send(data(1, b"x" * 16_000, end=False))
        client.request()
        assert resource.asked == 1
        assert client.open

    def test_more_than_the_window(self):
        """A client that overruns what it may send is cut."""
        client = Client(lambda *_: pytest.fail("served"), max_body=10**9)
        head = client.head(POST, end=False)
        body = data(head.stream_id, b"x" * 16_000, end=False).serialize()
        # All in one piece, so that no window is opened in between.
        client.send_bytes(head.serialize() + body * 20)
        assert failed(client, ErrorCodes.FLOW_CONTROL_ERROR)

    def test_every_byte_of_it_alone(self):
        """Frames may come in any pieces."""
        client = Client()
        for byte in client.head().serialize():
            client.send_bytes(bytes([byte]))
        assert client.streams[1].ended

    def test_noise(self):
        """Whatever comes, nothing breaks but the connection."""
        import random

        chance = random.Random(2)
        for _ in range(300):
            client = Client()
            valid = client.head().serialize() + client.head(POST, end=False).serialize()
            valid += data(3, b"body").serialize() + PingFrame(0, b"12345678").serialize()
            noisy = bytearray(valid)
            for _ in range(chance.randrange(1, 6)):
                noisy[chance.randrange(len(noisy))] = chance.randrange(256)
            with capture_logs() as logs:
                client.send_bytes(bytes(noisy))
            assert "http.parser_failed" not in [each["event"] for each in logs], (bytes(noisy), logs)
            client.lose()
            assert client.site.connections == 0
            assert client.clock.getDelayedCalls() == []
