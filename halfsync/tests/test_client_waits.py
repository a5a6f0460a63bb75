"""Threads that wait for clients are half of all at most, however many clients take nothing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from structlog.testing import capture_logs

from halfsync.http.mount import Mount
from halfsync.http.wsgi.gateway import Gateway
from halfsync.workers.client_waits import ClientWaits
from http_tools import GET, ServerCase, hello, until

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_the_slowest_is_cut_when_one_too_many_waits():
    """Be it one that has waited before, or the one that comes."""

    class Response:
        begun = 0.0
        was_cut = False

        def __init__(self, passed: int) -> None:
            self.passed = passed

        def cut(self) -> None:
            self.was_cut = True

    waits = ClientWaits(4)
    slow, fast, faster = Response(10), Response(1000), Response(2000)
    with waits.wait(slow):
        assert not waits.crowded
        with waits.wait(fast):
            assert waits.crowded
            assert not slow.was_cut
            with waits.wait(faster):
                assert [each.was_cut for each in (slow, fast, faster)] == [True, False, False]
                assert len(waits) == 2
                with waits.wait(Response(1)):
                    assert not fast.was_cut
    assert len(waits) == 0


def test_one_thread_may_wait_where_there_is_only_one():
    """Half of one would be none, and no large response would ever be sent."""
    assert ClientWaits(1).most == 1


class TestThreads(ServerCase):
    """On real sockets."""

    async def test_half_of_the_threads_are_free(self):
        """With no disk, and 12 clients that take nothing of large responses, another one is answered."""

        def app(environ: dict[str, str], start_response: object) -> Iterator[bytes] | list[bytes]:
            start_response("200 OK", [])
            if environ["PATH_INFO"] == "/large":
                return (os.urandom(65536) for _ in range(400))
            return [b"hello"]

        self.serve(app, threads=4, queue=64, spool=0)
        with capture_logs() as logs:
            slow = [await self.connect() for _ in range(12)]
            for each in slow:
                each.transport.pauseProducing()
                each.transport.write(GET.replace(b"/ ", b"/large "))
            # All of them have had a thread, or wait for one: this one comes behind them.
            other = await self.connect(GET)
            await other.bytes(b"hello")
            await until(lambda: sum(each["event"] == "http.stalled" for each in logs) >= 10)
            await until(lambda: self.pool.busy <= 2)
        for each in slow:
            each.transport.abortConnection()

    async def test_half_of_the_threads_are_free_whichever_application_is_slow(self):
        """Two applications on the same threads share the half: clients of both cannot hold all."""

        def large(_environ: dict[str, str], start_response: object) -> Iterator[bytes]:
            start_response("200 OK", [])
            return (os.urandom(65536) for _ in range(400))

        self.serve(threads=4, queue=64, spool=0)
        paths = {"/one": large, "/two": large, "/": hello}
        mount = Mount({path: Gateway(app, self.pool) for path, app in paths.items()})
        self.site.context.handler = mount
        with capture_logs() as logs:
            slow = [await self.connect() for _ in range(12)]
            for each, path in zip(slow, [b"/one ", b"/two "] * 6, strict=True):
                each.transport.pauseProducing()
                each.transport.write(GET.replace(b"/ ", path))
            other = await self.connect(GET)
            await other.bytes(b"hello")
            await until(lambda: sum(each["event"] == "http.stalled" for each in logs) >= 10)
            await until(lambda: self.pool.busy <= 2)
        for each in slow:
            each.transport.abortConnection()
