"""Work that outlives its request."""

from __future__ import annotations

import threading
from queue import SimpleQueue

import pytest
from structlog.contextvars import bound_contextvars, get_contextvars, merge_contextvars
from structlog.testing import capture_logs
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from halfsync.background import Background, BackgroundFull


class BackgroundTest(TestCase):
    """With real threads."""

    timeout = 60

    def setUp(self):
        self.background = Background(reactor=reactor, threads=1, queue=1)
        self.addCleanup(self.background.stop)

    async def test_it_is_taken_from_any_thread_and_drained(self):
        """A handler in a thread goes on at once; a drain waits; the request's id goes along."""
        seen: SimpleQueue[object] = SimpleQueue()
        go = threading.Event()

        def work(word: str) -> None:
            go.wait(30)
            seen.put((word, get_contextvars().get("request_id")))

        def handler() -> None:
            with bound_contextvars(request_id="r-1"):
                self.background.start_soon(work, "thread")

        await deferToThread(handler)
        self.background.start_soon(work, "reactor")
        drained = Deferred.fromCoroutine(self.background.drain())
        assert not drained.called
        go.set()
        await drained
        assert {seen.get_nowait(), seen.get_nowait()} == {("thread", "r-1"), ("reactor", None)}

    async def test_when_full_the_caller_hears_it(self):
        """At once, whichever thread asks; and room that was given back is room."""
        go = threading.Event()
        self.addCleanup(go.set)
        for _ in range(2):
            self.background.start_soon(go.wait, 30)
        with pytest.raises(BackgroundFull, match="background: 1 calls run and 1 wait already"):
            await deferToThread(self.background.start_soon, print)
        go.set()
        await self.background.drain()
        for _ in range(2):
            self.background.start_soon(len, "")
        await self.background.drain()

    async def test_an_error_is_in_the_log(self):
        """It is nobody's to catch; the event names the request that it was for."""

        def fail() -> None:
            raise KeyError("x")

        with capture_logs(processors=[merge_contextvars]) as events:
            with bound_contextvars(request_id="r-1"):
                self.background.start_soon(fail)
            await self.background.drain()
        assert [(event["event"], event["request_id"]) for event in events] == [("background.failed", "r-1")]
