"""The connections of a port in the reactor: where more are ready than a turn serves, clients take turns."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from halfsync.endpoints import poller
from halfsync.endpoints.poller import STEP, Poller

if TYPE_CHECKING:
    from collections.abc import Callable

A_TURN = 5
"""Reads of a turn of 4 seconds, of a time that is told: each read takes one."""


@dataclass(eq=False)
class Call:
    """A call that is due at once."""

    function: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


class Reactor:
    """What a poller needs of one: a turn of it can be had at a time."""

    def __init__(self):
        self.calls: list[Call] = []
        self.seconds = lambda: 0.0

    def addReader(self, reader):
        pass

    def removeReader(self, reader):
        pass

    def callLater(self, delay, function):
        assert delay == 0
        self.calls.append(Call(function))
        return self.calls[-1]


class Item:
    """A connection with something to be read, a byte of it at a time."""

    connected = 1
    polled = 0

    def __init__(self, setting, share, size):
        self.setting, self.share = setting, share
        self.socket, self.client = socket.socketpair()
        self.client.send(bytes(size))
        setting.poller.addReader(self)

    def fileno(self):
        return self.socket.fileno()

    def doRead(self):
        self.setting.now += 1
        self.setting.served.append(self)
        assert self.socket.recv(1) == b"\0"

    def lose(self):
        if self.connected:
            self.connected = 0
            self.setting.poller.removeReader(self)
            self.socket.close()
            self.client.close()


class Setting:
    """A poller, and who is served."""

    def __init__(self):
        self.reactor = Reactor()
        self.poller = Poller(self.reactor)
        self.now = 0
        self.served: list[Item] = []
        self.items: list[Item] = []

    def connect(self, count: int, share: str | None, *, size: int = 1) -> list[Item]:
        """Open connections of which there is something to be read."""
        made = [Item(self, share, size) for _ in range(count)]
        self.items += made
        return made

    def ready(self) -> list[Item]:
        """Have the reactor find what is ready; return who was served."""
        self.served = []
        self.poller.doRead()
        return self.served

    def turn(self) -> list[Item]:
        """Have the reactor make the calls that are due; return who was served."""
        self.served = []
        calls, self.reactor.calls = self.reactor.calls, []
        for call in calls:
            if not call.cancelled:
                call.function()
        return self.served


@pytest.fixture
def setting(monkeypatch):
    """Return a poller whose time is told."""
    found = Setting()
    monkeypatch.setattr(poller, "monotonic", lambda: found.now)
    monkeypatch.setattr(poller, "LONGEST", A_TURN - 1)
    yield found
    for each in found.items:
        each.lose()
    assert all(call.cancelled for call in found.reactor.calls)


def test_a_few_are_served_at_once(setting):
    """In the turn in which they are ready."""
    many = setting.connect(STEP - 1, "many")
    assert set(setting.ready()) == set(many)
    assert setting.reactor.calls == []


def test_a_client_of_one_connection_waits_for_one_of_another(setting):
    """However many are ready of the other, whose connections are served in the order in which they were."""
    many = setting.connect(100, "many")
    assert setting.ready() == many[:STEP]
    (one,) = setting.connect(1, "one")
    assert setting.ready() == [], "its turn has come with a call"
    assert setting.turn() == [many[STEP], one, *many[STEP + 1 : STEP + A_TURN - 1]]


def test_all_are_served_once_for_what_they_have(setting):
    """None is forgotten, and the epoll does not tell of those that wait again and again."""
    many = setting.connect(50, "many", size=2) + setting.connect(3, None, size=2)
    served = setting.ready()
    while len(served) < 106:
        assert setting.ready() == []
        before = setting.turn()
        assert 0 < len(before) <= A_TURN
        served = served + before
    assert [served.count(each) for each in many] == [2] * 53
    assert setting.ready() == []
    assert setting.reactor.calls == []


def test_connections_of_nobody_are_each_their_own(setting):
    """As those behind a trusted proxy are: all of them together are not one client."""
    setting.connect(STEP, "many")
    own = setting.connect(3, None)
    many = setting.connect(3, "many")
    setting.ready()
    assert setting.turn() == [*own, *many[:2]]


def test_what_is_closed_or_paused_meanwhile(setting):
    """It is not served, nor what has its descriptor by then, before there is something to be read."""
    setting.connect(STEP, "many")
    closed, paused, other = setting.connect(3, "many")
    setting.ready()
    number = closed.fileno()
    closed.lose()
    setting.poller.removeReader(paused)
    (new,) = setting.connect(1, "new", size=0)
    assert new.fileno() == number
    assert setting.turn() == [other]
    setting.poller.addReader(paused)
    assert setting.ready() == [paused]


def test_one_that_reads_on_before_its_turn_is_served_once(setting):
    """It was told to the epoll anew."""
    setting.connect(STEP, "many")
    (one,) = setting.connect(1, "many")
    setting.ready()
    setting.poller.removeReader(one)
    setting.poller.addReader(one)
    assert setting.ready() == []
    assert setting.turn() == [one]
    assert setting.ready() == []
