"""Server-sent events: what clients get, miss, and cost."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.test.requesthelper import DummyRequest

from halfsync.web.sse import EventStream


class Request(DummyRequest):
    """A request whose client can be slow."""

    producer = None
    cut = False

    def registerProducer(self, producer, streaming):
        assert streaming
        self.producer = producer

    def unregisterProducer(self):
        self.producer = None

    def loseConnection(self):
        self.cut = True

    @property
    def sent(self) -> bytes:
        return b"".join(self.written)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stream(clock) -> EventStream:
    return EventStream("prices", reactor=clock, kept=3, most_waiting=100)


def join(stream: EventStream, last: str | None = None) -> Request:
    request = Request([b"events"])
    if last is not None:
        request.requestHeaders.setRawHeaders(b"last-event-id", [last.encode()])
    stream.resource.render(request)
    return request


def test_an_event_goes_to_all(stream):
    """Each client gets the same bytes, with an id; a text of many lines is many data fields."""
    requests = [join(stream) for _ in range(2)]
    stream.publish("one\r\ntwo", event="tick")
    for request in requests:
        assert request.sent.endswith(b"id: 1\nevent: tick\ndata: one\ndata: two\n\n")
        assert request.responseHeaders.getRawHeaders("content-type") == ["text/event-stream; charset=utf-8"]


def test_a_field_cannot_be_smuggled_in(stream):
    """A line break in a type or an id would begin another field."""
    with pytest.raises(ValueError, match="event: 'a"):
        stream.publish("x", event="a\ndata: b")


def test_who_comes_back_gets_what_was_missed(stream):
    """Events after the last one seen; all that are kept, when it is too long ago; none for a newcomer."""
    for n in range(1, 6):
        stream.publish(str(n))
    assert b"data: 5" not in join(stream).sent
    assert join(stream, "4").sent.count(b"data:") == 1
    assert join(stream, "1").sent.count(b"data:") == 3


def test_an_id_that_is_no_text_is_no_event_of_ours(stream):
    """What a client says it saw last may be any bytes: it gets all that is kept."""
    stream.publish("1")
    request = Request([b"events"])
    request.requestHeaders.setRawHeaders(b"last-event-id", [b"\xff\xfe"])
    stream.resource.render(request)
    assert b"data: 1" in request.sent


def test_a_head_takes_no_place(stream):
    """It says what a GET would, and is over."""
    request = Request([b"events"])
    request.method = b"HEAD"
    assert stream.resource.render(request) == b""
    assert request.responseHeaders.getRawHeaders("content-type") == ["text/event-stream; charset=utf-8"]
    assert stream.clients == 0


def test_a_slow_client_is_cut_and_the_others_are_not(stream):
    """What waits for one client is bounded; until then nothing is lost for it."""
    slow, quick = join(stream), join(stream)
    slow.producer.pauseProducing()
    stream.publish("x" * 50)
    slow.producer.resumeProducing()
    assert b"x" * 50 in slow.sent
    slow.producer.pauseProducing()
    for _ in range(3):
        stream.publish("y" * 50)
    assert slow.cut
    assert not quick.cut
    assert quick.sent.count(b"y" * 50) == 3
    assert stream.clients == 1


def test_silence_is_broken_by_heartbeats(stream, clock):
    """A comment every 15 seconds while anybody listens; no timer when nobody does."""
    request = join(stream)
    before = request.sent
    clock.advance(15)
    assert request.sent == before + b":\n\n"
    request.processingFailed(Failure(ConnectionDone()))
    assert stream.clients == 0
    clock.advance(15)
    assert not clock.getDelayedCalls()


def test_a_drain_ends_every_stream(stream, clock):
    """At once, so that the process need not wait for its clients; newcomers are refused."""
    request = join(stream)
    done = Deferred.fromCoroutine(stream.drain())
    assert done.called
    assert request.finished
    assert not clock.getDelayedCalls()
    late = Request([b"events"])
    stream.resource.render(late)
    assert late.responseCode == 503


def test_too_many_clients_are_refused(clock):
    """The number of clients has a bound."""
    stream = EventStream("s", reactor=clock, max_clients=1)
    join(stream)
    late = Request([b"events"])
    assert b"no more clients" in stream.resource.render(late)
    assert late.responseCode == 503
