"""Deadlines are looked at every so often, and nobody is cut who kept them while the process was held."""

from __future__ import annotations

import socket
import time

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread

from halfsync.endpoints.sweeper import Sweeper
from halfsync.http.connections import GRACE
from http_tools import GET, ServerCase, until


def test_it_looks_every_so_often_until_the_end():
    """Begun twice it is begun once; what has ended leaves nothing, and can begin again."""
    clock, looks = Clock(), []
    sweeper = Sweeper(clock, lambda: looks.append(clock.seconds()), lambda: 2.0)
    for _ in range(2):
        sweeper.begin()
        sweeper.begin()
        began = clock.seconds()
        clock.pump([1.0] * 5)
        assert looks == [began + 2, began + 4]
        looks.clear()
        sweeper.end()
        sweeper.end()
        assert clock.getDelayedCalls() == []


def test_the_sockets_are_looked_at_first():
    """A turn lies between the time when it is due, and the look."""
    clock, looks = Clock(), []
    sweeper = Sweeper(clock, lambda: looks.append("look"), lambda: 2.0)
    sweeper.begin()
    (due,) = clock.getDelayedCalls()
    clock.rightNow = 100.0
    clock.calls.remove(due)
    due.func()
    assert looks == []
    clock.advance(0)
    assert looks == ["look"]


def test_more_to_look_at_is_looked_at_in_the_next_turn():
    """Another turn for the sockets is not waited for; and what was shortened holds at once."""
    clock, looks, period = Clock(), [], [2.0]

    def look() -> None:
        looks.append(clock.seconds())
        if len(looks) < 3:
            sweeper.go_on()

    sweeper = Sweeper(clock, look, lambda: period[0])
    sweeper.hurry()
    sweeper.go_on()
    assert clock.getDelayedCalls() == []
    sweeper.begin()
    clock.advance(2)
    assert looks == [2.0] * 3
    period[0] = 0.5
    sweeper.hurry()
    clock.advance(0.5)
    assert looks == [2.0] * 3 + [2.5]


class Held(ServerCase):
    """A process that was stopped for a while, or had no processor: here its reactor sleeps."""

    async def ask_while_held(self, seconds: float, *, half: bool = False, drain: bool = False) -> bytes:
        address = ("127.0.0.1", self.port.getHost().port)
        with socket.create_connection(address, 60) as client:
            await until(lambda: self.site.connections)
            if half:
                client.sendall(GET[:9])
                await until(lambda: not next(iter(self.site.context.connections)).idle)
            drained = Deferred.fromCoroutine(self.site.drain()) if drain else None

            def hold() -> None:
                client.sendall(GET[9:] if half else GET)
                time.sleep(seconds)

            # What comes from threads is made in a turn before what is due; sockets are last.
            reactor.callFromThread(hold)
            line = await deferToThread(client.makefile("rb").readline)
        if drained is not None:
            await drained
        return line

    async def test_a_request_that_came_in_time_is_answered(self):
        """Though its deadline has passed by the time that it is read."""
        self.serve(request_timeout=0.5, idle_timeout=0.5)
        assert await self.ask_while_held(1) == b"HTTP/1.1 200 OK\r\n"
        assert await self.ask_while_held(1, half=True) == b"HTTP/1.1 200 OK\r\n"

    async def test_so_is_one_in_a_drain(self):
        """The grace of an idle connection is for the client, not for the process."""
        self.serve()
        assert await self.ask_while_held(GRACE + 0.5, drain=True) == b"HTTP/1.1 200 OK\r\n"
