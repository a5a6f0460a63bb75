"""A consumer of a Redis stream: each message is worked on by a thread, acknowledged when that is done.

pip install redis    # beside halfsync
python worker_app.py --redis_url=redis://127.0.0.1:6379/0 --stream=orders

A stop takes no new message, finishes the one under way, and leaves the rest to the others of the group.
A message whose consumer died is claimed by another one after --claim_after.
"""

import json
import os
import socket
import sys
import threading
from typing import Any

import redis
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from halfsync import About, Admin, Manhole, Part, Process, flag, flags, get_logger, run

log = get_logger(__name__)


@flags.declare(flag.namespace(__name__))
class FLAGS:
    """What is consumed."""

    redis_url = flag.String("Where Redis is.", default="redis://127.0.0.1:6379/0", secure=True)
    stream = flag.String("The stream.", default="orders")
    group = flag.String("The group of consumers.", default="workers")
    claim_after = flags.Seconds("Time after which a message of a dead consumer is taken over.", default=60)


def work(message: dict[str, Any]) -> None:
    """Do what a message asks for; it may come twice, so doing it twice must do no harm."""
    log.info("order.shipped", order=message["order"])


class Consumer(Part):
    """The part `consumer`: one thread that reads and works, in order."""

    def __init__(self, process: Process) -> None:
        super().__init__("consumer")
        self._pool = process.reactor.getThreadPool()
        self._reactor = process.reactor
        self._redis = redis.Redis.from_url(FLAGS.redis_url, decode_responses=True, socket_timeout=10)
        self._stopping = threading.Event()
        self._done: Deferred[None] | None = None
        self._problem = ""

    async def start(self) -> None:
        """Begin to read."""
        self._done = deferToThreadPool(self._reactor, self._pool, self._consume)

    def problems(self) -> list[str]:
        """Say why nothing is consumed."""
        return [self._problem] if self._problem else []

    async def drain(self) -> None:
        """Finish the message under way."""
        self._stopping.set()
        if self._done is not None:
            await self._done

    def _consume(self) -> None:
        name = f"{socket.gethostname()}-{os.getpid()}"
        while not self._stopping.is_set():
            try:
                self._ensure_group()
                for identifier, fields in self._next(name):
                    work(json.loads(fields["data"]))
                    self._redis.xack(FLAGS.stream, FLAGS.group, identifier)
                self._problem = ""
            except redis.RedisError as error:
                self._problem = f"Redis: {error}"
                log.warning("consumer.failed", reason=str(error))
                self._stopping.wait(1)

    def _ensure_group(self) -> None:
        try:
            self._redis.xgroup_create(FLAGS.stream, FLAGS.group, id="0", mkstream=True)
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def _next(self, name: str) -> list[tuple[str, dict[str, str]]]:
        idle = int(FLAGS.claim_after * 1000)
        claimed: Any = self._redis.xautoclaim(FLAGS.stream, FLAGS.group, name, min_idle_time=idle, count=1)
        if claimed[1]:
            return list(claimed[1])
        # Half a second, so that a stop is heard of in time.
        read: Any = self._redis.xreadgroup(FLAGS.group, name, {FLAGS.stream: ">"}, count=1, block=500)
        return list(read[0][1]) if read else []


def parts(process: Process) -> None:
    """Name the parts in the order in which they start."""
    process.add(Admin.from_flags(process))
    process.add(Manhole.from_flags(process))
    process.add(Consumer(process))


if __name__ == "__main__":
    sys.exit(run(About("worker-app", version="1.0"), parts))
