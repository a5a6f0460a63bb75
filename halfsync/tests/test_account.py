"""What clients hold is taken from one account, by connection; when it is empty, the worst holder is cut."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from h2.errors import ErrorCodes
from structlog.testing import capture_logs
from twisted.internet.task import Clock

from h2_tools import GET, Client
from halfsync.endpoints.addresses import ip_address
from halfsync.http import relief
from halfsync.http.account import Account
from halfsync.http.h2.fields import A_FIELD, MOST_KNOWN, FieldReader
from halfsync.http.h2.response import A_STREAM
from halfsync.http.reading_on import ALL_HEADS, HEADS, LONGEST, ReadingOn
from halfsync.http.relief import Relief
from http_tools import Connection as Served
from http_tools import Turns, parse
from test_h2_hostile import Slow
from test_overload import Crowd

if TYPE_CHECKING:
    from collections.abc import Callable


class TestAccount:
    """The arithmetic."""

    def test_what_is_taken_is_bounded_and_given_back(self):
        """By whomever."""
        account = Account(100)
        assert account.take(60, "a")
        assert account.take(40, "b")
        assert not account.take(1, "a")
        assert account.full
        account.give_back(60, "a")
        account.give_back(40, "b")
        assert (account.taken, account.holders()) == (0, {})

    def test_a_connection_counts_for_what_it_took_or_weighs(self):
        """What waits to be sent is an answer for which room was taken: it does not count twice."""
        account = Account(100)
        account.take(50, "a")
        account.weigh("a", 40)
        assert account.taken == 50
        account.weigh("a", 70)
        assert account.taken == account.held_by("a") == 70
        account.give_back(50, "a")
        assert account.taken == 70
        account.weigh("a", 0)
        assert (account.taken, account.holders(), account.weighed()) == (0, {}, [])

    def test_the_largest(self):
        """In order."""
        account = Account(1000)
        for name, size in (("a", 1), ("b", 300), ("c", 20)):
            account.take(size, name)
        account.weigh("d", 50)
        assert account.largest(3) == [("b", 300), ("d", 50), ("c", 20)]

    def test_files(self):
        """They are bounded, too."""
        account = Account(1, most_files=1)
        assert account.take_file()
        assert not account.take_file()
        account.give_back_file()
        assert account.take_file()

    def test_threads(self):
        """Nothing is lost where several take at a time."""
        account = Account(10**9)

        def work(name: str) -> None:
            for _ in range(5000):
                account.take(3, name)
                account.give_back(3, name)
            account.take(1, name)

        threads = [threading.Thread(target=work, args=(str(each),)) for each in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert account.taken == 4


class Held:
    """A connection of some client."""

    def __init__(self, client: str):
        self.client = ip_address(client, 1)
        self.account: Account
        self.cut = False

    def abort(self) -> None:
        self.cut = True
        self.gives_back()

    def gives_back(self) -> None:
        self.account.give_back(self.account.held_by(self), self)


class Connections:
    """Who is whose client."""

    def client_of(self, connection: Held) -> str:
        return connection.client.host


class TestRelief:
    """Who is cut."""

    def setup_method(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = 100.0
        self.counts: Counter[str] = Counter()
        self.account = Account(1000)
        connections: Any = Connections()
        self.account.relief = Relief(
            self.account, "memory", connections=connections, reactor=self.clock, counts=self.counts
        )

    def holding(self, client: str, size: int) -> Held:
        held = Held(client)
        held.account = self.account
        if size:
            assert self.account.take(size, held)
        return held

    def test_the_largest_of_the_worst_client_is_cut(self):
        """Not the one large upload of an honest client; and it is told, and counted."""
        honest = self.holding("192.0.2.1", 300)
        crowd = [self.holding("192.0.2.2", size) for size in (100, 200, 150, 150, 100)]
        new = self.holding("192.0.2.3", 0)
        with capture_logs() as logs:
            assert self.account.take(120, new)
        assert [each.cut for each in crowd] == [False, True, False, False, False]
        assert not honest.cut
        assert self.counts == {"memory": 1}
        assert [(each["event"], each["held"]) for each in logs] == [("http.holder_cut", 200)]

    def test_the_worst_itself_is_refused(self):
        """It holds most, and wants more: nobody is cut for it."""
        worst, other = self.holding("192.0.2.1", 800), self.holding("192.0.2.2", 200)
        assert not self.account.take(10, worst)
        assert [worst.cut, other.cut] == [False, False]

    def test_a_client_makes_room_by_its_own(self):
        """Where the client of a new connection is the worst, one of its own is cut."""
        old, other = self.holding("192.0.2.1", 800), self.holding("192.0.2.2", 200)
        new = self.holding("192.0.2.1", 0)
        with capture_logs():
            assert self.account.take(10, new)
        assert old.cut
        assert not other.cut

    def test_what_comes_back_is_waited_for(self):
        """A thread may have a body for a while: nobody else is cut for what it will give back."""
        busy, other = self.holding("192.0.2.1", 600), self.holding("192.0.2.2", 400)
        busy.gives_back = lambda: None  # type: ignore[method-assign]
        new = self.holding("192.0.2.3", 0)
        with capture_logs():
            for _ in range(5):
                assert not self.account.take(100, new)
                self.clock.advance(1)
        assert busy.cut
        assert not other.cut

    def test_holders_are_looked_at_now_and_then(self):
        """However often there is no room: a look costs something."""
        looks = []
        find = self.account.holders
        self.account.holders = lambda: looks.append(1) or find()  # type: ignore[method-assign,func-returns-value]
        worst = self.holding("192.0.2.1", 1000)
        for _ in range(100):
            assert not self.account.take(10, worst)
        assert len(looks) == 1
        self.clock.advance(relief.PAUSE)
        assert not self.account.take(10, worst)
        assert len(looks) == 2

    def test_looks_are_rarer_where_there_are_many_holders(self, monkeypatch):
        """A look costs by the holder, and the reactor has other things to do."""
        monkeypatch.setattr(relief, "A_HOLDER", relief.PAUSE)
        looks = []
        find = self.account.holders
        self.account.holders = lambda: looks.append(1) or find()  # type: ignore[method-assign,func-returns-value]
        worst = [self.holding("192.0.2.1", 250) for _ in range(4)][-1]
        assert not self.account.take(10, worst)
        self.clock.advance(3 * relief.PAUSE)
        assert not self.account.take(10, worst)
        assert len(looks) == 1
        self.clock.advance(relief.PAUSE)
        assert not self.account.take(10, worst)
        assert len(looks) == 2

    def test_another_thread_cuts_nobody(self):
        """It asks the reactor to, once, and is refused meanwhile."""
        asked: list[tuple[Callable[..., None], Any]] = []
        self.clock.callFromThread = lambda call, *args: asked.append((call, args))
        worst, new = self.holding("192.0.2.1", 1000), self.holding("192.0.2.3", 0)
        results = []
        thread = threading.Thread(target=lambda: results.extend(self.account.take(10, new) for _ in range(3)))
        thread.start()
        thread.join()
        assert (results, worst.cut, len(asked)) == ([False] * 3, False, 1)
        with capture_logs():
            ((call, args),) = asked
            call(*args)
        assert worst.cut
        assert self.account.take(10, new)


UPLOAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 400000\r\n\r\n"


def test_an_upload_finds_room_where_another_client_has_taken_all():
    """Three uploads that never end fill memory and disk; the fourth, of another client, is answered."""
    crowd = Crowd(memory=1024 * 1024, spool=0)
    with capture_logs() as logs:
        for _ in range(4):
            crowd.connect("192.0.2.1").dataReceived(UPLOAD + bytes(300_000))
        other = crowd.connect("192.0.2.2")
        other.dataReceived(UPLOAD + bytes(400_000))
    assert parse(other.transport.value()).status == 200
    assert "http.holder_cut" in [each["event"] for each in logs]
    assert crowd.site.context.memory.taken <= 1024 * 1024
    assert crowd.site.counts.cut["memory"] >= 1


@pytest.mark.parametrize("wanted", ["memory", "disk"])
def test_the_ten_largest_are_known(wanted):
    """As the manhole shows them."""
    served = Served(memory=10**6 if wanted == "memory" else 300_000)
    served.send(UPLOAD + bytes(300_000))
    context = served.site.context
    account = context.memory if wanted == "memory" else context.upload_disk
    ((holder, size),) = account.largest(10)
    assert holder is served.connection
    assert size >= 262_144


class TestBuffers:
    """What was not asked for, and is there all the same."""

    def test_a_head_that_came_in_part(self):
        """It counts until it is whole, or its client is gone."""
        served = Served()
        memory = served.site.context.memory
        served.send(b"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 9000)
        assert memory.taken >= 9000
        assert parse(served.send(b"\r\n\r\n")).status == 200
        assert memory.taken == 0
        served.send(b"GET / HTTP/1.1\r\nX-A: " + b"a" * 9000)
        assert memory.taken >= 9000
        served.lose()
        assert memory.taken == 0

    def test_heads_in_part_have_the_worst_client_cut(self):
        """They are there already: the bound holds by cutting, and another client is served."""
        crowd = Crowd(memory=100_000)
        with capture_logs():
            many = [crowd.connect("192.0.2.1") for _ in range(30)]
            for each in many:
                each.dataReceived(b"GET / HTTP/1.1\r\nX-A: " + b"a" * 9000)
            other = crowd.connect("192.0.2.2")
            other.dataReceived(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert parse(other.transport.value()).status == 200
        assert crowd.site.context.memory.taken <= 100_000
        assert sum(each.transport.disconnected for each in many) >= 15

    def test_frames_in_part_and_requests_of_http2(self):
        """A frame that lacks its end counts, and so do requests that are not answered."""
        client = Client(resource=Slow())
        memory = client.site.context.memory
        client.advance(1)
        for _ in range(20):
            client.request()
        client.advance(1)
        # More often than that, nobody looks.
        client.send_bytes(b"\x00\x40\x00\x00\x00\x00\x00\x00\x01" + bytes(9000))
        assert memory.taken >= 20 * A_STREAM + 9000
        client.lose()
        assert memory.taken == 0

    def test_no_room_for_a_request_without_a_body(self):
        """Where the account is full, and its client is the worst itself: 503, REFUSED_STREAM on HTTP/2."""
        served = Served()
        context = served.site.context
        context.memory.take(context.memory.limit, served.connection)
        with capture_logs():
            assert parse(served.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")).status == 503
        client = Client()
        memory = client.site.context.memory
        # Its head is known then.
        assert [client.request().status for _ in range(3)] == [200] * 3
        assert memory.take(memory.limit - memory.taken, client.server)
        assert client.request().reset == ErrorCodes.REFUSED_STREAM
        assert client.open

    def test_heads_that_are_remembered(self):
        """Blocks that stand for many headers are bounded, and weighed."""
        reader = FieldReader(10**6)
        reader.read(b"\x40\x01a\x01b")
        before = reader.size
        for number in range(1, 60):
            reader.read(b"\xbe" * 30 + bytes([0x80 + number]))
            assert reader.size - before <= MOST_KNOWN
            reader.read(b"\xbe" * 90 + bytes([0x80 + number]))
        assert reader.size - before >= A_FIELD * 31

    def test_heads_of_long_values_are_not_remembered(self):
        """A value of 4 KB is a byte on the wire, and three times in memory once handlers were given it."""
        reader = FieldReader(10**6)
        reader.read(b"\x40\x01a\x7f\xa1\x1e" + b"b" * 4000)
        before = reader.size
        short, long = reader.read(b"\xbe\xbe"), reader.read(b"\xbe\xbe\xbe")
        assert before + 24_000 < reader.size <= before + MOST_KNOWN
        assert reader.read(b"\xbe\xbe") is short
        assert reader.read(b"\xbe\xbe\xbe") is not long

    def test_what_is_known_of_heads_counts_at_once(self):
        """A client may send nothing more, and keep the connection."""
        client = Client()
        client.request([*GET, ("x-long", "a" * 3000)])
        memory = client.site.context.memory
        assert memory.taken == client.server.session.kept > 3000
        client.lose()
        assert memory.taken == 0

    def test_all_connections_share_the_heads_of_a_turn(self):
        """However many send heads at once, no more than ALL_HEADS are read in a turn, and all in the end."""
        resource = Slow()
        served = [Client(resource=resource) for _ in range(8)]
        turns = Turns()
        shared = ReadingOn(turns, id)
        for client in served:
            client.server.context.reading_on = shared
        shared.spend(ALL_HEADS)
        for client in served:
            client.server.dataReceived(b"".join(client.head().serialize() for _ in range(50)))
        assert resource.asked == 0, "the turn had seen enough"
        before = 0
        while resource.asked < 400:
            turns.next()
            assert 0 < resource.asked - before <= ALL_HEADS
            before = resource.asked

    def test_clients_take_turns_to_be_read(self):
        """A client of one connection waits for one connection of each other client, not for all of them."""
        turns, order = Turns(), []
        found = ReadingOn(turns, lambda reader: reader.client)

        class Reader:
            def __init__(self, client, size):
                self.client, self.size = client, size

            def take_turn(self):
                read = min(found.heads, self.size)
                found.spend(read)
                order.append((self.client, read))
                self.size -= read
                if self.size:
                    found.add(self)

        for _ in range(100):
            found.add(Reader("many", 20))
        found.add(Reader("one", 40))
        assert found.heads == HEADS
        turns.next()
        assert order == [("many", 16), ("one", 16), ("many", 16), ("one", 16)]
        assert found.heads == 0
        turns.next()
        assert order[4:6] == [("many", 16), ("one", 8)]
        while turns.calls:
            turns.next()
        assert sum(read for _, read in order) == 100 * 20 + 40
        assert found.heads > 0

    def test_a_turn_is_no_longer_than_it_may_be(self):
        """What comes with a head may take longer than heads do; who is left is read in the next turn."""
        turns, now, order = Turns(), [0.0], []
        found = ReadingOn(turns, id, time=lambda: now[0])

        class Reader:
            def take_turn(self):
                now[0] += LONGEST * 0.4
                order.append(self)

        readers = [Reader() for _ in range(5)]
        for each in readers:
            found.add(each)
        turns.next()
        assert order == readers[:3]
        turns.next()
        assert order == readers

    def test_others_have_their_turn_between_heads(self):
        """However many come in one piece, 16 of them are read in a turn of the reactor."""
        resource = Slow()
        client = Client(resource=resource)
        client.server.dataReceived(b"".join(client.head().serialize() for _ in range(50)))
        assert resource.asked == HEADS
        client.receive()
        assert resource.asked == 50
